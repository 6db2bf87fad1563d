//! Least squares from running sums: normal equations that forget, and their non-negative solution.

/// Running sums of a weighted least-squares problem `y ≈ φ·x`: memory grows with the square of the features, not with
/// the number of observations.
#[derive(Clone, Debug)]
pub(super) struct Normal {
    n: usize,
    gram: Vec<f64>,
    rhs: Vec<f64>,
    square: f64,
    /// Observations, decayed like everything else.
    count: f64,
}

impl Normal {
    pub(super) fn new(n: usize) -> Self {
        Self {
            n,
            gram: vec![0.0; n * n],
            rhs: vec![0.0; n],
            square: 0.0,
            count: 0.0,
        }
    }

    /// Adds features, nothing known about them yet.
    pub(super) fn grow(&mut self, n: usize) {
        let mut gram = vec![0.0; n * n];
        for i in 0..self.n {
            gram[i * n..i * n + self.n].copy_from_slice(&self.gram[i * self.n..(i + 1) * self.n]);
        }
        self.gram = gram;
        self.rhs.resize(n, 0.0);
        self.n = n;
    }

    /// Multiplies all evidence by `factor`. Uniform on purpose: forgetting some features faster than others would make
    /// the sums contradict each other.
    pub(super) fn decay(&mut self, factor: f64) {
        self.gram
            .iter_mut()
            .chain(&mut self.rhs)
            .for_each(|v| *v *= factor);
        self.square *= factor;
        self.count *= factor;
    }

    pub(super) fn add(&mut self, features: &[f64], y: f64, weight: f64) {
        for (i, fi) in features.iter().enumerate().filter(|(_, f)| **f != 0.0) {
            let wi = weight * fi;
            for (cell, fj) in self.gram[i * self.n..(i + 1) * self.n].iter_mut().zip(features) {
                *cell += wi * fj;
            }
            self.rhs[i] += wi * y;
        }
        self.square += weight * y * y;
        self.count += 1.0;
    }

    pub(super) fn count(&self) -> f64 {
        self.count
    }

    /// The weighted sum of squared residuals of `x`.
    pub(super) fn residual(&self, x: &[f64]) -> f64 {
        let mut sum = self.square;
        for i in 0..self.n {
            let ax: f64 = self.gram[i * self.n..(i + 1) * self.n]
                .iter()
                .zip(x)
                .map(|(a, b)| a * b)
                .sum();
            sum += x[i] * (ax - 2.0 * self.rhs[i]);
        }
        sum.max(0.0)
    }

    /// The non-negative solution, held near `target` where the data say little: each feature's pull is `hold` times
    /// its own evidence. A `known` first feature is taken as given and the others are solved for it.
    pub(super) fn solve(&self, target: &[f64], hold: f64, known: Option<f64>) -> Vec<f64> {
        let n = self.n;
        let (mut gram, mut rhs) = (self.gram.clone(), self.rhs.clone());
        if let Some(value) = known {
            for i in 0..n {
                rhs[i] -= gram[i * n] * value;
                (gram[i * n], gram[i]) = (0.0, 0.0);
            }
            (gram[0], rhs[0]) = (1.0, value);
        }
        for i in 0..n {
            let own = &mut gram[i * n + i];
            let pull = if *own > 0.0 { *own * hold } else { 1.0 };
            *own += pull;
            rhs[i] += pull
                * if i == 0 {
                    known.unwrap_or(target[0])
                } else {
                    target[i]
                };
        }
        non_negative(&gram, &rhs, n)
    }
}

/// Minimises `½·xᵀGx − rᵀx` over `x ≥ 0` by Lawson and Hanson's active sets (Solving Least Squares Problems, 1974,
/// chapter 23) on the normal equations. `gram` is symmetric positive definite, `n × n`.
pub(super) fn non_negative(gram: &[f64], rhs: &[f64], n: usize) -> Vec<f64> {
    // Features differ by orders of magnitude (steps, context tokens), so work with unit diagonals.
    let scale: Vec<f64> = (0..n).map(|i| gram[i * n + i].max(0.0).sqrt()).collect();
    let usable = |i: usize| scale[i] > 0.0 && scale[i].is_finite();
    let g = |i: usize, j: usize| gram[i * n + j] / (scale[i] * scale[j]);
    let r: Vec<f64> = (0..n)
        .map(|i| if usable(i) { rhs[i] / scale[i] } else { 0.0 })
        .collect();
    let tolerance = 1e-11 * r.iter().fold(0.0f64, |m, v| m.max(v.abs()));

    let mut x = vec![0.0; n];
    let mut free: Vec<usize> = Vec::new();
    // Each turn frees one feature; three times as many turns as features is ample (Lawson and Hanson, p. 164).
    for _ in 0..3 * n + 10 {
        let slope = |i: usize| r[i] - free.iter().map(|&j| g(i, j) * x[j]).sum::<f64>();
        let best = (0..n)
            .filter(|i| usable(*i) && !free.contains(i))
            .map(|i| (i, slope(i)))
            .max_by(|a, b| a.1.total_cmp(&b.1));
        let Some((entering, _)) = best.filter(|(_, s)| *s > tolerance) else {
            break;
        };
        free.push(entering);
        while let Some(z) = solve_positive(&free, &g, &r) {
            let blocked = free.iter().zip(&z).filter(|(_, v)| **v <= 0.0);
            let step = blocked.map(|(&i, v)| x[i] / (x[i] - v)).fold(1.0, f64::min);
            if step >= 1.0 && z.iter().all(|v| *v > 0.0) {
                free.iter().zip(&z).for_each(|(&i, v)| x[i] = *v);
                break;
            }
            let step = if step.is_finite() { step } else { 0.0 };
            free.iter().zip(&z).for_each(|(&i, v)| x[i] += step * (v - x[i]));
            let before = free.len();
            free = free
                .iter()
                .zip(&z)
                .filter(|(i, v)| **v > 0.0 || x[**i] > 1e-14)
                .map(|(&i, _)| i)
                .collect();
            if free.len() == before {
                free.pop();
            }
            (0..n).filter(|i| !free.contains(i)).for_each(|i| x[i] = 0.0);
        }
    }
    (0..n)
        .map(|i| if usable(i) { x[i].max(0.0) / scale[i] } else { 0.0 })
        .collect()
}

/// Solves the free features' equations by Cholesky. `None` when they are not positive definite to working precision
/// or there are none.
fn solve_positive(free: &[usize], g: &impl Fn(usize, usize) -> f64, r: &[f64]) -> Option<Vec<f64>> {
    let m = free.len();
    if m == 0 {
        return None;
    }
    let mut lower = vec![0.0; m * m];
    for i in 0..m {
        for j in 0..=i {
            let dot: f64 = (0..j).map(|k| lower[i * m + k] * lower[j * m + k]).sum();
            let value = g(free[i], free[j]) - dot;
            if i == j {
                if value <= 1e-13 {
                    return None;
                }
                lower[i * m + i] = value.sqrt();
            } else {
                lower[i * m + j] = value / lower[j * m + j];
            }
        }
    }
    let mut z: Vec<f64> = free.iter().map(|&i| r[i]).collect();
    for i in 0..m {
        let dot: f64 = (0..i).map(|k| lower[i * m + k] * z[k]).sum();
        z[i] = (z[i] - dot) / lower[i * m + i];
    }
    for i in (0..m).rev() {
        let dot: f64 = (i + 1..m).map(|k| lower[k * m + i] * z[k]).sum();
        z[i] = (z[i] - dot) / lower[i * m + i];
    }
    Some(z)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn objective(gram: &[f64], rhs: &[f64], x: &[f64]) -> f64 {
        let n = x.len();
        (0..n)
            .map(|i| x[i] * (0.5 * (0..n).map(|j| gram[i * n + j] * x[j]).sum::<f64>() - rhs[i]))
            .sum()
    }

    /// The optimum by trying every subset of free features.
    fn brute_force(gram: &[f64], rhs: &[f64], n: usize) -> f64 {
        let mut best = 0.0f64;
        for subset in 1u32..1 << n {
            let free: Vec<usize> = (0..n).filter(|i| subset >> i & 1 == 1).collect();
            let Some(z) = solve_positive(&free, &|i, j| gram[i * n + j], rhs) else {
                continue;
            };
            if z.iter().all(|v| *v >= 0.0) {
                let mut x = vec![0.0; n];
                free.iter().zip(&z).for_each(|(&i, v)| x[i] = *v);
                best = best.min(objective(gram, rhs, &x));
            }
        }
        best
    }

    proptest! {
        #[test]
        fn matches_brute_force(rows in prop::collection::vec((prop::collection::vec(-1.0..3.0f64, 5), -4.0..4.0f64), 6..20)) {
            let mut normal = Normal::new(5);
            rows.iter().for_each(|(features, y)| normal.add(features, *y, 1.0));
            for i in 0..5 { normal.gram[i * 5 + i] += 1e-3; }
            let x = non_negative(&normal.gram, &normal.rhs, 5);
            prop_assert!(x.iter().all(|v| *v >= 0.0));
            let (got, want) = (objective(&normal.gram, &normal.rhs, &x), brute_force(&normal.gram, &normal.rhs, 5));
            prop_assert!((got - want).abs() <= 1e-8 * (1.0 + want.abs()), "{got} against {want}");
        }
    }

    #[test]
    fn growth_keeps_what_was_learnt_and_unseen_features_stay_at_target() {
        let mut normal = Normal::new(1);
        normal.add(&[2.0], 6.0, 1.0);
        normal.grow(3);
        normal.add(&[1.0, 4.0, 0.0], 11.0, 1.0);
        let x = normal.solve(&[0.0, 0.0, 7.0], 1e-9, None);
        assert!(
            (x[0] - 3.0).abs() < 1e-6 && (x[1] - 2.0).abs() < 1e-6 && (x[2] - 7.0).abs() < 1e-9,
            "{x:?}"
        );
        assert!(normal.residual(&x) < 1e-9);
        let x = normal.solve(&[0.0, 0.0, 7.0], 1e-9, Some(1.0));
        assert!((x[0] - 1.0).abs() < 1e-6 && (x[1] - 2.5).abs() < 1e-6, "{x:?}");
    }
}
