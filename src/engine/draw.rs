//! Random numbers by counter: a draw is a function of a request's seed and a token's position, so it cannot depend
//! on who shares the batch, on preemption, or on how many draws were made before.

/// A uniform number in [0, 1) for one seed and position.
pub fn uniform(seed: u64, position: u64) -> f64 {
    let mixed = mix(mix(seed) ^ position.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    (mixed >> 11) as f64 / (1u64 << 53) as f64
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_fill_the_interval_evenly_along_seeds_and_positions() {
        for along_seeds in [true, false] {
            let mut bins = [0u32; 16];
            for i in 0..16_000 {
                let draw = if along_seeds { uniform(i, 5) } else { uniform(5, i) };
                bins[(draw * 16.0) as usize] += 1;
            }
            let chi: f64 = bins
                .iter()
                .map(|&b| (f64::from(b) - 1000.0).powi(2) / 1000.0)
                .sum();
            assert!(
                chi < 37.7,
                "chi-square over 15 degrees of freedom, p = 0.001: {chi}"
            );
        }
        assert_eq!(uniform(1, 2), uniform(1, 2));
        assert_ne!(uniform(1, 2), uniform(2, 1));
    }
}
