use std::arch::x86_64::*;

use super::super::{
    ActivationKind,
    activations::{BlockMut, finish_block, k_scales, legacy_scales},
};

/// Values a register holds.
const LANES: usize = 8;

/// [`super::super::activations::quantise_block`], to the bit, for finite values.
///
/// # Safety
///
/// The processor has AVX2, FMA and F16C; `values` and the target's quants are whole blocks of the kind.
#[target_feature(enable = "avx2,fma,f16c")]
pub(in super::super) unsafe fn quantise_block(kind: ActivationKind, values: &[f32], target: BlockMut<'_>) {
    debug_assert!(values.len() == kind.block() && target.quants.len() == values.len());
    let mut greatest = _mm256_setzero_si256();
    for eight in values.chunks_exact(LANES) {
        // SAFETY: the chunk has eight values.
        let eight = unsafe { _mm256_loadu_si256(eight.as_ptr().cast()) };
        greatest = _mm256_max_epi32(greatest, _mm256_and_si256(eight, _mm256_set1_epi32(i32::MAX)));
    }
    let half = _mm_max_epi32(
        _mm256_castsi256_si128(greatest),
        _mm256_extracti128_si256::<1>(greatest),
    );
    let half = _mm_max_epi32(half, _mm_shuffle_epi32::<0b01_00_11_10>(half));
    let half = _mm_max_epi32(half, _mm_shuffle_epi32::<0b10_11_00_01>(half));
    let greatest = f32::from_bits(_mm_cvtsi128_si32(half).cast_unsigned());
    let (factor, scale) = match kind {
        ActivationKind::Q8_0 | ActivationKind::Q8_1 => legacy_scales(greatest),
        ActivationKind::Q8_K => {
            let first = values
                .iter()
                .find(|v| v.to_bits() & 0x7fff_ffff == greatest.to_bits());
            k_scales(first.copied().unwrap_or(0.0))
        }
    };
    let factor = _mm256_set1_ps(factor);
    // Packing works within halves of registers and leaves the groups of four in this order.
    let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    for (values, quants) in values
        .chunks_exact(4 * LANES)
        .zip(target.quants.chunks_exact_mut(4 * LANES))
    {
        // SAFETY: both chunks have 32 elements.
        unsafe {
            let whole = |index: usize| {
                let scaled = _mm256_mul_ps(_mm256_loadu_ps(values.as_ptr().add(index * LANES)), factor);
                _mm256_cvtps_epi32(_mm256_min_ps(scaled, _mm256_set1_ps(127.0)))
            };
            let words = [
                _mm256_packs_epi32(whole(0), whole(1)),
                _mm256_packs_epi32(whole(2), whole(3)),
            ];
            let bytes = _mm256_packs_epi16(words[0], words[1]);
            _mm256_storeu_si256(
                quants.as_mut_ptr().cast(),
                _mm256_permutevar8x32_epi32(bytes, order),
            );
        }
    }
    finish_block(kind, scale, target, |value| {
        let half = _mm_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(_mm_set_ss(value));
        _mm_cvtss_f32(_mm_cvtph_ps(half))
    });
}
