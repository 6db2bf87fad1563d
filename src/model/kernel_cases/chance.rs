//! Random numbers for cases: SplitMix64, the same everywhere.

use std::ops::RangeInclusive;

use super::bench::Half;

#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// In [0, 1).
    pub fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub fn between(&mut self, range: RangeInclusive<u32>) -> u32 {
        let span = u64::from(range.end() - range.start()) + 1;
        range.start() + (self.bits() % span) as u32
    }

    pub fn one_in(&mut self, times: u32) -> bool {
        self.between(1..=times) == 1
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.between(0..=from.len() as u32 - 1) as usize]
    }

    pub fn half(&mut self) -> Half {
        self.pick(&[Half::F16, Half::Bf16])
    }

    /// Evenly in (-size, size).
    pub fn values(&mut self, count: usize, size: f64) -> Vec<f64> {
        (0..count).map(|_| (self.uniform() * 2.0 - 1.0) * size).collect()
    }

    pub fn floats(&mut self, count: usize, from: f32, to: f32) -> Vec<f32> {
        (0..count)
            .map(|_| from + (to - from) * self.uniform() as f32)
            .collect()
    }

    /// The numbers below `count` in some order.
    pub fn shuffled(&mut self, count: u32) -> Vec<u32> {
        let mut all: Vec<u32> = (0..count).collect();
        for last in (1..all.len()).rev() {
            all.swap(last, self.between(0..=last as u32) as usize);
        }
        all
    }
}
