//! The arithmetic of sampling over a whole vocabulary, in loops that a compiler can vectorise.
//!
//! A token's weight is `exp((logit - peak) / temperature)`, rounded to a multiple of 2⁻³⁴. Sums over up to 2¹⁸ tokens
//! are therefore exact and do not depend on their order: two ways to add up the same tokens agree to the last bit.

use crate::units::TokenId;

/// Tokens that share a maximum and a sum.
pub(super) const BLOCK: usize = 128;
/// Numbers treated alike at a time.
const LANES: usize = 16;
/// Adding and subtracting it rounds a number below 2¹⁸ to a multiple of 2⁻³⁴.
const ROUNDER: f64 = 1.5 * (1u64 << 18) as f64;
/// Ranges of logits that a nucleus is searched in.
const BUCKETS: usize = 4096;
/// Below it every weight rounds to nothing.
const LOWEST: f32 = -30.0;

/// A token's place among all: a greater key is a higher logit, or the same logit and a smaller id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key(u64);

impl Key {
    fn new(logit: f32, id: usize) -> Self {
        // Zero has one sign here, as it has for `>`.
        let bits = (logit + 0.0).to_bits();
        let rising = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
        Self(u64::from(rising) << 32 | u64::from(!(id as u32)))
    }

    pub fn token(self) -> TokenId {
        TokenId(!(self.0 as u32))
    }
}

/// The highest logit of each block. NaN counts as the lowest.
pub(super) fn block_peaks(logits: &[f32], peaks: &mut Vec<f32>) {
    peaks.clear();
    peaks.extend(logits.chunks(BLOCK).map(peak));
}

/// The highest of `values`; -inf when there is none.
pub(super) fn peak(values: &[f32]) -> f32 {
    let (chunks, rest) = values.as_chunks::<16>();
    let mut lanes = [f32::NEG_INFINITY; 16];
    for chunk in chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane = if value > *lane { value } else { *lane };
        }
    }
    let higher = |one: f32, &other: &f32| if other > one { other } else { one };
    rest.iter()
        .fold(lanes.iter().fold(f32::NEG_INFINITY, higher), higher)
}

/// The first of the highest logits, so that greedy is the same on every machine; token 0 when there is none.
pub(super) fn highest(logits: &[f32], peaks: &[f32]) -> TokenId {
    let peak = peak(peaks);
    let block = peaks.iter().position(|&p| p == peak).unwrap_or(0) * BLOCK;
    let within = logits.iter().skip(block).position(|&l| l == peak);
    TokenId((block + within.unwrap_or(0)) as u32)
}

/// Fills `keys` with the `count` highest logits, highest first; fewer when fewer are above -inf.
pub(super) fn top(logits: &[f32], peaks: &[f32], count: usize, floors: &mut Vec<f32>, keys: &mut Vec<Key>) {
    keys.clear();
    if count == 0 {
        return;
    }
    // As many blocks reach this floor as tokens are wanted, so no token below it is among them.
    let floor = if count < peaks.len() {
        floors.clear();
        floors.extend_from_slice(peaks);
        *floors.select_nth_unstable_by(count - 1, |a, b| b.total_cmp(a)).1
    } else {
        f32::NEG_INFINITY
    };
    for (block, _) in peaks.iter().enumerate().filter(|(_, p)| **p >= floor) {
        let first = block * BLOCK;
        let end = logits.len().min(first + BLOCK);
        for (at, &logit) in logits[first..end].iter().enumerate() {
            if logit >= floor && logit > f32::NEG_INFINITY {
                keys.push(Key::new(logit, first + at));
            }
        }
    }
    if count < keys.len() {
        keys.select_nth_unstable_by(count - 1, |a, b| b.cmp(a));
        keys.truncate(count);
    }
    keys.sort_unstable_by(|a, b| b.cmp(a));
}

/// From logits to weights.
#[derive(Clone, Copy)]
pub(super) struct Scale {
    peak: f32,
    inverse: f32,
}

/// What a cut leaves: tokens above `floor`, the first `ties` of those that equal it, and of all these the ones that
/// weigh at least `least`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    pub floor: f32,
    pub ties: u32,
    pub least: f64,
}

impl Cut {
    pub const NONE: Self = Self {
        floor: f32::NEG_INFINITY,
        ties: 0,
        least: 0.0,
    };
}

impl Scale {
    /// `None` when no logit is a finite highest.
    pub fn new(peaks: &[f32], temperature: f32) -> Option<Self> {
        let peak = peak(peaks);
        peak.is_finite().then(|| Self {
            peak,
            // Below it a temperature is greedy for all that logits can tell apart.
            inverse: 1.0 / temperature.max(1e-6),
        })
    }

    /// The weight of a logit, in [0, 1].
    #[inline(always)]
    pub fn weight(self, logit: f32) -> f64 {
        let weight = f64::from(exp(self.exponent(logit)));
        (weight + ROUNDER) - ROUNDER
    }

    #[inline(always)]
    fn exponent(self, logit: f32) -> f32 {
        let exponent = (logit - self.peak) * self.inverse;
        if exponent > LOWEST { exponent } else { LOWEST }
    }

    /// The weight of what `cut` leaves of each block, and of all together.
    pub fn sums(self, logits: &[f32], cut: Cut, sums: &mut Vec<f64>) -> f64 {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has AVX2.
            return unsafe { self.sums_avx2(logits, cut, sums) };
        }
        self.sums_anywhere(logits, cut, sums)
    }

    /// The same code with wider registers, and therefore the same bits.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn sums_avx2(self, logits: &[f32], cut: Cut, sums: &mut Vec<f64>) -> f64 {
        self.sums_anywhere(logits, cut, sums)
    }

    #[inline(always)]
    fn sums_anywhere(self, logits: &[f32], cut: Cut, sums: &mut Vec<f64>) -> f64 {
        sums.clear();
        let mut ties = cut.ties;
        let at_floor = self.weight(cut.floor);
        for block in logits.chunks(BLOCK) {
            let mut sum = self.sum(block, cut);
            if ties > 0 {
                let equal = block.iter().filter(|&&l| l == cut.floor).count() as u32;
                let kept = equal.min(ties);
                ties -= kept;
                if at_floor >= cut.least {
                    sum += f64::from(kept) * at_floor;
                }
            }
            sums.push(sum);
        }
        sums.iter().sum()
    }

    #[inline(always)]
    fn sum(self, block: &[f32], cut: Cut) -> f64 {
        let (chunks, rest) = block.as_chunks::<LANES>();
        let mut lanes = [0f64; LANES];
        for chunk in chunks {
            let mut weights = [0f32; LANES];
            for lane in 0..LANES {
                weights[lane] = exp(self.exponent(chunk[lane]));
            }
            for lane in 0..LANES {
                let weight = (f64::from(weights[lane]) + ROUNDER) - ROUNDER;
                let kept = (chunk[lane] > cut.floor) & (weight >= cut.least);
                lanes[lane] += if kept { weight } else { 0.0 };
            }
        }
        let mut sum: f64 = lanes.iter().sum();
        for &logit in rest {
            let weight = self.weight(logit);
            if logit > cut.floor && weight >= cut.least {
                sum += weight;
            }
        }
        sum
    }

    /// The token at which the weights of what `cut` leaves, added up in the order of ids, pass `target`.
    pub fn find(self, logits: &[f32], cut: Cut, sums: &[f64], target: f64) -> Option<TokenId> {
        let mut passed = 0.0;
        let mut block = 0;
        while passed + sums.get(block)? <= target {
            passed += sums[block];
            block += 1;
        }
        let first = block * BLOCK;
        let before = logits[..first].iter().filter(|&&l| l == cut.floor).count() as u32;
        let mut ties = if cut.ties > 0 {
            cut.ties.saturating_sub(before)
        } else {
            0
        };
        for (at, &logit) in logits[first..].iter().enumerate().take(BLOCK) {
            let weight = self.weight(logit);
            let tied = logit == cut.floor && ties > 0;
            if tied {
                ties -= 1;
            }
            if (logit > cut.floor || tied) && weight >= cut.least {
                passed += weight;
                if passed > target {
                    return Some(TokenId((first + at) as u32));
                }
            }
        }
        None
    }

    /// The natural logarithm of a logit's share of a total whose logarithm is `total`. Only meaningful at temperature 1.
    pub fn log(self, logit: f32, total: f64) -> f32 {
        (f64::from(logit) - f64::from(self.peak) - total) as f32
    }

    /// Where the likeliest tokens that weigh `wanted` together end, as a cut's `floor` and `ties`. Only one of
    /// [`BUCKETS`] narrow ranges of logits is sorted.
    pub fn nucleus(
        self,
        logits: &[f32],
        wanted: f64,
        histogram: &mut Vec<f64>,
        keys: &mut Vec<Key>,
    ) -> (f32, u32) {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has AVX2.
            return unsafe { self.nucleus_avx2(logits, wanted, histogram, keys) };
        }
        self.nucleus_anywhere(logits, wanted, histogram, keys)
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn nucleus_avx2(
        self,
        logits: &[f32],
        wanted: f64,
        histogram: &mut Vec<f64>,
        keys: &mut Vec<Key>,
    ) -> (f32, u32) {
        self.nucleus_anywhere(logits, wanted, histogram, keys)
    }

    #[inline(always)]
    fn nucleus_anywhere(
        self,
        logits: &[f32],
        wanted: f64,
        histogram: &mut Vec<f64>,
        keys: &mut Vec<Key>,
    ) -> (f32, u32) {
        histogram.clear();
        histogram.resize(BUCKETS, 0.0);
        for block in logits.chunks(BLOCK) {
            let mut weights = [0f64; BLOCK];
            let buckets = self.buckets(block);
            for (weight, &logit) in weights.iter_mut().zip(block) {
                *weight = self.weight(logit);
            }
            for (weight, bucket) in weights.iter().zip(buckets).take(block.len()) {
                histogram[bucket as usize % BUCKETS] += weight;
            }
        }
        let mut mass = 0.0;
        let mut last = 0;
        while last + 1 < BUCKETS && mass + histogram[last] < wanted {
            mass += histogram[last];
            last += 1;
        }
        keys.clear();
        for (first, block) in (0..).step_by(BLOCK).zip(logits.chunks(BLOCK)) {
            let buckets = self.buckets(block);
            for (at, &logit) in block.iter().enumerate() {
                if buckets[at] == last as u32 && logit > f32::NEG_INFINITY {
                    keys.push(Key::new(logit, first + at));
                }
            }
        }
        keys.sort_unstable_by(|a, b| b.cmp(a));
        let (mut floor, mut ties) = (f32::NEG_INFINITY, 0);
        for key in keys.iter() {
            if mass >= wanted {
                break;
            }
            let logit = logits[key.token().0 as usize];
            ties = if logit == floor { ties + 1 } else { 1 };
            floor = logit;
            mass += self.weight(logit);
        }
        (floor, ties)
    }

    /// Which range each logit of a block belongs to; never a lower one for a lower logit.
    #[inline(always)]
    fn buckets(self, block: &[f32]) -> [u32; BLOCK] {
        const PER_UNIT: f32 = (BUCKETS - 1) as f32 / -LOWEST;
        let mut buckets = [0; BLOCK];
        for (bucket, &logit) in buckets.iter_mut().zip(block) {
            // Adding 2²³ leaves the nearest integer in the last bits.
            *bucket = (-self.exponent(logit) * PER_UNIT + 8_388_608.0).to_bits() & 0x007F_FFFF;
        }
        buckets
    }
}

/// e to the power of `x` for `x` in [-30, 0], to within 2⁻²² of the value; exactly 1 at 0. The same bits on every
/// machine: additions and multiplications only, none fused.
#[inline(always)]
fn exp(x: f32) -> f32 {
    // Adding it leaves the nearest integer in the last bits of the sum.
    const TO_INTEGER: f32 = 12_582_912.0;
    let shifted = x * std::f32::consts::LOG2_E + TO_INTEGER;
    let whole = shifted - TO_INTEGER;
    // ln 2 in two parts, the first with few enough bits that its product with a small integer is exact.
    let rest = x - whole * 0.693_359_4 - whole * -2.121_944_4e-4;
    // The series of e^x to the sixth power: the next term is below 2⁻²³ for |rest| ≤ ln 2 / 2.
    let series = 1.0
        + rest
            * (1.0
                + rest
                    * (0.5
                        + rest
                            * (1.0 / 6.0
                                + rest * (1.0 / 24.0 + rest * (1.0 / 120.0 + rest * (1.0 / 720.0))))));
    // The integer goes into the exponent.
    f32::from_bits(series.to_bits().wrapping_add(shifted.to_bits() << 23))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn exp_is_that_of_the_library(x in -30f32..=0.0) {
            let (ours, theirs) = (f64::from(exp(x)), f64::from(x).exp());
            prop_assert!((ours / theirs - 1.0).abs() < 2f64.powi(-22), "{ours} {theirs}");
            prop_assert!(ours <= 1.0);
        }

        #[test]
        fn the_top_is_the_beginning_of_the_sorted_row(
            logits in prop::collection::vec((-40i32..40).prop_map(|l| l as f32 / 8.0), 1..700),
            count in 0usize..300,
        ) {
            let mut peaks = Vec::new();
            block_peaks(&logits, &mut peaks);
            let (mut floors, mut keys) = (Vec::new(), Vec::new());
            top(&logits, &peaks, count, &mut floors, &mut keys);
            let mut order: Vec<usize> = (0..logits.len()).collect();
            order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
            order.truncate(count);
            let found: Vec<usize> = keys.iter().map(|k| k.token().0 as usize).collect();
            prop_assert_eq!(&found, &order);
            prop_assert_eq!(highest(&logits, &peaks).0 as usize, {
                (0..logits.len()).reduce(|a, b| if logits[b] > logits[a] { b } else { a }).unwrap()
            });
        }
    }

    #[test]
    fn exp_of_nothing_is_one() {
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-0.0), 1.0);
    }

    #[test]
    fn a_row_without_numbers_has_no_scale() {
        for logits in [vec![f32::NAN; 5], vec![f32::NEG_INFINITY; 300], Vec::new()] {
            let mut peaks = Vec::new();
            block_peaks(&logits, &mut peaks);
            assert!(Scale::new(&peaks, 1.0).is_none());
            assert_eq!(highest(&logits, &peaks), TokenId(0));
        }
    }
}
