//! Formats in blocks of 32.

use std::arch::x86_64::*;

use super::{
    super::{GROUP, Kind, activations::Chunk, multiply::Sums},
    STEP, Weights, dot_five_bits, dot_nibbles, high, load, load_scales, low, spread, widen,
};

const BLOCK: usize = 32;

/// Registers of weights in a block.
const STEPS: usize = BLOCK / STEP;

/// # Safety
///
/// As [`super::multiply_group`], for Q8_0.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn q8_0(weights: Weights, x: &Chunk<'_>, sums: &mut Sums) {
    for b in 0..weights.blocks {
        weights.prefetch::<{ Kind::Q8_0.block_bytes() }>(b);
        // SAFETY: the caller's promise: the planes have `blocks` blocks, the activations `blocks` entries a token.
        unsafe {
            let scales = load_scales(weights.side.add(b * Kind::Q8_0.side_bytes()));
            let quants = weights.main.add(b * Kind::Q8_0.main_bytes());
            let mut t = 0;
            while t + 8 <= x.tokens {
                q8_0_tile::<8>(quants, scales, x, b, t, sums);
                t += 8;
            }
            if t + 4 <= x.tokens {
                q8_0_tile::<4>(quants, scales, x, b, t, sums);
                t += 4;
            }
            if t + 2 <= x.tokens {
                q8_0_tile::<2>(quants, scales, x, b, t, sums);
                t += 2;
            }
            if t < x.tokens {
                q8_0_tile::<1>(quants, scales, x, b, t, sums);
            }
        }
    }
}

/// Block `b` of tokens `t..t + TOKENS`.
///
/// # Safety
///
/// 256 bytes from `quants` can be read; the block and the tokens are in `x`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn q8_0_tile<const TOKENS: usize>(
    quants: *const u8,
    scales: __m256,
    x: &Chunk<'_>,
    b: usize,
    t: usize,
    sums: &mut Sums,
) {
    let entry = b * x.tokens + t;
    let mut products = [_mm256_setzero_si256(); TOKENS];
    // SAFETY: the caller's promise.
    unsafe {
        let values = x.quants.as_ptr().add(entry * BLOCK);
        for step in 0..STEPS {
            let weight = load(quants.add(step * 4 * GROUP));
            // One factor of the byte product must be unsigned: the weight's sign goes over to the activation.
            // 2 · 128 · 127 is still below 2^15.
            let magnitude = _mm256_abs_epi8(weight);
            for (i, sum) in products.iter_mut().enumerate() {
                let signed = _mm256_sign_epi8(spread(values.add(i * BLOCK + step * STEP)), weight);
                *sum = _mm256_add_epi32(*sum, widen(_mm256_maddubs_epi16(magnitude, signed)));
            }
        }
        for (i, &product) in products.iter().enumerate() {
            let scale = _mm256_mul_ps(scales, _mm256_set1_ps(*x.scales.as_ptr().add(entry + i)));
            accumulate(sums, t + i, scale, _mm256_cvtepi32_ps(product));
        }
    }
}

/// Adds `scale · product` to a token's sums.
///
/// # Safety
///
/// `token` is less than the outputs' tokens.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn accumulate(sums: &mut Sums, token: usize, scale: __m256, product: __m256) {
    // SAFETY: the caller's promise.
    unsafe {
        let at = sums.outputs.as_mut_ptr().add(token).cast::<f32>();
        _mm256_store_ps(at, _mm256_fmadd_ps(scale, product, _mm256_load_ps(at)));
    }
}

/// # Safety
///
/// As [`super::multiply_group`], for Q4_0.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn q4_0(weights: Weights, x: &Chunk<'_>, sums: &mut Sums) {
    for b in 0..weights.blocks {
        weights.prefetch::<{ Kind::Q4_0.block_bytes() }>(b);
        // SAFETY: the caller's promise: the planes have `blocks` blocks, the activations `blocks` entries a token.
        unsafe {
            let scales = load_scales(weights.side.add(b * Kind::Q4_0.side_bytes()));
            let quants = nibbles(weights.main.add(b * Kind::Q4_0.main_bytes()));
            for t in 0..x.tokens {
                let entry = b * x.tokens + t;
                let product = widen(dot_nibbles(&quants, x.quants.as_ptr().add(entry * BLOCK)));
                centred(8.0, product, scales, x, entry, t, sums);
            }
        }
    }
}

/// # Safety
///
/// As [`super::multiply_group`], for Q4_1.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn q4_1(weights: Weights, x: &Chunk<'_>, sums: &mut Sums) {
    for b in 0..weights.blocks {
        weights.prefetch::<{ Kind::Q4_1.block_bytes() }>(b);
        // SAFETY: as in `q4_0`.
        unsafe {
            let block = weights.main.add(b * Kind::Q4_1.main_bytes());
            let (scales, minimums) = (load_scales(block), load_scales(block.add(16)));
            let quants = nibbles(block.add(32));
            for t in 0..x.tokens {
                let entry = b * x.tokens + t;
                let product = widen(dot_nibbles(&quants, x.quants.as_ptr().add(entry * BLOCK)));
                raised(minimums, product, scales, x, entry, t, sums);
            }
        }
    }
}

/// # Safety
///
/// As [`super::multiply_group`], for Q5_0.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn q5_0(weights: Weights, x: &Chunk<'_>, sums: &mut Sums) {
    for b in 0..weights.blocks {
        weights.prefetch::<{ Kind::Q5_0.block_bytes() }>(b);
        // SAFETY: as in `q4_0`.
        unsafe {
            let scales = load_scales(weights.side.add(b * Kind::Q5_0.side_bytes()));
            let block = weights.main.add(b * Kind::Q5_0.main_bytes());
            let quants = five_bits(block, block.add(32));
            for t in 0..x.tokens {
                let entry = b * x.tokens + t;
                let product = dot_block(&quants, x.quants.as_ptr().add(entry * BLOCK));
                centred(16.0, product, scales, x, entry, t, sums);
            }
        }
    }
}

/// # Safety
///
/// As [`super::multiply_group`], for Q5_1.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn q5_1(weights: Weights, x: &Chunk<'_>, sums: &mut Sums) {
    for b in 0..weights.blocks {
        weights.prefetch::<{ Kind::Q5_1.block_bytes() }>(b);
        // SAFETY: as in `q4_0`.
        unsafe {
            let block = weights.main.add(b * Kind::Q5_1.main_bytes());
            let (scales, minimums) = (load_scales(block), load_scales(block.add(16)));
            let quants = five_bits(block.add(32), block.add(64));
            for t in 0..x.tokens {
                let entry = b * x.tokens + t;
                let product = dot_block(&quants, x.quants.as_ptr().add(entry * BLOCK));
                raised(minimums, product, scales, x, entry, t, sums);
            }
        }
    }
}

/// The block's weights in order: its low nibbles come first, then its high ones.
///
/// # Safety
///
/// 128 bytes from `at` can be read.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn nibbles(at: *const u8) -> [__m256i; STEPS] {
    let mut weights = [_mm256_setzero_si256(); STEPS];
    for step in 0..STEPS / 2 {
        // SAFETY: the caller's promise.
        let bytes = unsafe { load(at.add(step * 4 * GROUP)) };
        weights[step] = low(bytes);
        weights[step + STEPS / 2] = high(bytes);
    }
    weights
}

/// Nibbles with their fifth bits, which are bit `step` of the bytes at `bits`.
///
/// # Safety
///
/// 32 bytes from `bits` and 128 bytes from `at` can be read.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn five_bits(bits: *const u8, at: *const u8) -> [__m256i; STEPS] {
    // SAFETY: the caller's promise.
    let (mut weights, bits) = unsafe { (nibbles(at), load(bits)) };
    for (step, weight) in weights.iter_mut().enumerate() {
        let bit = _mm256_and_si256(bits, _mm256_set1_epi8((1_u8 << step) as i8));
        let unset = _mm256_cmpeq_epi8(bit, _mm256_setzero_si256());
        *weight = _mm256_or_si256(*weight, _mm256_andnot_si256(unset, _mm256_set1_epi8(16)));
    }
    weights
}

/// # Safety
///
/// 32 values from `x` can be read.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn dot_block(weights: &[__m256i; STEPS], x: *const i8) -> __m256i {
    // SAFETY: the caller's promise.
    unsafe {
        let first = widen(dot_five_bits(&weights[..STEPS / 2], x));
        _mm256_add_epi32(
            first,
            widen(dot_five_bits(&weights[STEPS / 2..], x.add(BLOCK / 2))),
        )
    }
}

/// Adds the block of weights that are stored `centre` too high: that often the sum of the activations comes off, in
/// integers below 2^24, which `f32` holds exactly.
///
/// # Safety
///
/// `entry` and `token` are in `x`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn centred(
    centre: f32,
    product: __m256i,
    scales: __m256,
    x: &Chunk<'_>,
    entry: usize,
    token: usize,
    sums: &mut Sums,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let sum = _mm256_set1_ps(*x.offsets.as_ptr().add(entry));
        let product = _mm256_fnmadd_ps(_mm256_set1_ps(centre), sum, _mm256_cvtepi32_ps(product));
        let scale = _mm256_mul_ps(scales, _mm256_set1_ps(*x.scales.as_ptr().add(entry)));
        accumulate(sums, token, scale, product);
    }
}

/// Adds the block of weights with a minimum, which meets the activations' scaled sum.
///
/// # Safety
///
/// `entry` and `token` are in `x`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn raised(
    minimums: __m256,
    product: __m256i,
    scales: __m256,
    x: &Chunk<'_>,
    entry: usize,
    token: usize,
    sums: &mut Sums,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let sum = _mm256_set1_ps(*x.offsets.as_ptr().add(entry));
        accumulate(sums, token, minimums, sum);
        let scale = _mm256_mul_ps(scales, _mm256_set1_ps(*x.scales.as_ptr().add(entry)));
        accumulate(sums, token, scale, _mm256_cvtepi32_ps(product));
    }
}
