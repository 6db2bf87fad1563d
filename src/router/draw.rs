//! Randomness without a generator to keep: a draw is a hash of (seed, decision number, stream, draw number).
//!
//! The mixer is SplitMix64's finaliser (Steele, Lea & Flood, "Fast splittable pseudorandom number
//! generators", OOPSLA 2014). A decision may therefore be taken again, by a dry run or after a restart, with
//! the same outcome.

/// The draws of one decision.
#[derive(Clone, Debug)]
pub struct Draw {
    key: u64,
    count: u64,
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// SplitMix64's finaliser: a bijection of 64 bits with full avalanche.
pub fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

impl Draw {
    pub fn new(seed: u64, decision: u64) -> Self {
        Self {
            key: mix(mix(seed.wrapping_add(GOLDEN)) ^ decision.wrapping_mul(GOLDEN)),
            count: 0,
        }
    }

    /// Uniform in [0, 1), 53 bits.
    pub fn uniform(&mut self) -> f64 {
        self.count += 1;
        let bits = mix(self.key.wrapping_add(self.count.wrapping_mul(GOLDEN)));
        (bits >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in 0..bound; 0 when `bound` is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        ((self.uniform() * bound as f64) as usize).min(bound.saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_repeat_and_are_uniform() {
        let mean = (0..20_000).map(|n| Draw::new(7, n).uniform()).sum::<f64>() / 20_000.0;
        assert!((mean - 0.5).abs() < 0.01, "{mean}");
        let (mut one, mut two) = (Draw::new(1, 5), Draw::new(1, 5));
        assert_eq!((one.uniform(), one.below(9)), (two.uniform(), two.below(9)));
        assert_ne!(Draw::new(1, 5).uniform(), Draw::new(2, 5).uniform());
        assert_eq!(one.below(0), 0);
    }
}
