//! Activations as `i8`, quantised as llama.cpp does before a product with quantised weights.

use half::f16;
use rayon::prelude::*;

/// Tokens that a kernel carries through one pass over the weights. Their activations stay in the second-level cache.
pub(super) const CHUNK: usize = 32;

/// From how many values on quantising is worth several threads.
const PARALLEL_VALUES: usize = 64 * 1024;

/// Sums that a [`ActivationKind::Q8_K`] block carries: 16 over 16 values each, then 8 over 32.
pub(super) const K_SUMS: usize = 24;

/// How activations are quantised for a product; a weight format fixes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(non_camel_case_types)]
pub enum ActivationKind {
    /// Blocks of 32 with a scale rounded to `f16`.
    Q8_0,
    /// [`Self::Q8_0`] and the block's scaled sum, rounded to `f16`, for weights with a minimum.
    Q8_1,
    /// Blocks of 256 with an `f32` scale and the values' sums by 16 and 32.
    Q8_K,
}

impl ActivationKind {
    pub(super) const fn block(self) -> usize {
        match self {
            Self::Q8_0 | Self::Q8_1 => 32,
            Self::Q8_K => 256,
        }
    }

    const fn sums(self) -> usize {
        match self {
            Self::Q8_0 | Self::Q8_1 => 0,
            Self::Q8_K => K_SUMS,
        }
    }

    const fn offsets(self) -> usize {
        match self {
            Self::Q8_0 | Self::Q8_1 => 1,
            Self::Q8_K => 0,
        }
    }
}

/// Quantised activations `[tokens, columns]`, stored chunk of tokens by chunk, in it block by block, in it token by
/// token: what a kernel reads for one block of weights lies together.
#[derive(Clone, Debug, PartialEq)]
pub struct Activations {
    kind: ActivationKind,
    tokens: usize,
    columns: usize,
    quants: Vec<i8>,
    scales: Vec<f32>,
    /// One a block of 32: Q8_0 the sum of its quants, Q8_1 that sum times the scale.
    offsets: Vec<f32>,
    /// [`K_SUMS`] a block of Q8_K.
    sums: Vec<i16>,
}

/// The activations of up to [`CHUNK`] tokens. Block `b` of token `t` is entry `b * tokens + t` of every slice.
#[derive(Clone, Copy)]
#[cfg_attr(
    not(target_arch = "x86_64"),
    expect(dead_code, reason = "only the kernels read them")
)]
pub(super) struct Chunk<'a> {
    pub(super) tokens: usize,
    pub(super) quants: &'a [i8],
    pub(super) scales: &'a [f32],
    pub(super) offsets: &'a [f32],
    pub(super) sums: &'a [i16],
}

/// Where one block of one token goes.
pub(super) struct BlockMut<'a> {
    pub(super) quants: &'a mut [i8],
    pub(super) scale: &'a mut f32,
    pub(super) offset: Option<&'a mut f32>,
    pub(super) sums: &'a mut [i16],
}

impl Activations {
    /// Quantises `x`, which is `[tokens, columns]`.
    ///
    /// # Panics
    ///
    /// When `columns` is no multiple of the kind's block (32 or 256) or `x` is not whole rows.
    pub fn quantise(kind: ActivationKind, x: &[f32], columns: usize) -> Self {
        let block = kind.block();
        assert!(
            columns > 0 && columns.is_multiple_of(block),
            "{columns} columns are no whole blocks of {block}"
        );
        assert!(
            x.len().is_multiple_of(columns),
            "{} activations are no whole rows of {columns}",
            x.len()
        );
        let blocks = x.len() / block;
        let mut this = Self {
            kind,
            tokens: x.len() / columns,
            columns,
            quants: vec![0; x.len()],
            scales: vec![0.0; blocks],
            offsets: vec![0.0; blocks * kind.offsets()],
            sums: vec![0; blocks * kind.sums()],
        };
        let width = columns / block * CHUNK;
        // A kind that has no offsets or no sums gives every chunk an empty slice of them.
        let mut offsets = this.offsets.chunks_mut(width);
        let mut sums = this.sums.chunks_mut(width * K_SUMS);
        let jobs: Vec<ChunkMut<'_>> = x
            .chunks(CHUNK * columns)
            .zip(this.quants.chunks_mut(CHUNK * columns))
            .zip(this.scales.chunks_mut(width))
            .map(|((rows, quants), scales)| ChunkMut {
                rows,
                quants,
                scales,
                offsets: offsets.next().unwrap_or_default(),
                sums: sums.next().unwrap_or_default(),
            })
            .collect();
        if x.len() < PARALLEL_VALUES {
            jobs.into_iter().for_each(|job| job.quantise(kind, columns));
        } else {
            jobs.into_par_iter().for_each(|job| job.quantise(kind, columns));
        }
        this
    }

    pub fn kind(&self) -> ActivationKind {
        self.kind
    }

    pub fn tokens(&self) -> usize {
        self.tokens
    }

    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The chunk that begins with token `first`, a multiple of [`CHUNK`].
    pub(super) fn chunk(&self, first: usize) -> Chunk<'_> {
        let tokens = CHUNK.min(self.tokens - first);
        let per_token = self.columns / self.kind.block();
        let (start, end) = (first * per_token, (first + tokens) * per_token);
        Chunk {
            tokens,
            quants: &self.quants[start * self.kind.block()..end * self.kind.block()],
            scales: &self.scales[start..end],
            offsets: &self.offsets[start * self.kind.offsets()..end * self.kind.offsets()],
            sums: &self.sums[start * self.kind.sums()..end * self.kind.sums()],
        }
    }
}

/// Rows of a chunk and where they go.
struct ChunkMut<'a> {
    rows: &'a [f32],
    quants: &'a mut [i8],
    scales: &'a mut [f32],
    offsets: &'a mut [f32],
    sums: &'a mut [i16],
}

impl ChunkMut<'_> {
    fn quantise(self, kind: ActivationKind, columns: usize) {
        let block = kind.block();
        let tokens = self.rows.len() / columns;
        for (t, row) in self.rows.chunks_exact(columns).enumerate() {
            for (b, values) in row.chunks_exact(block).enumerate() {
                let entry = b * tokens + t;
                let target = BlockMut {
                    quants: &mut self.quants[entry * block..(entry + 1) * block],
                    scale: &mut self.scales[entry],
                    offset: self.offsets.get_mut(entry),
                    sums: &mut self.sums[entry * kind.sums()..(entry + 1) * kind.sums()],
                };
                #[cfg(target_arch = "x86_64")]
                if super::supported() {
                    // SAFETY: the processor has the features, and both slices are one block long.
                    unsafe { super::x86::quantise_block(kind, values, target) };
                    continue;
                }
                quantise_block(kind, values, target);
            }
        }
    }
}

/// One block in plain arithmetic: what processors without the kernels run, and what the kernels are tested against.
pub(super) fn quantise_block(kind: ActivationKind, values: &[f32], target: BlockMut<'_>) {
    // The bit patterns of absolute values order as the values do, and a NaN is the greatest: it makes the scale NaN
    // and with it every product, so that a broken activation is not hidden.
    let bits = values
        .iter()
        .map(|v| v.to_bits() & 0x7fff_ffff)
        .max()
        .unwrap_or(0);
    let greatest = f32::from_bits(bits);
    let (factor, scale) = match kind {
        ActivationKind::Q8_0 | ActivationKind::Q8_1 => legacy_scales(greatest),
        ActivationKind::Q8_K => {
            let first = values.iter().find(|v| v.to_bits() & 0x7fff_ffff == bits);
            k_scales(first.copied().unwrap_or(0.0))
        }
    };
    for (quant, value) in target.quants.iter_mut().zip(values) {
        *quant = (value * factor).round_ties_even().min(127.0) as i8;
    }
    finish_block(kind, scale, target, |value| f16::from_f32(value).to_f32());
}

/// The factor that makes a value a quant and the scale back, of a block of 32 with this greatest absolute value.
pub(super) fn legacy_scales(greatest: f32) -> (f32, f32) {
    let factor = if greatest == 0.0 { 0.0 } else { 127.0 / greatest };
    (factor, greatest / 127.0)
}

/// The same of a block of 256 whose value of greatest magnitude is this one.
pub(super) fn k_scales(extreme: f32) -> (f32, f32) {
    if extreme == 0.0 {
        return (0.0, 0.0);
    }
    let factor = -127.0 / extreme;
    (factor, 1.0 / factor)
}

/// Writes scale and sums of a block whose quants are in place; `rounded` is a number's nearest `f16`.
#[inline]
pub(super) fn finish_block(
    kind: ActivationKind,
    scale: f32,
    target: BlockMut<'_>,
    rounded: impl Fn(f32) -> f32,
) {
    match kind {
        ActivationKind::Q8_0 | ActivationKind::Q8_1 => {
            let sum = target.quants.iter().map(|&q| i32::from(q)).sum::<i32>() as f32;
            *target.scale = rounded(scale);
            if let Some(offset) = target.offset {
                // The unrounded scale: llama.cpp rounds their product only.
                *offset = if kind == ActivationKind::Q8_0 {
                    sum
                } else {
                    rounded(scale * sum)
                };
            }
        }
        ActivationKind::Q8_K => {
            *target.scale = scale;
            let (by_16, by_32) = target.sums.split_at_mut(16);
            for (sum, quants) in by_16.iter_mut().zip(target.quants.chunks_exact(16)) {
                *sum = quants.iter().map(|&q| i16::from(q)).sum();
            }
            for (sum, pair) in by_32.iter_mut().zip(by_16.chunks_exact(2)) {
                *sum = pair[0] + pair[1];
            }
        }
    }
}

/// [`Activations::quantise`] in plain arithmetic throughout, for up to [`CHUNK`] tokens.
#[cfg(test)]
pub(super) fn quantise_plainly(kind: ActivationKind, x: &[f32], columns: usize) -> Activations {
    let block = kind.block();
    let mut this = Activations::quantise(kind, &vec![0.0; x.len()], columns);
    for (t, row) in x.chunks_exact(columns).enumerate() {
        for (b, values) in row.chunks_exact(block).enumerate() {
            let entry = b * this.tokens + t;
            let target = BlockMut {
                quants: &mut this.quants[entry * block..(entry + 1) * block],
                scale: &mut this.scales[entry],
                offset: this.offsets.get_mut(entry),
                sums: &mut this.sums[entry * kind.sums()..(entry + 1) * kind.sums()],
            };
            quantise_block(kind, values, target);
        }
    }
    this
}
