//! The kernel: a tile of query rows against the pages of one KV head.
//!
//! A row meets its keys page by page in order, by the same operations in the same order whichever rows share its
//! tile: scores add up along the head's dimension, each page updates the row's running maximum and sum, and values
//! are added key after key. Hence a row's result depends on nothing but its own sequence, to the bit.

use std::ops::Range;

use super::super::kv::{KvPages, LANES, PAGE_TOKENS, PageHead};
use super::AttentionSpec;
use super::simd::{self, Portable, Simd};

/// Keys after which a row's running softmax starts anew, to be merged later: so that several threads may share a
/// long context. Always cut here, whether threads share or not, for the sake of equal bits.
pub const SEGMENT: usize = 512;

/// Rows that go through the keys together: twelve sums of them fill the vector registers.
const BLOCK: usize = 6;

const VECTORS: usize = PAGE_TOKENS / LANES;

/// Consecutive tokens of one sequence, seen by one KV head. A row is a token and one of the head's query heads;
/// rows go token by token.
pub struct Tile<'a> {
    pub spec: &'a AttentionSpec,
    pub cache: &'a KvPages,
    pub layer: usize,
    pub kv_head: usize,
    /// The sequence's pages in order.
    pub table: &'a [u32],
    /// Position of the first token.
    pub first: usize,
    /// The tokens' rows of the fused projection.
    pub fused: &'a [f32],
}

/// Rows' softmax over some of their keys.
pub struct Partial {
    /// The highest score of each row; −∞ where a row saw no key.
    highest: Vec<f32>,
    /// Each row's sum of e^(score − highest); 0 where it saw no key.
    sum: Vec<f32>,
    /// `[rows, padded_dim]`: values weighted by e^(score − highest).
    mixed: Vec<f32>,
}

impl Partial {
    fn new(rows: usize, padded: usize) -> Self {
        Self {
            highest: vec![f32::NEG_INFINITY; rows],
            sum: vec![0.0; rows],
            mixed: vec![0.0; rows * padded],
        }
    }

    fn clear(&mut self) {
        self.highest.fill(f32::NEG_INFINITY);
        self.sum.fill(0.0);
        self.mixed.fill(0.0);
    }

    /// Adds the same rows' softmax over the keys that follow.
    pub fn merge(&mut self, next: &Partial) {
        let padded = self.mixed.len() / self.sum.len();
        for row in 0..self.sum.len() {
            let span = row * padded..(row + 1) * padded;
            let (mixed, more) = (&mut self.mixed[span.clone()], &next.mixed[span]);
            if next.sum[row] == 0.0 {
                continue;
            }
            if self.sum[row] == 0.0 {
                (self.highest[row], self.sum[row]) = (next.highest[row], next.sum[row]);
                mixed.copy_from_slice(more);
                continue;
            }
            let highest = self.highest[row].max(next.highest[row]);
            let (a, b) = (
                (self.highest[row] - highest).exp(),
                (next.highest[row] - highest).exp(),
            );
            self.highest[row] = highest;
            self.sum[row] = self.sum[row] * a + next.sum[row] * b;
            for (mixed, more) in mixed.iter_mut().zip(more) {
                *mixed = *mixed * a + more * b;
            }
        }
    }

    /// Writes the rows' results, `[dim]` each, into `out`.
    pub fn finish<'o>(&self, out: impl Iterator<Item = &'o mut [f32]>) {
        let padded = self.mixed.len() / self.sum.len();
        for ((out, mixed), sum) in out.zip(self.mixed.chunks_exact(padded)).zip(&self.sum) {
            let inverse = 1.0 / sum;
            for (out, mixed) in out.iter_mut().zip(mixed) {
                *out = mixed * inverse;
            }
        }
    }
}

impl Tile<'_> {
    pub fn tokens(&self) -> usize {
        self.fused.len() / self.spec.heads.fused_width()
    }

    fn rows(&self) -> usize {
        self.tokens() * self.spec.heads.group()
    }

    /// The segments in which some row sees a key.
    pub fn segments(&self) -> Range<usize> {
        let last = self.first + self.tokens() - 1;
        let from = self.spec.visible(self.first).start;
        from / SEGMENT..(last + 1).div_ceil(SEGMENT)
    }

    /// Attends over the keys of `segments`.
    pub fn attend(&self, segments: Range<usize>) -> Partial {
        #[cfg(target_arch = "x86_64")]
        if let Some(s) = simd::Avx2::detect() {
            // SAFETY: `s` is made only where the CPU was found to have both features.
            return unsafe { attend_avx2(s, self, segments) };
        }
        self.attend_by(Portable, segments)
    }

    #[inline(always)]
    pub fn attend_by<S: Simd>(&self, s: S, segments: Range<usize>) -> Partial {
        let queries = self.packed_queries();
        let mut total = Partial::new(self.rows(), self.cache.padded_dim());
        self.segment(s, &queries, segments.start, &mut total);
        if segments.len() > 1 {
            let mut part = Partial::new(self.rows(), self.cache.padded_dim());
            for segment in segments.skip(1) {
                part.clear();
                self.segment(s, &queries, segment, &mut part);
                total.merge(&part);
            }
        }
        total
    }

    /// `[dim][rows of the block]` for block after block, so that a block's queries are read in one go.
    fn packed_queries(&self) -> Vec<f32> {
        let heads = self.spec.heads;
        let (group, dim) = (heads.group(), heads.dim);
        let mut packed = vec![0.0; self.rows() * dim];
        let rows = self
            .fused
            .chunks_exact(heads.fused_width())
            .flat_map(|token| token[self.kv_head * group * dim..][..group * dim].chunks_exact(dim));
        for (row, query) in rows.enumerate() {
            let (block, within) = (row / BLOCK * BLOCK, row % BLOCK);
            let width = BLOCK.min(self.rows() - block);
            let block = &mut packed[block * dim..][..width * dim];
            for (to, &from) in block.chunks_exact_mut(width).zip(query) {
                to[within] = from;
            }
        }
        packed
    }

    #[inline(always)]
    fn segment<S: Simd>(&self, s: S, queries: &[f32], segment: usize, part: &mut Partial) {
        let last = self.first + self.tokens() - 1;
        let from = self.spec.visible(self.first).start.max(segment * SEGMENT);
        let to = (last + 1).min((segment + 1) * SEGMENT);
        let dim = self.spec.heads.dim;
        for page in from / PAGE_TOKENS..to.div_ceil(PAGE_TOKENS) {
            let head = self
                .cache
                .head(self.layer, self.kv_head, self.table[page] as usize);
            for (block, queries) in queries.chunks(BLOCK * dim).enumerate() {
                self.block(s, queries, block * BLOCK, page, &head, part);
            }
        }
    }

    /// Up to [`BLOCK`] rows from `row` on against one page.
    #[inline(always)]
    fn block<S: Simd>(
        &self,
        s: S,
        queries: &[f32],
        row: usize,
        page: usize,
        head: &PageHead,
        part: &mut Partial,
    ) {
        let rows = queries.len() / self.spec.heads.dim;
        let group = self.spec.heads.group();
        let first = page * PAGE_TOKENS;
        let mut seen = [const { 0..0 }; BLOCK];
        for (r, seen) in seen[..rows].iter_mut().enumerate() {
            let visible = self.spec.visible(self.first + (row + r) / group);
            *seen = visible.start.saturating_sub(first)..visible.end.saturating_sub(first).min(PAGE_TOKENS);
        }
        let seen = &seen[..rows];
        // Rows go by token, so the first sees the earliest keys and the last the latest.
        let union = seen[0].start..seen[rows - 1].end;
        if union.is_empty() {
            return;
        }
        let mut weights = [[0.0; PAGE_TOKENS]; BLOCK];
        match rows {
            1 => scores::<S, 1, 4>(s, queries, head.keys, &union, &mut weights),
            2 => scores::<S, 2, 4>(s, queries, head.keys, &union, &mut weights),
            3 => scores::<S, 3, 4>(s, queries, head.keys, &union, &mut weights),
            4 => scores::<S, 4, 2>(s, queries, head.keys, &union, &mut weights),
            5 => scores::<S, 5, 2>(s, queries, head.keys, &union, &mut weights),
            _ => scores::<S, BLOCK, 2>(s, queries, head.keys, &union, &mut weights),
        }
        let padded = self.cache.padded_dim();
        let mixed = &mut part.mixed[row * padded..][..rows * padded];
        for (r, seen) in seen.iter().enumerate() {
            if !seen.is_empty() {
                let mixed = &mut mixed[r * padded..][..padded];
                let (highest, sum) = (&mut part.highest[row + r], &mut part.sum[row + r]);
                self.softmax(s, &mut weights[r], seen, highest, sum, mixed);
            }
        }
        // Keys that all rows see are mixed for all at once; before and after them each row has its own.
        let mut common = seen[rows - 1].start..seen[0].end;
        if common.is_empty() {
            common = PAGE_TOKENS..PAGE_TOKENS;
        }
        for (r, seen) in seen.iter().enumerate() {
            let own = seen.start..seen.end.min(common.start);
            let mixed = &mut mixed[r * padded..][..padded];
            mix::<S, 1, 4>(s, &weights[r..], head.values, own, mixed);
        }
        let keys = common.clone();
        match rows {
            1 => mix::<S, 1, 4>(s, &weights, head.values, keys, mixed),
            2 => mix::<S, 2, 4>(s, &weights, head.values, keys, mixed),
            3 => mix::<S, 3, 4>(s, &weights, head.values, keys, mixed),
            4 => mix::<S, 4, 2>(s, &weights, head.values, keys, mixed),
            5 => mix::<S, 5, 2>(s, &weights, head.values, keys, mixed),
            _ => mix::<S, BLOCK, 2>(s, &weights, head.values, keys, mixed),
        }
        for (r, seen) in seen.iter().enumerate() {
            let own = seen.start.max(common.end)..seen.end;
            let mixed = &mut mixed[r * padded..][..padded];
            mix::<S, 1, 4>(s, &weights[r..], head.values, own, mixed);
        }
    }

    /// Turns a row's products of query and key into weights and carries its running maximum, sum and mix along.
    #[inline(always)]
    fn softmax<S: Simd>(
        &self,
        s: S,
        weights: &mut [f32; PAGE_TOKENS],
        seen: &Range<usize>,
        highest: &mut f32,
        sum: &mut f32,
        mixed: &mut [f32],
    ) {
        let weights = weights.as_chunks_mut::<LANES>().0;
        let scale = s.splat(self.spec.scale);
        let mut scores = [scale; VECTORS];
        for (score, product) in scores.iter_mut().zip(&*weights) {
            *score = s.mul(s.load(product), scale);
        }
        if let Some(cap) = self.spec.softcap {
            let cap = s.splat(cap);
            for score in &mut scores {
                *score = s.mul(cap, simd::tanh(s, s.div(*score, cap)));
            }
        }
        if *seen != (0..PAGE_TOKENS) {
            let (from, to) = (s.splat(seen.start as f32), s.splat(seen.end as f32));
            let hidden = s.splat(f32::NEG_INFINITY);
            for (score, places) in scores.iter_mut().zip(PLACES.as_chunks().0) {
                let place = s.load(places);
                *score = s.where_less(place, from, hidden, *score);
                *score = s.where_less(place, to, *score, hidden);
            }
        }
        let top = s.max(s.max(scores[0], scores[1]), s.max(scores[2], scores[3]));
        let top = simd::highest(s, top);
        if top > *highest {
            let mut faded = [0.0; LANES];
            s.store(simd::exp(s, s.splat(*highest - top)), &mut faded);
            *sum *= faded[0];
            for mixed in mixed.as_chunks_mut::<LANES>().0 {
                s.store(s.mul(s.load(mixed), s.splat(faded[0])), mixed);
            }
            *highest = top;
        }
        let top = s.splat(*highest);
        for (weights, score) in weights.iter_mut().zip(&mut scores) {
            *score = simd::exp(s, s.sub(*score, top));
            s.store(*score, weights);
        }
        let halves = (s.add(scores[0], scores[1]), s.add(scores[2], scores[3]));
        *sum += simd::sum(s, s.add(halves.0, halves.1));
    }
}

/// The places of a page.
const PLACES: [f32; PAGE_TOKENS] = {
    let mut places = [0.0; PAGE_TOKENS];
    let mut i = 0;
    while i < PAGE_TOKENS {
        places[i] = i as f32;
        i += 1;
    }
    places
};

/// The first `N` vectors of `from`. A plain loop: closures given to the standard library would not be compiled for
/// the wider instructions.
#[inline(always)]
fn load<S: Simd, const N: usize>(s: S, from: &[[f32; LANES]]) -> [S::Vector; N] {
    let mut vectors = [s.splat(0.0); N];
    for (vector, from) in vectors.iter_mut().zip(&from[..N]) {
        *vector = s.load(from);
    }
    vectors
}

#[inline(always)]
fn store<S: Simd, const N: usize>(s: S, vectors: [S::Vector; N], to: &mut [[f32; LANES]]) {
    for (vector, to) in vectors.into_iter().zip(to) {
        s.store(vector, to);
    }
}

/// Products of `R` queries (`[dim][R]`) with the page's keys, `N` vectors of them at a time; vectors outside
/// `wanted` are left out.
#[inline(always)]
fn scores<S: Simd, const R: usize, const N: usize>(
    s: S,
    queries: &[f32],
    keys: &[[f32; PAGE_TOKENS]],
    wanted: &Range<usize>,
    to: &mut [[f32; PAGE_TOKENS]; BLOCK],
) {
    for first in (0..VECTORS).step_by(N) {
        if wanted.end <= first * LANES || (first + N) * LANES <= wanted.start {
            continue;
        }
        let mut sums = [[s.splat(0.0); N]; R];
        for (query, key) in queries.as_chunks::<R>().0.iter().zip(keys) {
            let key = load::<S, N>(s, &key.as_chunks().0[first..]);
            for r in 0..R {
                let query = s.splat(query[r]);
                for n in 0..N {
                    sums[r][n] = s.mul_add(query, key[n], sums[r][n]);
                }
            }
        }
        for (to, sums) in to.iter_mut().zip(sums) {
            store(s, sums, &mut to.as_chunks_mut().0[first..]);
        }
    }
}

/// Adds the values of `keys`, weighted, to `R` rows of `mixed`, key after key.
#[inline(always)]
fn mix<S: Simd, const R: usize, const N: usize>(
    s: S,
    weights: &[[f32; PAGE_TOKENS]],
    values: &[f32],
    keys: Range<usize>,
    mixed: &mut [f32],
) {
    if keys.is_empty() {
        return;
    }
    let vectors = mixed.len() / (R * LANES);
    let whole = vectors - vectors % N;
    for column in (0..whole).step_by(N) {
        mix_columns::<S, R, N>(s, weights, values, keys.clone(), column, mixed);
    }
    for column in whole..vectors {
        mix_columns::<S, R, 1>(s, weights, values, keys.clone(), column, mixed);
    }
}

#[inline(always)]
fn mix_columns<S: Simd, const R: usize, const N: usize>(
    s: S,
    weights: &[[f32; PAGE_TOKENS]],
    values: &[f32],
    keys: Range<usize>,
    column: usize,
    mixed: &mut [f32],
) {
    let mixed = mixed.as_chunks_mut::<LANES>().0;
    let stride = mixed.len() / R;
    let mut sums = [[s.splat(0.0); N]; R];
    for (sums, mixed) in sums.iter_mut().zip(mixed.chunks_exact(stride)) {
        *sums = load(s, &mixed[column..]);
    }
    let values = values.as_chunks::<LANES>().0[keys.start * stride..keys.end * stride].chunks_exact(stride);
    let weights = &weights[..R];
    for (key, value) in keys.zip(values) {
        let value = load::<S, N>(s, &value[column..]);
        for r in 0..R {
            let weight = s.splat(weights[r][key]);
            for n in 0..N {
                sums[r][n] = s.mul_add(weight, value[n], sums[r][n]);
            }
        }
    }
    for (mixed, sums) in mixed.chunks_exact_mut(stride).zip(sums) {
        store(s, sums, &mut mixed[column..]);
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn attend_avx2(s: simd::Avx2, tile: &Tile, segments: Range<usize>) -> Partial {
    tile.attend_by(s, segments)
}
