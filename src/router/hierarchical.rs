//! What a text's topics say of every model: one logistic regression with a part that all models share.
//!
//! logit P(model m satisfies) = b + u·g + b_m + u_m·g, g the text's [`Gist`]. What is easy for one model is easy for the
//! others, so the shared part (b, u) is allowed to vary more than a model's own (b_m, u_m), and a label on a cheap
//! model's answer teaches what a dear one would have made of such a text. Bayesian with the whole covariance, one
//! Newton step a label, as in [`super::newton`], over the few entries that a model's label touches.

use serde::{Deserialize, Serialize};

use super::logistic::{Logit, sigmoid};
use super::topics::{Gist, TOPICS};

/// Numbers of a block: a constant and one a topic.
const BLOCK: usize = 1 + TOPICS;
/// Variances before there is evidence: of the constants and of the weights of topics, shared and a model's own.
#[derive(Clone, Copy, Debug)]
pub struct Prior {
    pub shared_level: f64,
    pub own_level: f64,
    pub shared_weight: f64,
    pub own_weight: f64,
}

/// That of satisfaction's logit.
pub const SATISFACTION: Prior = Prior {
    shared_level: 0.3,
    own_level: 0.3,
    shared_weight: 0.06,
    own_weight: 0.01,
};
/// The curvature of a logit never counts as less: a prediction that was sure and wrong must be able to move.
const LEAST_CURVATURE: f64 = 0.02;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hierarchical {
    /// The shared block, then one a model.
    #[serde(with = "super::bits::doubles")]
    mean: Vec<f64>,
    /// Square, row by row.
    #[serde(with = "super::bits::doubles")]
    covariance: Vec<f64>,
}

impl Hierarchical {
    /// `levels`: the logit of every model's rate as believed beforehand.
    pub fn new(levels: &[f64], prior: &Prior) -> Self {
        let width = BLOCK * (1 + levels.len());
        let (mut mean, mut covariance) = (vec![0.0; width], vec![0.0; width * width]);
        for place in 0..width {
            let (block, within) = (place / BLOCK, place % BLOCK);
            covariance[place * width + place] = match (block, within) {
                (0, 0) => prior.shared_level,
                (_, 0) => prior.own_level,
                (0, _) => prior.shared_weight,
                _ => prior.own_weight,
            };
            if block > 0 && within == 0 {
                mean[place] = levels[block - 1];
            }
        }
        Self { mean, covariance }
    }

    pub fn fits(&self, models: usize) -> bool {
        self.mean.len() == BLOCK * (1 + models) && self.covariance.len() == self.mean.len().pow(2)
    }

    pub fn predict(&self, model: usize, gist: &Gist) -> Logit {
        let x = entries(model, gist);
        let width = self.mean.len();
        let (mut mean, mut variance) = (0.0, 0.0);
        for (one, a) in &x {
            mean += self.mean[*one] * a;
            let row = &self.covariance[one * width..][..width];
            variance += a * x.iter().map(|(other, b)| row[*other] * b).sum::<f64>();
        }
        Logit {
            mean,
            variance: variance.max(0.0),
        }
    }

    /// One step of a logit towards `satisfied` (0 to 1).
    pub fn learn(&mut self, model: usize, gist: &Gist, satisfied: f64, weight: f64) {
        let p = sigmoid(self.predict(model, gist).mean);
        let curvature = weight * (p * (1.0 - p)).max(LEAST_CURVATURE);
        self.step(model, gist, weight * (satisfied - p), curvature);
    }

    /// One step of a number that fell short of what came by `error`; `noise` is the variance of what comes.
    pub fn approach(&mut self, model: usize, gist: &Gist, error: f64, noise: f64) {
        self.step(model, gist, error / noise, 1.0 / noise);
    }

    fn step(&mut self, model: usize, gist: &Gist, gradient: f64, curvature: f64) {
        let x = entries(model, gist);
        let width = self.mean.len();
        let mut spread = vec![0.0; width];
        for (place, value) in &x {
            let row = &self.covariance[place * width..][..width];
            spread
                .iter_mut()
                .zip(row)
                .for_each(|(sum, entry)| *sum += value * entry);
        }
        let variance: f64 = x.iter().map(|(place, value)| spread[*place] * value).sum();
        let whole = 1.0 + curvature * variance.max(0.0);
        let (pull, shrink) = (gradient / whole, curvature / whole);
        for (place, own) in spread.iter().enumerate() {
            self.mean[place] += pull * own;
            let row = &mut self.covariance[place * width..][..width];
            row.iter_mut()
                .zip(&spread)
                .for_each(|(entry, other)| *entry -= shrink * own * other);
        }
    }

    /// Keeps what was learnt, but as ready to change as after a quarter of the evidence.
    pub fn doubt(&mut self, prior: &Prior) {
        let fresh = Self::new(&vec![0.0; self.mean.len() / BLOCK - 1], prior);
        for (entry, first) in self.covariance.iter_mut().zip(&fresh.covariance) {
            *entry = 0.75 * *entry + 0.25 * first;
        }
    }
}

/// What a model's label on a text touches: the places of the shared block and of the model's own, with their values.
fn entries(model: usize, gist: &Gist) -> [(usize, f64); 2 * BLOCK] {
    std::array::from_fn(|at| {
        let (block, within) = (at / BLOCK, at % BLOCK);
        let start = if block == 0 { 0 } else { BLOCK * (1 + model) };
        (start + within, if within == 0 { 1.0 } else { gist[within - 1] })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::draw::Draw;
    use crate::router::newton::Newton;

    fn gist(draw: &mut Draw) -> Gist {
        std::array::from_fn(|_| 3.4 * (draw.uniform() - 0.5))
    }

    /// One model and a prior that shares nothing: the regression of [`super::super::newton`], step for step.
    #[test]
    fn one_model_alone_is_the_plain_regression() {
        let prior = Prior {
            shared_level: 0.0,
            own_level: 0.7,
            shared_weight: 0.0,
            own_weight: 0.7,
        };
        let mut both = (
            Hierarchical::new(&[0.4], &prior),
            Newton::new(vec![0.0; BLOCK], 0.7),
        );
        let mut draw = Draw::new(1, 0);
        for n in 0..200 {
            let gist = gist(&mut draw);
            let mut x = vec![1.0];
            x.extend(gist);
            let (one, other) = (both.0.predict(0, &gist), both.1.predict(&x, 0.4));
            assert!((one.mean - other.mean).abs() < 1e-9 && (one.variance - other.variance).abs() < 1e-9);
            let (satisfied, weight) = (f64::from(n % 3 == 0), 0.5 + 0.5 * draw.uniform());
            both.0.learn(0, &gist, satisfied, weight);
            both.1.learn(&x, 0.4, satisfied, weight);
        }
    }

    /// What the first model's labels say of a topic is believed of the second, which nobody judged, and less firmly.
    #[test]
    fn a_models_labels_teach_of_the_others() {
        let mut told = Hierarchical::new(&[0.0, 0.5], &SATISFACTION);
        let (mut draw, mut lot) = (Draw::new(2, 0), Draw::new(3, 0));
        for _ in 0..1500 {
            let gist = gist(&mut draw);
            told.learn(0, &gist, f64::from(lot.uniform() < sigmoid(gist[0])), 1.0);
        }
        let (mut easy, mut hard) = ([0.0; TOPICS], [0.0; TOPICS]);
        (easy[0], hard[0]) = (1.0, -1.0);
        let gap = |model| told.predict(model, &easy).mean - told.predict(model, &hard).mean;
        assert!((1.6..2.4).contains(&gap(0)), "{}", gap(0));
        assert!((1.0..gap(0)).contains(&gap(1)), "{}", gap(1));
        assert!(told.predict(1, &easy).variance > 3.0 * told.predict(0, &easy).variance);
    }

    #[test]
    fn doubt_makes_it_movable_and_text_changes_nothing() {
        let mut told = Hierarchical::new(&[0.0; 3], &SATISFACTION);
        let gist = [0.5; TOPICS];
        (0..300).for_each(|n| told.learn(n % 3, &gist, 1.0, 1.0));
        let sure = told.predict(1, &gist);
        told.doubt(&SATISFACTION);
        let unsure = told.predict(1, &gist);
        assert!(unsure.mean == sure.mean && unsure.variance > 2.0 * sure.variance);
        let text = serde_json::to_string(&told).unwrap();
        assert_eq!(serde_json::from_str::<Hierarchical>(&text).unwrap(), told);
        assert!(told.fits(3) && !told.fits(2));
    }
}
