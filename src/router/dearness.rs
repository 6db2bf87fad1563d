//! What a text's topics say of an answer's joules, beyond what [`super::cost`] knows.
//!
//! Expected joules are multiplied by exp(u·g + u_m·g), g the text's [`Gist`]: a request that asks for much asks it of
//! every model, so the greater part is shared and a cheap model's bills tell of the dear ones. One Gaussian step a bill
//! on the relative error, as a gamma regression with log link takes it, aims at the mean.

use serde::{Deserialize, Serialize};

use super::hierarchical::{Hierarchical, Prior};
use super::topics::Gist;

const PRIOR: Prior = Prior {
    shared_level: 0.0,
    own_level: 0.0,
    shared_weight: 0.05,
    own_weight: 0.02,
};
/// Variance of an answer's relative error.
const NOISE: f64 = 0.4;
/// An answer this many times dearer than expected counts as no dearer than this.
const FURTHEST: f64 = 2.0;
/// Logarithm of the greatest factor.
const WIDEST: f64 = 1.5;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dearness(Hierarchical);

impl Dearness {
    pub fn new(models: usize) -> Self {
        Self(Hierarchical::new(&vec![0.0; models], &PRIOR))
    }

    pub fn factor(&self, model: usize, gist: &Gist) -> f64 {
        self.0.predict(model, gist).mean.clamp(-WIDEST, WIDEST).exp()
    }

    /// `plain`: joules expected without the factor.
    pub fn learn(&mut self, model: usize, gist: &Gist, plain: f64, joules: f64) {
        let ratio = joules / (plain * self.factor(model, gist)).max(f64::MIN_POSITIVE);
        self.0.approach(model, gist, (ratio - 1.0).min(FURTHEST), NOISE);
    }

    pub fn fits(&self, models: usize) -> bool {
        self.0.fits(models)
    }
}
