//! Online logistic regression over few, correlated features: the Laplace approximation with the whole covariance.
//!
//! A sample x with target s moves the Gaussian N(w, P) of the weights as a Kalman filter would, the logit's own
//! curvature standing for the noise (Spiegelhalter & Lauritzen, "Sequential updating of conditional probabilities on
//! directed graphical structures", Networks 1990):
//!
//! ```text
//! m = offset + wᵀx,  p = σ(m),  h = weight · p(1−p),  v = xᵀPx
//! w += Px · weight · (s − p) / (1 + h·v),   P −= Pxxᵀ P · h / (1 + h·v)
//! ```
//!
//! [`super::logistic::Head`] keeps the diagonal of P only, which is right for words and wrong for embeddings: their
//! numbers say much the same thing, and a diagonal would count it many times over.

use serde::{Deserialize, Serialize};

use super::logistic::{Logit, sigmoid};

/// The curvature of a logit never counts as less: a prediction that was sure and wrong must be able to move.
const LEAST_CURVATURE: f64 = 0.02;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Newton {
    #[serde(with = "super::bits::doubles")]
    mean: Vec<f64>,
    /// Lower triangle, row by row.
    #[serde(with = "super::bits::doubles")]
    covariance: Vec<f64>,
    /// Variance of a weight of which nothing is known.
    prior: f64,
}

impl Newton {
    pub fn new(mean: Vec<f64>, prior: f64) -> Self {
        let mut newton = Self {
            covariance: vec![0.0; mean.len() * (mean.len() + 1) / 2],
            mean,
            prior,
        };
        for place in 0..newton.mean.len() {
            newton.covariance[row(place) + place] = prior;
        }
        newton
    }

    pub fn fits(&self, width: usize) -> bool {
        self.mean.len() == width && self.covariance.len() == row(width)
    }

    /// `x` has as many entries as there are weights.
    pub fn predict(&self, x: &[f64], offset: f64) -> Logit {
        let spread = self.spread(x);
        Logit {
            mean: offset + dot(&self.mean, x),
            variance: dot(&spread, x).max(0.0),
        }
    }

    /// One step towards `satisfied` (0 to 1).
    pub fn learn(&mut self, x: &[f64], offset: f64, satisfied: f64, weight: f64) {
        let spread = self.spread(x);
        let variance = dot(&spread, x).max(0.0);
        let p = sigmoid(offset + dot(&self.mean, x));
        let curvature = weight * (p * (1.0 - p)).max(LEAST_CURVATURE);
        let whole = 1.0 + curvature * variance;
        let pull = weight * (satisfied - p) / whole;
        let shrink = curvature / whole;
        for (place, (mean, own)) in self.mean.iter_mut().zip(&spread).enumerate() {
            *mean += pull * own;
            let start = row(place);
            for (entry, other) in self.covariance[start..=start + place].iter_mut().zip(&spread) {
                *entry -= shrink * own * other;
            }
        }
    }

    /// Keeps what was learnt, but half as sure of it as if nothing were known.
    pub fn doubt(&mut self) {
        self.covariance.iter_mut().for_each(|entry| *entry *= 0.5);
        for place in 0..self.mean.len() {
            self.covariance[row(place) + place] += 0.5 * self.prior;
        }
    }

    /// P·x.
    fn spread(&self, x: &[f64]) -> Vec<f64> {
        let mut spread = vec![0.0; x.len()];
        for (place, own) in x.iter().enumerate() {
            let entries = &self.covariance[row(place)..row(place + 1)];
            let mut sum = 0.0;
            for (other, entry) in entries[..place].iter().enumerate() {
                sum += entry * x[other];
                spread[other] += entry * own;
            }
            spread[place] += sum + entries[place] * own;
        }
        spread
    }
}

/// Where a row of the triangle begins.
fn row(place: usize) -> usize {
    place * (place + 1) / 2
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::draw::Draw;

    /// On a linear rule the weights are found, and the covariance shrinks to what the Fisher information says.
    #[test]
    fn a_known_law_is_found() {
        let truth = [1.5, -2.0, 0.0, 0.7];
        let mut newton = Newton::new(vec![0.0; 4], 4.0);
        let mut draw = Draw::new(11, 0);
        let mut sample = || -> Vec<f64> { (0..4).map(|_| 3.4 * (draw.uniform() - 0.5)).collect() };
        let mut lot = Draw::new(12, 0);
        for _ in 0..4000 {
            let x = sample();
            let happy = f64::from(lot.uniform() < sigmoid(0.3 + dot(&truth, &x)));
            newton.learn(&x, 0.3, happy, 1.0);
        }
        for (found, known) in newton.mean.iter().zip(truth) {
            assert!((found - known).abs() < 0.2, "{:?}", newton.mean);
        }
        let variances: Vec<f64> = (0..4)
            .map(|place| newton.covariance[row(place) + place])
            .collect();
        assert!(
            variances.iter().all(|v| (1e-4..1e-2).contains(v)),
            "{variances:?}"
        );
    }

    /// A feature given twice says no more than once: the pair predicts what the single one does.
    #[test]
    fn repeated_features_count_once() {
        let (mut single, mut double) = (Newton::new(vec![0.0], 2.0), Newton::new(vec![0.0; 2], 1.0));
        for n in 0..40 {
            let (x, s) = (f64::from(n % 3) - 1.0, f64::from(n % 2));
            single.learn(&[x], 0.1, s, 1.0);
            double.learn(&[x, x], 0.1, s, 1.0);
            let (one, two) = (single.predict(&[0.7], 0.1), double.predict(&[0.7, 0.7], 0.1));
            assert!((one.mean - two.mean).abs() < 1e-9 && (one.variance - two.variance).abs() < 1e-9);
        }
    }

    #[test]
    fn doubt_makes_it_movable_again() {
        let mut newton = Newton::new(vec![0.0; 2], 1.0);
        (0..200).for_each(|_| newton.learn(&[1.0, 0.5], 0.0, 1.0, 1.0));
        let sure = newton.predict(&[1.0, 0.5], 0.0);
        newton.doubt();
        let unsure = newton.predict(&[1.0, 0.5], 0.0);
        assert_eq!(sure.mean, unsure.mean);
        assert!(unsure.variance > 5.0 * sure.variance && unsure.variance < 1.25);
    }
}
