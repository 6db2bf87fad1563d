use std::fmt;

use super::{ActivationKind, GROUP, Kind, aligned::AlignedBytes, dequantise, layout, supported};

/// A quantised matrix `[rows, columns]` packed for products, as large as its GGML blocks (rows rounded up to eight).
pub struct PackedMatrix {
    kind: Kind,
    rows: usize,
    columns: usize,
    /// Group by group: the side plane of its blocks, then their main plane, each padded to cache lines.
    bytes: AlignedBytes,
}

impl PackedMatrix {
    /// Packs GGML blocks: `rows` rows (outputs) of `columns` (inputs) each. `None` where this room has no kernel: the
    /// processor lacks AVX2, FMA or F16C, or the columns are no whole blocks, or the bytes are not of this shape; and
    /// where there is no memory.
    pub fn pack(kind: Kind, blocks: &[u8], rows: usize, columns: usize) -> Option<Self> {
        let per_row = columns / kind.block_columns();
        let expected = rows.checked_mul(per_row)?.checked_mul(kind.block_bytes())?;
        let whole = rows > 0 && per_row > 0 && columns.is_multiple_of(kind.block_columns());
        if !supported() || !whole || blocks.len() != expected {
            return None;
        }
        let mut this = Self {
            kind,
            rows,
            columns,
            bytes: AlignedBytes::zeroed(rows.div_ceil(GROUP) * group_bytes(kind, per_row)).ok()?,
        };
        let row_bytes = per_row * kind.block_bytes();
        for (row, source) in blocks.chunks_exact(row_bytes).enumerate() {
            let start = row / GROUP * group_bytes(kind, per_row);
            let group = &mut this.bytes[start..start + group_bytes(kind, per_row)];
            let (side, main) = group.split_at_mut(layout::side_plane(kind, per_row));
            for (b, block) in source.chunks_exact(kind.block_bytes()).enumerate() {
                let main = &mut main[b * kind.main_bytes()..][..kind.main_bytes()];
                let side = &mut side[b * kind.side_bytes()..][..kind.side_bytes()];
                layout::put(kind, row % GROUP, block, main, side);
            }
        }
        Some(this)
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Outputs of a product.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Inputs of a product.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Bytes of memory that the weights take.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Writes row `row` dequantised as GGML does.
    ///
    /// # Panics
    ///
    /// When there is no such row or `out` is not [`Self::columns`] long.
    pub fn row(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.rows, "row {row} of a matrix of {}", self.rows);
        assert_eq!(out.len(), self.columns, "a row's values go where they fit");
        let kind = self.kind;
        let (side, main) = self
            .group(row / GROUP)
            .split_at(layout::side_plane(kind, self.blocks()));
        let mut block = [0; 256];
        let block = &mut block[..kind.block_bytes()];
        for (b, values) in out.chunks_exact_mut(kind.block_columns()).enumerate() {
            let main = &main[b * kind.main_bytes()..][..kind.main_bytes()];
            let side = &side[b * kind.side_bytes()..][..kind.side_bytes()];
            layout::take(kind, row % GROUP, main, side, block);
            dequantise::dequantise_block(kind, block, values);
        }
    }

    /// The quantisation of activations that this matrix multiplies with.
    pub fn activations(&self) -> ActivationKind {
        match self.kind {
            Kind::Q8_0 | Kind::Q4_0 | Kind::Q5_0 => ActivationKind::Q8_0,
            Kind::Q4_1 | Kind::Q5_1 => ActivationKind::Q8_1,
            Kind::Q4_K | Kind::Q5_K | Kind::Q6_K => ActivationKind::Q8_K,
        }
    }

    /// `out[t * stride + n] = Σ_k x[t, k] · w[n, k]` for every token `t` and row `n`, on rayon's current pool.
    ///
    /// # Panics
    ///
    /// When `x` has another number of columns or another kind than [`Self::activations`], or `out` is too short.
    #[cfg(test)]
    pub fn multiply(&self, x: &super::Activations, out: &mut [f32], stride: usize) {
        super::multiply::run(&[(self, x, 0)], out, stride);
    }

    /// Blocks of a row.
    pub(super) fn blocks(&self) -> usize {
        self.columns / self.kind.block_columns()
    }

    /// Groups of eight rows, the last one filled up with zeros.
    pub(super) fn groups(&self) -> usize {
        self.rows.div_ceil(GROUP)
    }

    /// The packed bytes of a group.
    pub(super) fn group(&self, index: usize) -> &[u8] {
        let size = group_bytes(self.kind, self.blocks());
        &self.bytes[index * size..(index + 1) * size]
    }
}

/// Bytes of eight packed rows of this many blocks.
fn group_bytes(kind: Kind, blocks: usize) -> usize {
    layout::side_plane(kind, blocks) + (blocks * kind.main_bytes()).next_multiple_of(64)
}

impl fmt::Debug for PackedMatrix {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{:?} matrix of {} rows and {} columns",
            self.kind, self.rows, self.columns
        )
    }
}
