//! Chance that depends on a seed and a place alone, so that it does not matter in which order one asks.

/// Evenly in 0..1 (SplitMix64's finish, Steele et al. 2014).
pub(crate) fn unit(seed: u64, place: u64) -> f64 {
    let z = seed
        .wrapping_mul(0xd6e8_feb8_6659_fd93)
        .wrapping_add(place)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

/// Mean 0, deviation 1 (Box and Muller 1958).
pub(crate) fn normal(seed: u64, place: u64) -> f64 {
    let radius = (-2.0 * (1.0 - unit(seed, 2 * place)).ln()).sqrt();
    radius * (std::f64::consts::TAU * unit(seed, 2 * place + 1)).cos()
}
