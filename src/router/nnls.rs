//! Non-negative least squares for a handful of unknowns, exactly: every set of active unknowns is tried.

/// Unknowns.
pub const TERMS: usize = 4;

/// Minimises θᵀGθ/2 − hᵀθ over θ ≥ 0, for a positive definite G.
pub fn solve(gram: &[[f64; TERMS]; TERMS], pull: &[f64; TERMS]) -> [f64; TERMS] {
    let mut best = ([0.0; TERMS], 0.0);
    for active in 1u32..1 << TERMS {
        let Some(candidate) = restricted(gram, pull, active) else {
            continue;
        };
        if candidate.iter().any(|c| *c < 0.0) {
            continue;
        }
        // At the restricted optimum Gθ = h on the active set, so the objective is −hᵀθ/2.
        let value = -0.5 * candidate.iter().zip(pull).map(|(c, h)| c * h).sum::<f64>();
        if value < best.1 {
            best = (candidate, value);
        }
    }
    best.0
}

/// Solves Gθ = h with the inactive unknowns at 0, by Gaussian elimination with partial pivoting.
fn restricted(gram: &[[f64; TERMS]; TERMS], pull: &[f64; TERMS], active: u32) -> Option<[f64; TERMS]> {
    let (mut left, mut right) = ([[0.0; TERMS]; TERMS], [0.0; TERMS]);
    for row in 0..TERMS {
        if active & (1 << row) == 0 {
            left[row][row] = 1.0;
            continue;
        }
        right[row] = pull[row];
        for column in (0..TERMS).filter(|c| active & (1 << c) != 0) {
            left[row][column] = gram[row][column];
        }
    }
    for step in 0..TERMS {
        let pivot = (step..TERMS).max_by(|a, b| left[*a][step].abs().total_cmp(&left[*b][step].abs()))?;
        if left[pivot][step].abs() < 1e-300 {
            return None;
        }
        left.swap(step, pivot);
        right.swap(step, pivot);
        for row in step + 1..TERMS {
            let factor = left[row][step] / left[step][step];
            let above = left[step];
            for (entry, above) in left[row].iter_mut().zip(above).skip(step) {
                *entry -= factor * above;
            }
            right[row] -= factor * right[step];
        }
    }
    let mut answer = [0.0; TERMS];
    for row in (0..TERMS).rev() {
        let known: f64 = (row + 1..TERMS)
            .map(|column| left[row][column] * answer[column])
            .sum();
        answer[row] = (right[row] - known) / left[row][row];
    }
    answer.iter().all(|a| a.is_finite()).then_some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clamps_what_would_be_negative() {
        let identity = std::array::from_fn(|r| std::array::from_fn(|c| f64::from(u8::from(r == c))));
        assert_eq!(solve(&identity, &[1.0, -2.0, 3.0, 0.0]), [1.0, 0.0, 3.0, 0.0]);
    }
}
