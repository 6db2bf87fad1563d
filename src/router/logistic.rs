//! Online logistic regression over hashed features: one weight vector per model.
//!
//! [`Head`] is Bayesian with a diagonal Laplace approximation (Chapelle & Li, "An empirical evaluation of
//! Thompson sampling", NIPS 2011, algorithm 3, taken one sample at a time): weight i is Gaussian with mean
//! w_i and precision q_i,
//!
//! ```text
//! logit = offset + Σ x_i w_i,   q_i += weight · p(1−p) x_i²,   w_i += weight · (s − p) x_i / q_i
//! ```
//!
//! The offset is the base rate's logit, so a text never seen before is predicted at the base rate, and the
//! variance Σ x_i²/q_i says how much the text has yet to teach. [`Plain`] is the SGD that policy `paper` asks
//! for.

use serde::{Deserialize, Serialize};

use super::features::DIMENSIONS;

/// Precision of an unseen weight: 1/PRIOR is the variance of the logit of a wholly unseen text.
const PRIOR: f32 = 0.5;

pub fn sigmoid(logit: f64) -> f64 {
    1.0 / (1.0 + (-logit.clamp(-30.0, 30.0)).exp())
}

pub fn logit(p: f64) -> f64 {
    let p = p.clamp(1e-4, 1.0 - 1e-4);
    (p / (1.0 - p)).ln()
}

/// A prediction before it becomes a probability.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Logit {
    pub mean: f64,
    pub variance: f64,
}

impl Logit {
    /// The logit of the mean probability, to a good approximation, where the logit itself is uncertain (MacKay, "The
    /// evidence framework applied to classification networks", 1992).
    pub fn moderated(self) -> Self {
        Self {
            mean: self.mean / (1.0 + std::f64::consts::PI / 8.0 * self.variance).sqrt(),
            ..self
        }
    }
}

/// The learned head of one model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Head {
    #[serde(with = "super::sparse")]
    weights: Vec<(f32, f32)>,
}

impl Default for Head {
    fn default() -> Self {
        Self {
            weights: vec![(0.0, 0.0); DIMENSIONS],
        }
    }
}

impl Head {
    /// `offset` is the logit that an empty text gets.
    pub fn predict(&self, features: &[u16], offset: f64) -> Logit {
        let (mut sum, mut spread) = (0.0f32, 0.0f32);
        for &feature in features {
            let (weight, precision) = self.weights[feature as usize];
            sum += weight;
            spread += 1.0 / (PRIOR + precision);
        }
        let count = features.len().max(1) as f64;
        Logit {
            mean: offset + sum as f64 / count.sqrt(),
            variance: spread as f64 / count,
        }
    }

    /// Keeps what was learnt but makes it as easy to change as after a quarter of the evidence.
    pub fn doubt(&mut self) {
        self.weights
            .iter_mut()
            .for_each(|(_, precision)| *precision *= 0.25);
    }

    /// One Newton-like step towards `satisfied` (0 to 1).
    pub fn learn(&mut self, features: &[u16], offset: f64, satisfied: f64, weight: f64) {
        let p = sigmoid(self.predict(features, offset).mean);
        let x = 1.0 / (features.len().max(1) as f64).sqrt();
        let gain = (weight * p * (1.0 - p) * x * x) as f32;
        let pull = (weight * (satisfied - p) * x) as f32;
        for &feature in features {
            let (mean, precision) = &mut self.weights[feature as usize];
            *precision += gain;
            *mean += pull / (PRIOR + *precision);
        }
    }
}

/// Plain stochastic gradient descent on the binary cross-entropy, with a bias weight.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plain {
    bias: f64,
    #[serde(with = "super::sparse")]
    weights: Vec<(f32, f32)>,
}

impl Default for Plain {
    fn default() -> Self {
        Self {
            bias: 0.0,
            weights: vec![(0.0, 0.0); DIMENSIONS],
        }
    }
}

impl Plain {
    pub fn predict(&self, features: &[u16]) -> f64 {
        let sum: f32 = features.iter().map(|f| self.weights[*f as usize].0).sum();
        sigmoid(self.bias + sum as f64 / (features.len().max(1) as f64).sqrt())
    }

    pub fn learn(&mut self, features: &[u16], satisfied: f64, rate: f64) {
        let error = satisfied - self.predict(features);
        self.bias += rate * error;
        let step = (rate * error / (features.len().max(1) as f64).sqrt()) as f32;
        for &feature in features {
            self.weights[feature as usize].0 += step;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::features::hashed;

    #[test]
    fn four_samples_teach_a_task() {
        let mut head = Head::default();
        let offset = logit(0.5);
        for n in 0..4 {
            head.learn(&hashed(&format!("Reverse the word item{n}")), offset, 1.0, 1.0);
            head.learn(&hashed(&format!("How much is {n} times 17?")), offset, 0.0, 1.0);
        }
        assert!(sigmoid(head.predict(&hashed("Reverse the word zebra"), offset).mean) > 0.75);
        assert!(sigmoid(head.predict(&hashed("How much is 5 times 31?"), offset).mean) < 0.25);
        let unseen = head.predict(&hashed("Une tout autre langue"), offset);
        assert!(
            (unseen.mean - offset).abs() < 0.2 && unseen.variance > 1.5,
            "{unseen:?}"
        );
    }

    #[test]
    fn heads_survive_text() {
        let mut head = Head::default();
        for n in 0..100u16 {
            head.learn(&[n, n + 7, 16_383], 0.3, f64::from(n % 2), 1.0);
        }
        let text = serde_json::to_string(&head).unwrap();
        assert_eq!(serde_json::from_str::<Head>(&text).unwrap(), head);
    }
}
