//! Rotary embedding, KV write and paged causal attention of a packed batch on the CPU.
//!
//! Every row is computed by itself in a fixed order, so its result does not depend on who shares the batch.

use rayon::prelude::*;

use super::ModelError;
use super::batch::Batch;
use super::kv::{KvPages, PAGE_TOKENS};

/// Cosines and sines of a batch's positions, `[tokens, head_dim / 2]` each.
pub struct Rotary {
    cos: Vec<f32>,
    sin: Vec<f32>,
    half: usize,
}

impl Rotary {
    /// `inverse_frequencies` is `[head_dim / 2]`.
    pub fn new(inverse_frequencies: &[f32], positions: &[u32]) -> Self {
        let angles = positions
            .iter()
            .flat_map(|&p| inverse_frequencies.iter().map(move |f| p as f32 * f));
        let (sin, cos) = angles.map(f32::sin_cos).unzip();
        Self {
            cos,
            sin,
            half: inverse_frequencies.len(),
        }
    }

    /// Turns `head` (`[head_dim]`), whose first half pairs with its second.
    fn turn(&self, token: usize, head: &mut [f32]) {
        let (first, second) = head.split_at_mut(self.half);
        let cos = &self.cos[token * self.half..][..self.half];
        let sin = &self.sin[token * self.half..][..self.half];
        for i in 0..self.half {
            let (a, b) = (first[i], second[i]);
            first[i] = a * cos[i] - b * sin[i];
            second[i] = b * cos[i] + a * sin[i];
        }
    }
}

/// How heads are laid out.
#[derive(Clone, Copy, Debug)]
pub struct Heads {
    pub query: usize,
    pub kv: usize,
    pub dim: usize,
}

impl Heads {
    /// Values a token has in the fused projection: queries, keys, values.
    pub fn fused_width(self) -> usize {
        (self.query + 2 * self.kv) * self.dim
    }
}

/// Below this many multiply-adds a step is done before other threads would have woken.
const PARALLEL_FROM: usize = 1 << 18;

/// Attention of one layer.
///
/// `fused` is `[tokens, (query + 2 · kv) · dim]`, queries first; keys and values are turned, written to their
/// slots, and every token attends to its own sequence up to itself. Returns `[tokens, query · dim]`.
pub fn attend(
    mut fused: Vec<f32>,
    batch: &Batch,
    rotary: &Rotary,
    heads: Heads,
    layer: usize,
    cache: &mut KvPages,
) -> Result<Vec<f32>, ModelError> {
    let width = heads.fused_width();
    let (query_width, kv_width) = (heads.query * heads.dim, heads.kv * heads.dim);
    for (token, row) in fused.chunks_exact_mut(width).enumerate() {
        for head in row[..query_width + kv_width].chunks_exact_mut(heads.dim) {
            rotary.turn(token, head);
        }
        let (keys, values) = row[query_width..].split_at(kv_width);
        for head in 0..heads.kv {
            let part = head * heads.dim..(head + 1) * heads.dim;
            let slot = batch.slots[token] as usize;
            cache.write(layer, head, slot, &keys[part.clone()], &values[part])?;
        }
    }

    let tables = token_tables(batch);
    let cache = &*cache;
    let mut out = vec![0.0; batch.input_ids.len() * query_width];
    let one = |token: usize, out: &mut [f32], scores: &mut Vec<f32>| {
        let queries = &fused[token * width..][..query_width];
        let context = batch.positions[token] as usize + 1;
        attend_row(queries, tables[token], context, heads, layer, cache, scores, out);
    };
    let work: usize = batch
        .positions
        .iter()
        .map(|&p| 2 * (p as usize + 1) * query_width)
        .sum();
    if work < PARALLEL_FROM {
        let mut scores = Vec::new();
        for (token, out) in out.chunks_exact_mut(query_width).enumerate() {
            one(token, out, &mut scores);
        }
    } else {
        out.par_chunks_exact_mut(query_width)
            .enumerate()
            .for_each_init(Vec::new, |scores, (token, out)| one(token, out, scores));
    }
    Ok(out)
}

/// The block table of each token's sequence.
fn token_tables(batch: &Batch) -> Vec<&[u32]> {
    let mut tables = Vec::with_capacity(batch.input_ids.len());
    for (sequence, span) in batch.cu_seqlens.windows(2).enumerate() {
        let table = &batch.block_tables[sequence * batch.table_width..][..batch.table_width];
        tables.extend((span[0]..span[1]).map(|_| table));
    }
    tables
}

#[allow(clippy::too_many_arguments)]
fn attend_row(
    queries: &[f32],
    table: &[u32],
    context: usize,
    heads: Heads,
    layer: usize,
    cache: &KvPages,
    scores: &mut Vec<f32>,
    out: &mut [f32],
) {
    let scale = (heads.dim as f32).powf(-0.5);
    let group = heads.query / heads.kv;
    for kv_head in 0..heads.kv {
        let span = kv_head * group * heads.dim..(kv_head + 1) * group * heads.dim;
        let queries = &queries[span.clone()];
        let out = &mut out[span];
        scores.clear();
        scores.resize(group * context, 0.0);
        for (block, &page) in table[..context.div_ceil(PAGE_TOKENS)].iter().enumerate() {
            let (keys, _) = cache.head(layer, kv_head, page as usize);
            let first = block * PAGE_TOKENS;
            let filled = (context - first).min(PAGE_TOKENS);
            for (query, scores) in queries
                .chunks_exact(heads.dim)
                .zip(scores.chunks_exact_mut(context))
            {
                for (score, key) in scores[first..first + filled]
                    .iter_mut()
                    .zip(keys.chunks_exact(heads.dim))
                {
                    *score = dot(query, key) * scale;
                }
            }
        }
        for scores in scores.chunks_exact_mut(context) {
            softmax(scores);
        }
        for (block, &page) in table[..context.div_ceil(PAGE_TOKENS)].iter().enumerate() {
            let (_, values) = cache.head(layer, kv_head, page as usize);
            let first = block * PAGE_TOKENS;
            let filled = (context - first).min(PAGE_TOKENS);
            for (out, scores) in out.chunks_exact_mut(heads.dim).zip(scores.chunks_exact(context)) {
                for (&score, value) in scores[first..first + filled]
                    .iter()
                    .zip(values.chunks_exact(heads.dim))
                {
                    for (out, value) in out.iter_mut().zip(value) {
                        *out += score * value;
                    }
                }
            }
        }
    }
}

/// Eight sums side by side: the compiler may not reorder float additions, so the order is written to suit vectors.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; 8];
    let (a_lanes, b_lanes) = (a.chunks_exact(8), b.chunks_exact(8));
    let tail: f32 = a_lanes
        .remainder()
        .iter()
        .zip(b_lanes.remainder())
        .map(|(x, y)| x * y)
        .sum();
    for (x, y) in a_lanes.zip(b_lanes) {
        for lane in 0..8 {
            sums[lane] += x[lane] * y[lane];
        }
    }
    sums.iter().sum::<f32>() + tail
}

fn softmax(scores: &mut [f32]) {
    let highest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for score in scores.iter_mut() {
        *score = (*score - highest).exp();
        sum += *score;
    }
    let inverse = 1.0 / sum;
    for score in scores.iter_mut() {
        *score *= inverse;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::units::TokenId;

    const HEADS: Heads = Heads {
        query: 4,
        kv: 2,
        dim: 6,
    };

    /// Attention by the book, in f64, on one whole sequence.
    fn reference(fused: &[f32], positions: usize, inverse: &[f32]) -> Vec<f64> {
        let half = HEADS.dim / 2;
        let turned = |token: usize, head: usize| -> Vec<f64> {
            let at = token * HEADS.fused_width() + head * HEADS.dim;
            let x: Vec<f64> = fused[at..at + HEADS.dim].iter().map(|v| f64::from(*v)).collect();
            if head >= HEADS.query + HEADS.kv {
                return x;
            }
            let angle = |i: usize| f64::from(token as f32 * inverse[i % half]);
            (0..HEADS.dim)
                .map(|i| {
                    let rotated = if i < half { -x[i + half] } else { x[i - half] };
                    x[i] * angle(i).cos() + rotated * angle(i).sin()
                })
                .collect()
        };
        let mut out = Vec::new();
        for token in 0..positions {
            for head in 0..HEADS.query {
                let kv = head / (HEADS.query / HEADS.kv);
                let query = turned(token, head);
                let weight: Vec<f64> = (0..=token)
                    .map(|j| {
                        let key = turned(j, HEADS.query + kv);
                        let dot: f64 = query.iter().zip(&key).map(|(a, b)| a * b).sum();
                        (dot / (HEADS.dim as f64).sqrt()).exp()
                    })
                    .collect();
                let sum: f64 = weight.iter().sum();
                for i in 0..HEADS.dim {
                    let mix = (0..=token).map(|j| weight[j] * turned(j, HEADS.query + HEADS.kv + kv)[i]);
                    out.push(mix.sum::<f64>() / sum);
                }
            }
        }
        out
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// However a sequence is cut into chunks and whoever shares its batches, its rows come out the same.
        #[test]
        fn chunks_and_company_do_not_matter(
            length in 1usize..90,
            cuts in prop::collection::vec(1usize..40, 1..6),
            seed in 0u64..1000,
            neighbour in 1usize..50,
        ) {
            let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
            let mut random = || {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
            };
            let width = HEADS.fused_width();
            let fused: Vec<f32> = (0..length * width).map(|_| random()).collect();
            let other: Vec<f32> = (0..neighbour * width).map(|_| random()).collect();
            let inverse = [1.0, 0.3, 0.05];
            let pages = [5u32, 1, 7];
            let mut cache = KvPages::new(1, HEADS.kv, HEADS.dim);
            for page in 0..10 {
                cache.materialise(page);
            }
            let mut got = Vec::new();
            let mut done = 0;
            let mut cut = cuts.iter().cycle();
            while done < length {
                let take = (*cut.next().unwrap()).min(length - done);
                let mut batch = Batch::default();
                batch.push(&vec![TokenId(0); neighbour], 0, &[2, 8], false);
                batch.push(&vec![TokenId(0); take], done, &pages, true);
                let mut packed = other.clone();
                packed.extend_from_slice(&fused[done * width..(done + take) * width]);
                let rotary = Rotary::new(&inverse, &batch.positions);
                let out = attend(packed, &batch, &rotary, HEADS, 0, &mut cache).unwrap();
                got.extend_from_slice(&out[neighbour * HEADS.query * HEADS.dim..]);
                done += take;
            }
            for (got, want) in got.iter().zip(reference(&fused, length, &inverse)) {
                prop_assert!((f64::from(*got) - want).abs() < 1e-5, "{got} {want}");
            }
        }
    }
}
