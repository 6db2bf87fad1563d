//! Splitting a whole number by weights so that the parts add up to it exactly.

/// Splits `total` in proportion to `weights` by the largest-remainder method: every part is within one of its exact
/// share and the parts sum to `total`. Weights that are negative or not finite count as 0; if all are 0 the split is
/// even. Ties go to the earlier part, so the caller's order must not depend on chance.
///
/// Panics never; returns nothing for no weights, in which case `total` must be 0 for the sum to hold.
pub(super) fn apportion(total: u64, weights: &[f64]) -> Vec<u64> {
    let clean: Vec<f64> = weights
        .iter()
        .map(|w| if w.is_finite() && *w > 0.0 { *w } else { 0.0 })
        .collect();
    let largest = clean.iter().copied().fold(0.0, f64::max);
    let scaled: Vec<f64> = if largest > 0.0 {
        clean.iter().map(|w| w / largest).collect()
    } else {
        vec![1.0; clean.len()]
    };
    let sum: f64 = scaled.iter().sum();

    let mut parts = Vec::with_capacity(scaled.len());
    let mut remainders = Vec::with_capacity(scaled.len());
    let mut left = total;
    for (place, weight) in scaled.iter().enumerate() {
        let exact = total as f64 * (weight / sum);
        let whole = (exact.floor() as u64).min(left);
        left -= whole;
        parts.push(whole);
        remainders.push((exact - whole as f64, place));
    }
    remainders.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    // Above 2^53 the floors lose more than one each, so the rest may go round more than once.
    for (_, place) in remainders
        .iter()
        .filter(|(_, place)| scaled[*place] > 0.0)
        .cycle()
    {
        if left == 0 {
            break;
        }
        parts[*place] += 1;
        left -= 1;
        let bulk = left / (2 * scaled.len() as u64);
        parts[*place] += bulk;
        left -= bulk;
    }
    parts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn textbook_case() {
        assert_eq!(apportion(10, &[1.0, 1.0, 1.0]), [4, 3, 3]);
        assert_eq!(apportion(7, &[0.0, 0.0]), [4, 3]);
        assert_eq!(apportion(5, &[f64::NAN, -3.0, 2.0]), [0, 0, 5]);
        assert_eq!(apportion(u64::MAX, &[1.0, 2.0]).iter().sum::<u64>(), u64::MAX);
        assert!(apportion(0, &[]).is_empty());
    }

    proptest! {
        #[test]
        fn parts_sum_and_stay_within_one(total in 0u64..1 << 50, weights in prop::collection::vec(0.0..1e9f64, 1..40)) {
            let parts = apportion(total, &weights);
            prop_assert_eq!(parts.iter().sum::<u64>(), total);
            let sum: f64 = weights.iter().sum();
            if sum > 0.0 {
                for (part, weight) in parts.iter().zip(&weights) {
                    let exact = total as f64 * weight / sum;
                    prop_assert!((*part as f64 - exact).abs() <= 1.0 + exact * 1e-12);
                }
            }
        }
    }
}
