//! The kernels of attention: the turn with the write into pages, one token a sequence, several tokens a sequence.

use super::device::{DeviceError, Region};
use super::kernels::{Kernels, f, maybe, p, u};
use crate::model::attention::Heads;

/// Tokens of a split of decode attention.
pub const SPLIT_TOKENS: usize = 128;

/// Rows of a tile of prefill attention and its bytes of shared memory, by head width: 64, 96, 128, 256.
const PREFILL: [(usize, usize); 4] = [(128, 49152), (128, 73728), (128, 98304), (64, 163_840)];

pub struct Turn {
    pub qkv: Region,
    pub keys: Region,
    pub values: Region,
    pub cos: Region,
    pub sin: Region,
    pub table_rows: Region,
    pub slots: Region,
    pub query_norm: Option<Region>,
    pub key_norm: Option<Region>,
    pub rotary_dim: usize,
    pub eps: f32,
}

/// Heads of a layer, and how it attends.
#[derive(Clone, Copy, Debug)]
pub struct Attention {
    pub query_heads: usize,
    pub kv_heads: usize,
    pub dim: usize,
    pub window: usize,
    pub softcap: f32,
    pub scale: f32,
}

impl Attention {
    /// A layer that sees all.
    pub fn plain(heads: Heads) -> Self {
        Self {
            query_heads: heads.query,
            kv_heads: heads.kv,
            dim: heads.dim,
            window: 0,
            softcap: 0.0,
            scale: 1.0,
        }
    }

    fn fused(&self) -> usize {
        (self.query_heads + 2 * self.kv_heads) * self.dim
    }

    fn suffix(&self) -> usize {
        match self.dim {
            0..=64 => 0,
            65..=96 => 1,
            97..=128 => 2,
            _ => 3,
        }
    }

    /// Bytes of shared memory that its widest kernel takes.
    pub fn shared(&self) -> usize {
        PREFILL[self.suffix()].1
    }

    /// Splits that a context of `tokens` has at most.
    pub fn splits(&self, tokens: usize) -> usize {
        let all = tokens.div_ceil(SPLIT_TOKENS).max(1);
        match self.window {
            0 => all,
            window => all.min(window.div_ceil(SPLIT_TOKENS) + 1),
        }
    }
}

/// The keys and values of a layer, and which of them each row sees.
#[derive(Clone, Copy, Debug)]
pub struct Pages {
    pub keys: Region,
    pub values: Region,
    pub tables: Region,
    pub table_width: usize,
    pub positions: Region,
}

impl Kernels {
    /// Norms and turns queries and keys, and writes keys and values into their pages.
    pub fn rope_kv(&self, turn: &Turn, heads: Attention, rows: usize) -> Result<(), DeviceError> {
        let args = [
            p(turn.qkv),
            p(turn.keys),
            p(turn.values),
            p(turn.cos),
            p(turn.sin),
            p(turn.table_rows),
            p(turn.slots),
            maybe(turn.query_norm),
            maybe(turn.key_norm),
            u(heads.query_heads),
            u(heads.kv_heads),
            u(heads.dim),
            u(turn.rotary_dim),
            u(0),
            f(turn.eps),
        ];
        let all = heads.query_heads + 2 * heads.kv_heads;
        self.launch(self.names.rope_kv, [rows, all.div_ceil(4), 1], 128, 0, &args)
    }

    /// One token a row. `partial` and `stats` are room for `rows · query_heads · splits` partial results.
    #[expect(clippy::too_many_arguments)]
    pub fn decode_attention(
        &self,
        out: Region,
        queries: Region,
        pages: Pages,
        heads: Attention,
        partial: Region,
        stats: Region,
        rows: usize,
        splits: usize,
    ) -> Result<(), DeviceError> {
        let args = [
            p(partial),
            p(stats),
            p(queries),
            p(pages.keys),
            p(pages.values),
            p(pages.tables),
            p(pages.positions),
            u(pages.table_width),
            u(heads.fused()),
            u(heads.query_heads),
            u(heads.kv_heads),
            u(heads.dim),
            u(splits),
            u(heads.window),
            f(heads.softcap),
            f(heads.scale),
        ];
        let groups = (heads.query_heads / heads.kv_heads).div_ceil(16);
        let grid = [splits, heads.kv_heads * groups, rows];
        self.launch(self.names.decode_attention[heads.suffix()], grid, 128, 0, &args)?;
        let args = [
            p(out),
            p(partial),
            p(stats),
            p(pages.positions),
            u(heads.query_heads),
            u(heads.dim),
            u(splits),
            u(heads.window),
        ];
        let grid = [rows, heads.query_heads, 1];
        self.launch(self.names.decode_attention_reduce, grid, 256, 0, &args)
    }

    /// Several tokens a sequence; `out`, `queries` and the positions are those of the whole batch, tables and
    /// `cu_seqlens` begin at the first of `sequences`.
    #[expect(clippy::too_many_arguments)]
    pub fn prefill_attention(
        &self,
        out: Region,
        queries: Region,
        pages: Pages,
        heads: Attention,
        cu_seqlens: Region,
        sequences: usize,
        longest: usize,
    ) -> Result<(), DeviceError> {
        let args = [
            p(out),
            p(queries),
            p(pages.keys),
            p(pages.values),
            p(pages.tables),
            p(pages.positions),
            p(cu_seqlens),
            u(pages.table_width),
            u(heads.fused()),
            u(heads.query_heads),
            u(heads.kv_heads),
            u(heads.dim),
            u(heads.window),
            f(heads.softcap),
            f(heads.scale),
        ];
        let (tile, shared) = PREFILL[heads.suffix()];
        let group = heads.query_heads / heads.kv_heads;
        let grid = [(longest * group).div_ceil(tile), heads.kv_heads, sequences];
        self.launch(
            self.names.prefill_attention[heads.suffix()],
            grid,
            128,
            shared,
            &args,
        )
    }
}
