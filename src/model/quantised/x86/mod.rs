//! The kernels in AVX2. A register of sums has the eight rows of a group as its lanes.

mod k_quants;
mod legacy;
mod quantise;

use std::arch::x86_64::*;

use super::{GROUP, Kind, activations::Chunk, layout::side_plane, multiply::Sums};

pub(super) use quantise::quantise_block;

/// Sums of a group of rows for every token of the chunk.
///
/// # Safety
///
/// The processor has AVX2, FMA and F16C; `group` is a packed group of `blocks` blocks of this kind; `x` is of the
/// kind's activations and has as many blocks a token.
pub(super) unsafe fn multiply_group(kind: Kind, group: &[u8], blocks: usize, x: &Chunk<'_>, sums: &mut Sums) {
    let (side, main) = group.split_at(side_plane(kind, blocks));
    let weights = Weights {
        main: main.as_ptr(),
        side: side.as_ptr(),
        blocks,
    };
    // SAFETY: the caller's promises are the kernels'.
    unsafe {
        match kind {
            Kind::Q8_0 => legacy::q8_0(weights, x, sums),
            Kind::Q4_0 => legacy::q4_0(weights, x, sums),
            Kind::Q4_1 => legacy::q4_1(weights, x, sums),
            Kind::Q5_0 => legacy::q5_0(weights, x, sums),
            Kind::Q5_1 => legacy::q5_1(weights, x, sums),
            Kind::Q4_K => k_quants::q4_k(weights, x, sums),
            Kind::Q5_K => k_quants::q5_k(weights, x, sums),
            Kind::Q6_K => k_quants::q6_k(weights, x, sums),
        }
    }
}

/// The two planes of a packed group.
#[derive(Clone, Copy)]
struct Weights {
    main: *const u8,
    side: *const u8,
    blocks: usize,
}

/// How far ahead of the products weights are asked from memory. A product with one token is done before the
/// hardware has noticed the run, and that starts anew with every page.
const AHEAD: usize = 4096;

impl Weights {
    /// Asks for what is [`AHEAD`] of block `b`. Groups lie one after another, so the end of one asks for the next.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    fn prefetch<const BLOCK_BYTES: usize>(&self, b: usize) {
        let start = self.side.wrapping_add(b * GROUP * BLOCK_BYTES + AHEAD);
        for line in (0..GROUP * BLOCK_BYTES).step_by(64) {
            _mm_prefetch::<_MM_HINT_T0>(start.wrapping_add(line).cast());
        }
    }
}

/// Values of a block of activations that a register of weights meets at once: four bytes in each row's lane.
const STEP: usize = 4;

/// # Safety
///
/// 32 bytes from `at` can be read.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn load(at: *const u8) -> __m256i {
    // SAFETY: the caller's promise; the load needs no alignment.
    unsafe { _mm256_loadu_si256(at.cast()) }
}

/// Eight `f16` as `f32`.
///
/// # Safety
///
/// 16 bytes from `at` can be read.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn load_scales(at: *const u8) -> __m256 {
    // SAFETY: the caller's promise; the load needs no alignment.
    unsafe { _mm256_cvtph_ps(_mm_loadu_si128(at.cast())) }
}

/// Four bytes in every lane.
///
/// # Safety
///
/// Four bytes from `at` can be read.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn spread<T>(at: *const T) -> __m256i {
    // SAFETY: the caller's promise; the read needs no alignment.
    _mm256_set1_epi32(unsafe { at.cast::<i32>().read_unaligned() })
}

/// The low nibble of every byte.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn low(bytes: __m256i) -> __m256i {
    _mm256_and_si256(bytes, _mm256_set1_epi8(15))
}

/// The high nibble of every byte.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn high(bytes: __m256i) -> __m256i {
    low(_mm256_srli_epi16::<4>(bytes))
}

/// Products of unsigned weights with four activations from `x` on, added up by two: `i16`.
///
/// # Safety
///
/// Four bytes from `x` can be read.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn pairs(weights: __m256i, x: *const i8) -> __m256i {
    // SAFETY: the caller's promise.
    _mm256_maddubs_epi16(weights, unsafe { spread(x) })
}

/// Sums of `i16` pairs, as `i32`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn widen(sums: __m256i) -> __m256i {
    _mm256_madd_epi16(sums, _mm256_set1_epi16(1))
}

/// # Safety
///
/// 32 values from `x` can be read. `weights` are at most 15, so 16 products of a lane stay below 2^15.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn dot_nibbles(weights: &[__m256i; GROUP], x: *const i8) -> __m256i {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = pairs(weights[0], x);
        for (step, &w) in weights.iter().enumerate().skip(1) {
            sums = _mm256_add_epi16(sums, pairs(w, x.add(step * STEP)));
        }
        sums
    }
}

/// The same over the 16 values that half of the weights meet, which are at most 31.
///
/// # Safety
///
/// 16 values from `x` can be read.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn dot_five_bits(weights: &[__m256i], x: *const i8) -> __m256i {
    // SAFETY: the caller's promise.
    unsafe {
        let first = _mm256_add_epi16(pairs(weights[0], x), pairs(weights[1], x.add(STEP)));
        let second = _mm256_add_epi16(
            pairs(weights[2], x.add(2 * STEP)),
            pairs(weights[3], x.add(3 * STEP)),
        );
        _mm256_add_epi16(first, second)
    }
}
