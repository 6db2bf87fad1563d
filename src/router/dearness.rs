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
    shared_weight: 0.03,
    own_weight: 0.01,
};
/// Variance of an answer's relative error.
const NOISE: f64 = 0.8;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::draw::Draw;
    use crate::router::topics::TOPICS;

    /// Texts of one kind cost three times those of the other, with heavy noise: the ratio of means is found, and believed
    /// in part of a model that never answered.
    #[test]
    fn bills_tell_what_topics_cost() {
        let mut dearness = Dearness::new(2);
        let mut draw = Draw::new(1, 0);
        let kind = |dear: bool| -> Gist { [if dear { 1.0 } else { -1.0 }; TOPICS] };
        for n in 0..2000 {
            let dear = n % 2 == 0;
            // Exponential, so that some answers cost many times the mean.
            let noise = -(1.0 - draw.uniform()).ln();
            dearness.learn(0, &kind(dear), 20.0, if dear { 30.0 } else { 10.0 } * noise);
        }
        let ratio = |model| dearness.factor(model, &kind(true)) / dearness.factor(model, &kind(false));
        assert!((2.0..4.0).contains(&ratio(0)), "{}", ratio(0));
        assert!((1.5..ratio(0)).contains(&ratio(1)), "{}", ratio(1));
        assert!(dearness.fits(2) && !dearness.fits(3));
    }
}
