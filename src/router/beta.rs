//! Draws from Beta distributions, for policies that choose by what might be true.

use super::draw::Draw;

/// A draw from Beta(a, b), a and b ≥ 1: the ratio of two gamma draws.
pub fn beta(draw: &mut Draw, a: f64, b: f64) -> f64 {
    let (one, two) = (gamma(draw, a), gamma(draw, b));
    one / (one + two)
}

/// Marsaglia and Tsang, "A simple method for generating gamma variables" (ACM TOMS 2000), for shapes ≥ 1.
fn gamma(draw: &mut Draw, shape: f64) -> f64 {
    let d = shape.max(1.0) - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let x = normal(draw);
        let v = (1.0 + c * x).powi(3);
        // 1 − u lies in (0, 1], so its logarithm is finite.
        let u = 1.0 - draw.uniform();
        if v > 0.0 && u.ln() < 0.5 * x * x + d - d * v + d * v.ln() {
            return d * v;
        }
    }
}

/// Box and Muller.
fn normal(draw: &mut Draw) -> f64 {
    let radius = (-2.0 * (1.0 - draw.uniform()).ln()).sqrt();
    radius * (std::f64::consts::TAU * draw.uniform()).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_those_of_beta() {
        for (a, b) in [(1.0, 1.0), (3.0, 9.0), (80.0, 20.0)] {
            let draws: Vec<f64> = (0..20_000).map(|n| beta(&mut Draw::new(3, n), a, b)).collect();
            let mean = draws.iter().sum::<f64>() / 20_000.0;
            let variance = draws.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / 20_000.0;
            let total: f64 = a + b;
            let (expected, spread) = (a / total, a * b / (total * total * (total + 1.0)));
            assert!(
                (mean - expected).abs() < 4.0 * (spread / 20_000.0).sqrt(),
                "{a} {b}: {mean}"
            );
            assert!(
                (variance / spread - 1.0).abs() < 0.06,
                "{a} {b}: {variance} of {spread}"
            );
        }
    }
}
