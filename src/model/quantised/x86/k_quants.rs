//! Formats in blocks of 256: eight parts of 32 with small integer scales, so a block's sum stays an integer.

use std::arch::x86_64::*;

use super::{
    super::{
        GROUP, Kind,
        activations::{Chunk, K_SUMS},
        multiply::Sums,
    },
    STEP, Weights, dot_five_bits, dot_nibbles, high, load, load_scales, low, pairs, spread,
};

const BLOCK: usize = 256;

/// Values under one scale, in Q6_K under two.
const PART_COLUMNS: usize = 32;

/// Registers of weights in a part.
const STEPS: usize = PART_COLUMNS / STEP;

/// Bytes of a register.
const REGISTER: usize = 4 * GROUP;

/// Calls a function for every part of a block. The parts are spelt out because their shifts and shuffles are constants.
macro_rules! each_part {
    ($function:ident($($argument:expr),*)) => {
        $function::<0>($($argument),*);
        $function::<1>($($argument),*);
        $function::<2>($($argument),*);
        $function::<3>($($argument),*);
        $function::<4>($($argument),*);
        $function::<5>($($argument),*);
        $function::<6>($($argument),*);
        $function::<7>($($argument),*);
    };
}

/// # Safety
///
/// As [`super::multiply_group`], for Q4_K.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn q4_k(weights: Weights, x: &Chunk<'_>, sums: &mut Sums) {
    for b in 0..weights.blocks {
        weights.prefetch::<{ Kind::Q4_K.block_bytes() }>(b);
        // SAFETY: the caller's promise: the plane has `blocks` blocks, the activations `blocks` entries a token.
        unsafe {
            let block = weights.main.add(b * Kind::Q4_K.main_bytes());
            let numbers = six_bit_numbers(block.add(32));
            each_part!(q4_k_part(block.add(128), &numbers, x, b, sums));
            raised(block, &numbers, x, b, sums);
        }
    }
}

/// # Safety
///
/// `quants` are those of a packed block, block `b` is in `x`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn q4_k_part<const PART: usize>(
    quants: *const u8,
    numbers: &[__m256i; 4],
    x: &Chunk<'_>,
    b: usize,
    sums: &mut Sums,
) {
    let scale = unsigned_scale::<PART>(numbers);
    // SAFETY: the caller's promise.
    unsafe {
        let quants = nibbles(quants.add(PART / 2 * STEPS * REGISTER), PART % 2);
        for t in 0..x.tokens {
            let values = x
                .quants
                .as_ptr()
                .add((b * x.tokens + t) * BLOCK + PART * PART_COLUMNS);
            add_total::<PART>(sums, t, _mm256_madd_epi16(dot_nibbles(&quants, values), scale));
        }
    }
}

/// # Safety
///
/// As [`super::multiply_group`], for Q5_K.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn q5_k(weights: Weights, x: &Chunk<'_>, sums: &mut Sums) {
    for b in 0..weights.blocks {
        weights.prefetch::<{ Kind::Q5_K.block_bytes() }>(b);
        // SAFETY: as in `q4_k`.
        unsafe {
            let block = weights.main.add(b * Kind::Q5_K.main_bytes());
            let numbers = six_bit_numbers(block.add(32));
            each_part!(q5_k_part(block, &numbers, x, b, sums));
            raised(block, &numbers, x, b, sums);
        }
    }
}

/// # Safety
///
/// The packed block can be read, block `b` is in `x`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn q5_k_part<const PART: usize>(
    block: *const u8,
    numbers: &[__m256i; 4],
    x: &Chunk<'_>,
    b: usize,
    sums: &mut Sums,
) {
    let scale = unsigned_scale::<PART>(numbers);
    // SAFETY: the caller's promise.
    unsafe {
        let mut quants = nibbles(block.add(384 + PART / 2 * STEPS * REGISTER), PART % 2);
        for (step, quant) in quants.iter_mut().enumerate() {
            // Bit `PART` becomes bit 4.
            let bits = shifted(load(block.add(128 + step * REGISTER)), 4 - PART as i32);
            *quant = _mm256_or_si256(*quant, _mm256_and_si256(bits, _mm256_set1_epi8(16)));
        }
        for t in 0..x.tokens {
            let values = x
                .quants
                .as_ptr()
                .add((b * x.tokens + t) * BLOCK + PART * PART_COLUMNS);
            let first = dot_five_bits(&quants[..STEPS / 2], values);
            let second = dot_five_bits(&quants[STEPS / 2..], values.add(PART_COLUMNS / 2));
            let product = _mm256_add_epi32(_mm256_madd_epi16(first, scale), _mm256_madd_epi16(second, scale));
            add_total::<PART>(sums, t, product);
        }
    }
}

/// # Safety
///
/// As [`super::multiply_group`], for Q6_K.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn q6_k(weights: Weights, x: &Chunk<'_>, sums: &mut Sums) {
    for b in 0..weights.blocks {
        weights.prefetch::<{ Kind::Q6_K.block_bytes() }>(b);
        // SAFETY: as in `q4_k`.
        unsafe {
            let block = weights.main.add(b * Kind::Q6_K.main_bytes());
            let numbers = block.add(1536);
            each_part!(q6_k_part(block, numbers, x, b, sums));
            let scales = load_scales(weights.side.add(b * Kind::Q6_K.side_bytes()));
            let mut centres = [_mm256_setzero_si256(); BLOCK / PART_COLUMNS];
            for (pair, centre) in centres.iter_mut().enumerate() {
                *centre = centre_pair(load(numbers.add(pair / 2 * REGISTER)), pair % 2);
            }
            for t in 0..x.tokens {
                let entry = b * x.tokens + t;
                let by_16 = x.sums.as_ptr().add(entry * K_SUMS);
                let mut total = total(sums, t);
                for (pair, &centre) in centres.iter().enumerate() {
                    let product = _mm256_madd_epi16(centre, spread(by_16.add(2 * pair)));
                    total = _mm256_sub_epi32(total, product);
                }
                let scale = _mm256_mul_ps(scales, _mm256_set1_ps(*x.scales.as_ptr().add(entry)));
                let at = sums.outputs.as_mut_ptr().add(t).cast::<f32>();
                let sum = _mm256_fmadd_ps(scale, _mm256_cvtepi32_ps(total), _mm256_load_ps(at));
                _mm256_store_ps(at, sum);
            }
        }
    }
}

/// # Safety
///
/// The packed block and its numbers can be read, block `b` is in `x`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn q6_k_part<const PART: usize>(
    block: *const u8,
    numbers: *const u8,
    x: &Chunk<'_>,
    b: usize,
    sums: &mut Sums,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let quad = load(numbers.add(PART / 2 * REGISTER));
        let (first_scale, second_scale) = (
            signed_scale(quad, PART % 2 * 2),
            signed_scale(quad, PART % 2 * 2 + 1),
        );
        let quants = six_bits::<PART>(block);
        for t in 0..x.tokens {
            let values = x
                .quants
                .as_ptr()
                .add((b * x.tokens + t) * BLOCK + PART * PART_COLUMNS);
            let first = dot_six_bits(&quants[..STEPS / 2], first_scale, values);
            let second = dot_six_bits(&quants[STEPS / 2..], second_scale, values.add(PART_COLUMNS / 2));
            add_total::<PART>(sums, t, _mm256_add_epi32(first, second));
        }
    }
}

/// # Safety
///
/// `token` is less than [`super::super::activations::CHUNK`].
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn total(sums: &Sums, token: usize) -> __m256i {
    // SAFETY: the caller's promise.
    unsafe { load(sums.totals.as_ptr().add(token).cast()) }
}

/// Adds to a token's total, which the first part begins.
///
/// # Safety
///
/// As [`total`].
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn add_total<const PART: usize>(sums: &mut Sums, token: usize, product: __m256i) {
    // SAFETY: the caller's promise.
    unsafe {
        let sum = if PART == 0 {
            product
        } else {
            _mm256_add_epi32(total(sums, token), product)
        };
        _mm256_storeu_si256(sums.totals.as_mut_ptr().add(token).cast(), sum);
    }
}

/// Words shifted left, or right by a negative number of bits.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn shifted(words: __m256i, left: i32) -> __m256i {
    if left >= 0 {
        _mm256_sll_epi16(words, _mm_cvtsi32_si128(left))
    } else {
        _mm256_srl_epi16(words, _mm_cvtsi32_si128(-left))
    }
}

/// Scaled sums over 16 values. Two products by 63 still add up in `i16`, four do not.
///
/// # Safety
///
/// 16 values from `x` can be read.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn dot_six_bits(weights: &[__m256i], scale: __m256i, x: *const i8) -> __m256i {
    // SAFETY: the caller's promise.
    unsafe {
        let first = _mm256_add_epi16(pairs(weights[0], x), pairs(weights[1], x.add(STEP)));
        let second = _mm256_add_epi16(
            pairs(weights[2], x.add(2 * STEP)),
            pairs(weights[3], x.add(3 * STEP)),
        );
        _mm256_add_epi32(_mm256_madd_epi16(first, scale), _mm256_madd_epi16(second, scale))
    }
}

/// The nibbles of a part: even parts are the low ones of eight registers, odd parts the high ones.
///
/// # Safety
///
/// 256 bytes from `at` can be read.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn nibbles(at: *const u8, parity: usize) -> [__m256i; STEPS] {
    let mut weights = [_mm256_setzero_si256(); STEPS];
    for (step, weight) in weights.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        let bytes = unsafe { load(at.add(step * REGISTER)) };
        *weight = if parity == 0 { low(bytes) } else { high(bytes) };
    }
    weights
}

/// A part of a Q6_K block. Half a block has 64 low bytes a row, for its parts 0 and 2, then 1 and 3, and 32 bytes of
/// the four parts' top two bits.
///
/// # Safety
///
/// The packed block can be read.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn six_bits<const PART: usize>(block: *const u8) -> [__m256i; STEPS] {
    let (half, quarter) = (PART / 4, PART % 4);
    // SAFETY: the caller's promise.
    unsafe {
        let mut weights = nibbles(
            block.add((half * 2 + quarter % 2) * STEPS * REGISTER),
            quarter / 2,
        );
        let top = block.add(1024 + half * STEPS * REGISTER);
        for (step, weight) in weights.iter_mut().enumerate() {
            // Bits `2 quarter` and the next become bits 4 and 5.
            let bits = shifted(load(top.add(step * REGISTER)), 4 - 2 * quarter as i32);
            *weight = _mm256_or_si256(*weight, _mm256_and_si256(bits, _mm256_set1_epi8(48)));
        }
        weights
    }
}

/// Eight scales and eight minimums of every row as bytes, four numbers a register (`layout::put_quads`).
///
/// # Safety
///
/// 96 bytes from `at` can be read.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn six_bit_numbers(at: *const u8) -> [__m256i; 4] {
    // SAFETY: the caller's promise.
    let (first, second, top) = unsafe { (load(at), load(at.add(REGISTER)), load(at.add(2 * REGISTER))) };
    let mask = _mm256_set1_epi8(48);
    let with = |nibbles: __m256i, bits: __m256i| _mm256_or_si256(nibbles, _mm256_and_si256(bits, mask));
    [
        with(low(first), _mm256_slli_epi16::<4>(top)),
        with(low(second), _mm256_slli_epi16::<2>(top)),
        with(high(first), top),
        with(high(second), _mm256_srli_epi16::<2>(top)),
    ]
}

/// Shuffle indices that bring bytes `first..first + 4` of each half to the low bytes of the even `i16` of the four
/// lanes and `second..second + 4` to the odd ones; the other bytes become zero.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn to_words(first: u8, second: u8) -> __m256i {
    let lane = |row: u8| i32::from_le_bytes([first + row, 0x80, second + row, 0x80]);
    _mm256_broadcastsi128_si256(_mm_setr_epi32(lane(0), lane(1), lane(2), lane(3)))
}

/// The same into the high bytes.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn to_high_bytes(first: u8, second: u8) -> __m256i {
    let lane = |row: u8| i32::from_le_bytes([0x80, first + row, 0x80, second + row]);
    _mm256_broadcastsi128_si256(_mm_setr_epi32(lane(0), lane(1), lane(2), lane(3)))
}

/// Number `PART` of every row, twice, as `i16`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn unsigned_scale<const PART: usize>(numbers: &[__m256i; 4]) -> __m256i {
    let at = (PART % 4 * 4) as u8;
    _mm256_shuffle_epi8(numbers[PART / 4], to_words(at, at))
}

/// Numbers `2 pair` and `2 pair + 1` of every row's minimums, as `i16`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn unsigned_pair(numbers: &[__m256i; 4], pair: usize) -> __m256i {
    let at = (pair % 2 * 8) as u8;
    _mm256_shuffle_epi8(numbers[2 + pair / 2], to_words(at, at + 4))
}

/// Signed number `index` of a register of four, twice, as `i16`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn signed_scale(quad: __m256i, index: usize) -> __m256i {
    let at = (index * 4) as u8;
    _mm256_srai_epi16::<8>(_mm256_shuffle_epi8(quad, to_high_bytes(at, at)))
}

/// Signed numbers `2 pair` and `2 pair + 1` of a register of four, times 32, as `i16`: what stored weights are too high,
/// scaled.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn centre_pair(quad: __m256i, pair: usize) -> __m256i {
    let at = (pair * 8) as u8;
    _mm256_srai_epi16::<3>(_mm256_shuffle_epi8(quad, to_high_bytes(at, at + 4)))
}

/// Adds a block of Q4_K or Q5_K to the sums: its scaled total, less the minimums that meet the activations' sums.
///
/// # Safety
///
/// 32 bytes from `block` can be read, block `b` is in `x`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn raised(block: *const u8, numbers: &[__m256i; 4], x: &Chunk<'_>, b: usize, sums: &mut Sums) {
    // SAFETY: the caller's promise.
    unsafe {
        let (scales, minimums) = (load_scales(block), load_scales(block.add(16)));
        let pairs: [__m256i; 4] = [
            unsigned_pair(numbers, 0),
            unsigned_pair(numbers, 1),
            unsigned_pair(numbers, 2),
            unsigned_pair(numbers, 3),
        ];
        for t in 0..x.tokens {
            let entry = b * x.tokens + t;
            let by_32 = x.sums.as_ptr().add(entry * K_SUMS + 16);
            let mut lift = _mm256_madd_epi16(pairs[0], spread(by_32));
            for (pair, &numbers) in pairs.iter().enumerate().skip(1) {
                lift = _mm256_add_epi32(lift, _mm256_madd_epi16(numbers, spread(by_32.add(2 * pair))));
            }
            let own = _mm256_set1_ps(*x.scales.as_ptr().add(entry));
            let at = sums.outputs.as_mut_ptr().add(t).cast::<f32>();
            let sum = _mm256_load_ps(at);
            let sum = _mm256_fnmadd_ps(_mm256_mul_ps(minimums, own), _mm256_cvtepi32_ps(lift), sum);
            let sum = _mm256_fmadd_ps(
                _mm256_mul_ps(scales, own),
                _mm256_cvtepi32_ps(total(sums, t)),
                sum,
            );
            _mm256_store_ps(at, sum);
        }
    }
}
