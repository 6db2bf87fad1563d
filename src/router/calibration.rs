//! What a head says, brought in line with what came true: a·logit + b, learned online from its own predictions (Platt,
//! "Probabilistic outputs for support vector machines", 1999).

use serde::{Deserialize, Serialize};

use super::logistic::Logit;
use super::newton::Newton;

/// Variance of a and b before there is evidence: they stay near 1 and 0 until labels say otherwise.
const PRIOR: f64 = 0.02;

/// The line of all models' heads of one sort.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration(Newton);

impl Default for Calibration {
    fn default() -> Self {
        Self(Newton::new(vec![1.0, 0.0], PRIOR))
    }
}

impl Calibration {
    pub fn of(&self, said: Logit) -> Logit {
        Logit {
            mean: self.0.predict(&[said.mean, 1.0], 0.0).mean,
            ..said
        }
    }

    /// `said` must not have been learnt from `satisfied` yet.
    pub fn learn(&mut self, said: Logit, satisfied: f64, weight: f64) {
        self.0.learn(&[said.mean, 1.0], 0.0, satisfied, weight);
    }

    pub fn doubt(&mut self) {
        self.0.doubt();
    }

    pub fn fits(&self) -> bool {
        self.0.fits(2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::draw::Draw;
    use crate::router::logistic::sigmoid;

    #[test]
    fn a_boaster_is_toned_down() {
        let mut calibration = Calibration::default();
        let mut draw = Draw::new(2, 0);
        let boast = |truth: f64| Logit {
            mean: 2.0 * truth + 0.6,
            variance: 0.0,
        };
        for _ in 0..2000 {
            let truth = 4.0 * (draw.uniform() - 0.5);
            let happy = f64::from(draw.uniform() < sigmoid(truth));
            calibration.learn(boast(truth), happy, 1.0);
        }
        for truth in [-1.5, 0.0, 1.5] {
            let told = calibration.of(boast(truth)).mean;
            assert!(
                (sigmoid(told) - sigmoid(truth)).abs() < 0.05,
                "{truth} became {told}"
            );
        }
    }
}
