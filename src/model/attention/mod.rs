//! Rotary embedding, KV write and paged causal attention of a packed batch on the CPU.
//!
//! Every row is computed by itself in a fixed order, so its result does not depend on who shares the batch, on how
//! a sequence was cut into chunks or on the number of threads, to the bit.

mod simd;
#[cfg(test)]
mod tests;
mod tile;

use std::ops::Range;

use rayon::prelude::*;

use super::ModelError;
use super::batch::Batch;
use super::kv::KvPages;
use super::rotary::Rotary;
use tile::{Partial, Tile};

/// How heads are laid out. `kv` divides `query`: query heads `h · query / kv ..` share KV head `h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    pub query: usize,
    pub kv: usize,
    /// Values of a head.
    pub dim: usize,
}

impl Heads {
    /// Values a token has in the fused projection: queries, keys, values.
    pub fn fused_width(self) -> usize {
        (self.query + 2 * self.kv) * self.dim
    }

    pub fn query_width(self) -> usize {
        self.query * self.dim
    }

    pub fn kv_width(self) -> usize {
        self.kv * self.dim
    }

    /// Query heads that share a KV head.
    fn group(self) -> usize {
        self.query / self.kv
    }
}

/// How one layer attends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionSpec {
    pub heads: Heads,
    /// Products of query and key are multiplied by this; most models take 1 / √dim.
    pub scale: f32,
    /// A token sees the last `window` tokens of its sequence, itself among them; `None` sees all.
    pub window: Option<usize>,
    /// Scaled products become cap · tanh(product / cap).
    pub softcap: Option<f32>,
}

impl AttentionSpec {
    /// The positions that the token at `position` sees.
    fn visible(&self, position: usize) -> Range<usize> {
        let end = position + 1;
        self.window.map_or(0, |window| end.saturating_sub(window))..end
    }
}

/// Below this many multiply-adds a step is done before other threads would have woken.
const PARALLEL_FROM: usize = 1 << 19;

/// Rows of a tile: enough to use a page well while it is in the cache, few enough that short prompts make many.
const TILE_ROWS: usize = 48;

/// Turns queries and keys in place and writes keys and values to the tokens' slots.
///
/// `fused` is `[tokens, (query + 2 · kv) · dim]`, queries first, then keys, then values. Without `rotary` nothing
/// turns. Norms of queries and keys come before this. Fails if a slot's page has no memory.
pub fn turn_and_store(
    fused: &mut [f32],
    batch: &Batch,
    rotary: Option<&Rotary>,
    heads: Heads,
    layer: usize,
    cache: &mut KvPages,
) -> Result<(), ModelError> {
    let width = heads.fused_width();
    let turning = heads.query_width() + heads.kv_width();
    if let Some(rotary) = rotary {
        let turn = |(token, row): (usize, &mut [f32])| {
            for head in row[..turning].chunks_exact_mut(heads.dim) {
                rotary.turn(token, head);
            }
        };
        if fused.len() < PARALLEL_FROM {
            fused.chunks_exact_mut(width).enumerate().for_each(turn);
        } else {
            fused.par_chunks_exact_mut(width).enumerate().for_each(turn);
        }
    }
    for (row, &slot) in fused.chunks_exact(width).zip(&batch.slots) {
        let (keys, values) = row[heads.query_width()..].split_at(heads.kv_width());
        let (keys, values) = (keys.chunks_exact(heads.dim), values.chunks_exact(heads.dim));
        for (head, (key, value)) in keys.zip(values).enumerate() {
            cache.write(layer, head, slot as usize, key, value)?;
        }
    }
    Ok(())
}

/// Every token's attention over its own sequence up to itself, `[tokens, query · dim]`.
///
/// `fused` is what [`turn_and_store`] left; earlier tokens' keys and values come from `cache`.
pub fn attend(fused: &[f32], batch: &Batch, spec: &AttentionSpec, layer: usize, cache: &KvPages) -> Vec<f32> {
    let heads = spec.heads;
    let (tiles, work) = tiles(fused, batch, spec, layer, cache);
    let mut out = vec![0.0; batch.input_ids.len() * heads.query_width()];
    let mut place = |first_token: usize, tile: &Tile, rows: &Partial| {
        let out = &mut out[first_token * heads.query_width()..][..tile.tokens() * heads.query_width()];
        let span = heads.group() * heads.dim;
        rows.finish(
            out.chunks_exact_mut(heads.query_width())
                .flat_map(|token| token[tile.kv_head * span..][..span].chunks_exact_mut(heads.dim)),
        );
    };
    let threads = rayon::current_num_threads();
    if work < PARALLEL_FROM || threads == 1 {
        for (first, tile) in &tiles {
            place(*first, tile, &tile.attend(tile.segments()));
        }
        return out;
    }
    // Few tiles mean few long rows: then threads share a row's context too.
    let split = tiles.len() < 2 * threads;
    let tasks: Vec<(usize, Range<usize>)> = tiles
        .iter()
        .enumerate()
        .flat_map(|(tile, (_, t))| {
            let segments = t.segments();
            let step = if split { 1 } else { segments.len() };
            let end = segments.end;
            segments
                .step_by(step)
                .map(move |s| (tile, s..(s + step).min(end)))
        })
        .collect();
    let partials: Vec<Partial> = tasks
        .par_iter()
        .with_max_len(1)
        .map(|(tile, segments)| tiles[*tile].1.attend(segments.clone()))
        .collect();
    let mut done = tasks.iter().map(|(tile, _)| *tile).zip(partials).peekable();
    while let Some((tile, mut rows)) = done.next() {
        while let Some((_, next)) = done.next_if(|(other, _)| *other == tile) {
            rows.merge(&next);
        }
        let (first, tile) = &tiles[tile];
        place(*first, tile, &rows);
    }
    out
}

/// The batch cut into tiles, each with the index of its first token, and the multiply-adds of all.
fn tiles<'a>(
    fused: &'a [f32],
    batch: &'a Batch,
    spec: &'a AttentionSpec,
    layer: usize,
    cache: &'a KvPages,
) -> (Vec<(usize, Tile<'a>)>, usize) {
    let heads = spec.heads;
    let width = heads.fused_width();
    let tokens_per_tile = (TILE_ROWS / heads.group()).max(1);
    let mut tiles = Vec::new();
    let mut seen = 0;
    for (sequence, span) in batch.cu_seqlens.windows(2).enumerate() {
        let table = &batch.block_tables[sequence * batch.table_width..][..batch.table_width];
        let (begin, end) = (span[0] as usize, span[1] as usize);
        for from in (begin..end).step_by(tokens_per_tile) {
            let to = (from + tokens_per_tile).min(end);
            let first = batch.positions[from] as usize;
            seen += (first..first + to - from)
                .map(|p| spec.visible(p).len())
                .sum::<usize>();
            tiles.extend((0..heads.kv).map(|kv_head| {
                let tile = Tile {
                    spec,
                    cache,
                    layer,
                    kv_head,
                    table,
                    first,
                    fused: &fused[from * width..to * width],
                };
                (from, tile)
            }));
        }
    }
    (tiles, 2 * seen * heads.query_width())
}
