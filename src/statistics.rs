//! Repeated measurements drawn together. A leaf: it knows no other module.

/// Mean, standard deviation and half of the 95 % interval of the mean.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spread {
    pub mean: f64,
    pub sd: f64,
    pub ci95: f64,
}

impl Spread {
    /// Both spreads are 0 for fewer than two values.
    pub fn of(values: &[f64]) -> Self {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count.max(1.0);
        let still = Self {
            mean,
            sd: 0.0,
            ci95: 0.0,
        };
        // The same values added up in another order differ by rounding alone.
        if values.len() < 2 || values.iter().all(|v| (v - mean).abs() <= 1e-9 * mean.abs()) {
            return still;
        }
        let sd = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (count - 1.0)).sqrt();
        Self {
            mean,
            sd,
            ci95: student(values.len() - 1) * sd / count.sqrt(),
        }
    }
}

/// The 97.5 % quantile of Student's t.
fn student(freedom: usize) -> f64 {
    const EXACT: [f64; 9] = [
        12.706_205, 4.302_653, 3.182_446, 2.776_445, 2.570_582, 2.446_912, 2.364_624, 2.306_004, 2.262_157,
    ];
    if let Some(exact) = EXACT.get(freedom - 1) {
        return *exact;
    }
    // Cornish and Fisher's expansion about the normal quantile; right to 3 digits from here on.
    let (z, n) = (1.959_964_f64, freedom as f64);
    z + (z.powi(3) + z) / (4.0 * n)
        + (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / (96.0 * n * n)
        + (3.0 * z.powi(7) + 19.0 * z.powi(5) + 17.0 * z.powi(3) - 15.0 * z) / (384.0 * n.powi(3))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Quantiles from tables of the t distribution.
    #[test]
    fn intervals_are_students() {
        for (freedom, table) in [
            (1, 12.706),
            (2, 4.303),
            (5, 2.571),
            (9, 2.262),
            (30, 2.042),
            (1000, 1.962),
        ] {
            assert!(
                (student(freedom) - table).abs() < 2e-3,
                "{freedom}: {}",
                student(freedom)
            );
        }
        let spread = Spread::of(&[1.0, 2.0, 3.0]);
        assert_eq!((spread.mean, spread.sd), (2.0, 1.0));
        assert!((spread.ci95 - 4.302_653 / 3f64.sqrt()).abs() < 1e-9);
    }

    #[test]
    fn one_value_and_equal_values_have_no_spread() {
        for values in [&[2.0][..], &[0.1 + 0.2, 0.3, 0.3]] {
            let spread = Spread::of(values);
            assert_eq!((spread.sd, spread.ci95), (0.0, 0.0), "{values:?}");
        }
        assert_eq!(Spread::of(&[]), Spread::default());
    }
}
