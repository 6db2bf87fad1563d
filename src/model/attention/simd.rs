//! Eight floats side by side: by AVX2 and FMA where the CPU has them, in plain Rust elsewhere.

use super::super::kv::LANES;

/// Vector arithmetic. A value of an implementing type proves that the CPU can do it.
pub trait Simd: Copy {
    type Vector: Copy;

    fn splat(self, x: f32) -> Self::Vector;
    fn load(self, x: &[f32; LANES]) -> Self::Vector;
    fn store(self, x: Self::Vector, to: &mut [f32; LANES]);
    fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    fn sub(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    fn mul(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    fn div(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `a · b + c`, rounded once where the CPU fuses.
    fn mul_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
    /// The larger of each pair; `b` where one is NaN.
    fn max(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// The smaller of each pair; `b` where one is NaN.
    fn min(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `then` where `a < b`, else `otherwise`.
    fn where_less(
        self,
        a: Self::Vector,
        b: Self::Vector,
        then: Self::Vector,
        otherwise: Self::Vector,
    ) -> Self::Vector;
    fn abs(self, x: Self::Vector) -> Self::Vector;
    /// `magnitude`, which has no sign, with the sign of `sign`.
    fn with_sign(self, magnitude: Self::Vector, sign: Self::Vector) -> Self::Vector;
    /// 2ⁿ where `x` is [`ROUNDER`] + n.
    fn power_of_two(self, x: Self::Vector) -> Self::Vector;
}

/// 1.5 · 2²³: a small number added to it is rounded to a whole one, which stands in the lowest bits.
const ROUNDER: f32 = 12_582_912.0;

/// e^x for x up to 88, within 2 units in the last place; 0 below −87.3, where the result would lose bits.
#[inline(always)]
pub fn exp<S: Simd>(s: S, x: S::Vector) -> S::Vector {
    const LOWEST: f32 = -87.3;
    // ln 2 in two parts, the first with zeros at its end, so that n · HIGH is exact.
    const HIGH: f32 = 0.693_115_23;
    const LOW: f32 = 3.194_618_5e-5;
    // Chebyshev fit of (e^r − 1 − r) / r² on |r| ≤ ln 2 / 2.
    const P: [f32; 5] = [0.5, 0.166_665_76, 0.041_666_556, 0.008_363_179, 0.001_392_618_4];
    let lowest = s.splat(LOWEST);
    let clamped = s.max(lowest, x);
    let rounded = s.mul_add(clamped, s.splat(std::f32::consts::LOG2_E), s.splat(ROUNDER));
    let n = s.sub(rounded, s.splat(ROUNDER));
    let r = s.mul_add(n, s.splat(-HIGH), clamped);
    let r = s.mul_add(n, s.splat(-LOW), r);
    let mut p = s.splat(P[4]);
    for &c in P[..4].iter().rev() {
        p = s.mul_add(p, r, s.splat(c));
    }
    let p = s.add(s.mul_add(p, s.mul(r, r), r), s.splat(1.0));
    let power = s.mul(p, s.power_of_two(rounded));
    s.where_less(x, lowest, s.splat(0.0), power)
}

/// tanh x, within some 3 units in the last place.
#[inline(always)]
pub fn tanh<S: Simd>(s: S, x: S::Vector) -> S::Vector {
    /// Up to here the series keeps the bits that 1 − 2 / (e^2x + 1) would cancel.
    const SERIES_BELOW: f32 = 0.63;
    /// From here on the result is 1 to the last bit.
    const SATURATED: f32 = 10.0;
    // Chebyshev fit of (tanh x / x − 1) / x² in x².
    const P: [f32; 5] = [
        -0.333_333_28,
        0.133_327_19,
        -0.053_843_263,
        0.020_961_33,
        -0.006_045_165,
    ];
    let size = s.abs(x);
    let square = s.mul(x, x);
    let mut p = s.splat(P[4]);
    for &c in P[..4].iter().rev() {
        p = s.mul_add(p, square, s.splat(c));
    }
    let series = s.mul_add(s.mul(p, square), size, size);
    let power = exp(s, s.mul(s.splat(2.0), s.min(s.splat(SATURATED), size)));
    let ratio = s.div(s.splat(2.0), s.add(power, s.splat(1.0)));
    let far = s.sub(s.splat(1.0), ratio);
    s.with_sign(s.where_less(size, s.splat(SERIES_BELOW), series, far), x)
}

/// The vector's values, summed in one fixed order.
#[inline(always)]
pub fn sum<S: Simd>(s: S, x: S::Vector) -> f32 {
    let mut v = [0.0; LANES];
    s.store(x, &mut v);
    ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]))
}

/// The vector's largest value.
#[inline(always)]
pub fn highest<S: Simd>(s: S, x: S::Vector) -> f32 {
    let mut v = [0.0; LANES];
    s.store(x, &mut v);
    v.into_iter().fold(f32::NEG_INFINITY, f32::max)
}

/// Plain Rust, for any CPU.
#[derive(Clone, Copy)]
pub struct Portable;

#[inline(always)]
fn lanes(f: impl FnMut(usize) -> f32) -> [f32; LANES] {
    std::array::from_fn(f)
}

impl Simd for Portable {
    type Vector = [f32; LANES];

    #[inline(always)]
    fn splat(self, x: f32) -> Self::Vector {
        [x; LANES]
    }
    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> Self::Vector {
        *x
    }
    #[inline(always)]
    fn store(self, x: Self::Vector, to: &mut [f32; LANES]) {
        *to = x;
    }
    #[inline(always)]
    fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        lanes(|i| a[i] + b[i])
    }
    #[inline(always)]
    fn sub(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        lanes(|i| a[i] - b[i])
    }
    #[inline(always)]
    fn mul(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        lanes(|i| a[i] * b[i])
    }
    #[inline(always)]
    fn div(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        lanes(|i| a[i] / b[i])
    }
    #[inline(always)]
    fn mul_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector {
        // A fused multiply-add is a slow library call where the target lacks the instruction.
        if cfg!(any(target_feature = "fma", target_arch = "aarch64")) {
            lanes(|i| a[i].mul_add(b[i], c[i]))
        } else {
            lanes(|i| a[i] * b[i] + c[i])
        }
    }
    #[inline(always)]
    fn max(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        lanes(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn min(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        lanes(|i| if a[i] < b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn where_less(
        self,
        a: Self::Vector,
        b: Self::Vector,
        then: Self::Vector,
        otherwise: Self::Vector,
    ) -> Self::Vector {
        lanes(|i| if a[i] < b[i] { then[i] } else { otherwise[i] })
    }
    #[inline(always)]
    fn abs(self, x: Self::Vector) -> Self::Vector {
        lanes(|i| x[i].abs())
    }
    #[inline(always)]
    fn with_sign(self, magnitude: Self::Vector, sign: Self::Vector) -> Self::Vector {
        lanes(|i| magnitude[i].copysign(sign[i]))
    }
    #[inline(always)]
    fn power_of_two(self, x: Self::Vector) -> Self::Vector {
        lanes(|i| f32::from_bits(x[i].to_bits().wrapping_add(127) << 23))
    }
}

#[cfg(target_arch = "x86_64")]
pub use avx2::Avx2;

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::*;

    use super::{LANES, Simd};

    /// AVX2 and FMA. Its methods become instructions where they are inlined into a function that is compiled
    /// for both.
    #[derive(Clone, Copy)]
    pub struct Avx2(());

    impl Avx2 {
        /// `None` where the CPU lacks one of the two.
        pub fn detect() -> Option<Self> {
            (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Self(()))
        }
    }

    /// Wraps intrinsics that take values only.
    macro_rules! by {
        ($intrinsic:expr) => {
            // SAFETY: `self` is made only where the CPU was found to have AVX2 and FMA.
            unsafe { $intrinsic }
        };
    }

    impl Simd for Avx2 {
        type Vector = __m256;

        #[inline(always)]
        fn splat(self, x: f32) -> __m256 {
            by!(_mm256_set1_ps(x))
        }
        #[inline(always)]
        fn load(self, x: &[f32; LANES]) -> __m256 {
            // SAFETY: `self` proves AVX2, `x` is eight floats, and the load asks for no alignment.
            unsafe { _mm256_loadu_ps(x.as_ptr()) }
        }
        #[inline(always)]
        fn store(self, x: __m256, to: &mut [f32; LANES]) {
            // SAFETY: `self` proves AVX2, `to` is eight floats, and the store asks for no alignment.
            unsafe { _mm256_storeu_ps(to.as_mut_ptr(), x) }
        }
        #[inline(always)]
        fn add(self, a: __m256, b: __m256) -> __m256 {
            by!(_mm256_add_ps(a, b))
        }
        #[inline(always)]
        fn sub(self, a: __m256, b: __m256) -> __m256 {
            by!(_mm256_sub_ps(a, b))
        }
        #[inline(always)]
        fn mul(self, a: __m256, b: __m256) -> __m256 {
            by!(_mm256_mul_ps(a, b))
        }
        #[inline(always)]
        fn div(self, a: __m256, b: __m256) -> __m256 {
            by!(_mm256_div_ps(a, b))
        }
        #[inline(always)]
        fn mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
            by!(_mm256_fmadd_ps(a, b, c))
        }
        #[inline(always)]
        fn max(self, a: __m256, b: __m256) -> __m256 {
            by!(_mm256_max_ps(a, b))
        }
        #[inline(always)]
        fn min(self, a: __m256, b: __m256) -> __m256 {
            by!(_mm256_min_ps(a, b))
        }
        #[inline(always)]
        fn where_less(self, a: __m256, b: __m256, then: __m256, otherwise: __m256) -> __m256 {
            by!(_mm256_blendv_ps(
                otherwise,
                then,
                _mm256_cmp_ps::<_CMP_LT_OQ>(a, b)
            ))
        }
        #[inline(always)]
        fn abs(self, x: __m256) -> __m256 {
            by!(_mm256_andnot_ps(_mm256_set1_ps(-0.0), x))
        }
        #[inline(always)]
        fn with_sign(self, magnitude: __m256, sign: __m256) -> __m256 {
            by!(_mm256_or_ps(magnitude, _mm256_and_ps(_mm256_set1_ps(-0.0), sign)))
        }
        #[inline(always)]
        fn power_of_two(self, x: __m256) -> __m256 {
            by!({
                let exponent = _mm256_add_epi32(_mm256_castps_si256(x), _mm256_set1_epi32(127));
                _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent))
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The largest relative error of `f` over `points` between `from` and `to`.
    fn worst<S: Simd>(
        s: S,
        f: impl Fn(S, S::Vector) -> S::Vector,
        truth: impl Fn(f64) -> f64,
        (from, to): (f32, f32),
    ) -> f64 {
        const POINTS: usize = 200_000;
        let mut worst = 0.0f64;
        for i in 0..POINTS {
            let x = from + (to - from) * (i as f32 + 0.5) / POINTS as f32;
            let mut got = [0.0; LANES];
            s.store(f(s, s.splat(x)), &mut got);
            let want = truth(f64::from(x));
            worst = worst.max((f64::from(got[i % LANES]) / want - 1.0).abs());
        }
        worst
    }

    fn functions_are_close<S: Simd>(s: S) {
        assert!(worst(s, exp, f64::exp, (-87.2, 88.0)) < 2.5e-7);
        assert!(worst(s, exp, f64::exp, (-1.0, 1.0)) < 2.5e-7);
        assert!(worst(s, tanh, f64::tanh, (-12.0, 12.0)) < 4e-7);
        assert!(worst(s, tanh, f64::tanh, (1e-8, 1e-3)) < 4e-7);
        let of = |f: fn(S, S::Vector) -> S::Vector, x: f32| {
            let mut got = [0.0; LANES];
            s.store(f(s, s.splat(x)), &mut got);
            got[0]
        };
        assert_eq!(of(exp, 0.0), 1.0);
        assert_eq!(of(exp, f32::NEG_INFINITY), 0.0);
        assert_eq!(of(exp, -1000.0), 0.0);
        assert_eq!(of(tanh, 0.0), 0.0);
        assert_eq!(of(tanh, 1e6), 1.0);
        assert_eq!(of(tanh, f32::NEG_INFINITY), -1.0);
        assert!(of(exp, f32::NAN).is_nan() && of(tanh, f32::NAN).is_nan());
    }

    #[test]
    fn exp_and_tanh_keep_their_bits() {
        functions_are_close(Portable);
        #[cfg(target_arch = "x86_64")]
        if let Some(s) = Avx2::detect() {
            functions_are_close(s);
        }
    }
}
