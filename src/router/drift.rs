//! When what was learnt about a model stops being true.
//!
//! Page's two-sided CUSUM on prediction errors (E. S. Page, "Continuous inspection schemes", Biometrika
//! 1954): errors that lean one way by more than `SLACK` add up, and `ALARM` of them in sum is a change.
//! With errors of deviation σ an excursion ends in a false alarm with probability near
//! exp(−2·SLACK·ALARM/σ²): 4e-7 for σ = 0.4, 7e-5 for σ = 0.5. A shift of 0.25 is noticed after some 80
//! labels.

use serde::{Deserialize, Serialize};

const SLACK: f64 = 0.1;
const ALARM: f64 = 12.0;

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Drift {
    above: f64,
    below: f64,
}

impl Drift {
    /// Takes one error (truth − prediction); true when a change is certain enough, and the sums start again.
    pub fn alarms(&mut self, error: f64, weight: f64) -> bool {
        self.above = (self.above + weight * (error - SLACK)).max(0.0);
        self.below = (self.below + weight * (-error - SLACK)).max(0.0);
        let alarm = self.above > ALARM || self.below > ALARM;
        if alarm {
            *self = Self::default();
        }
        alarm
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::draw::Draw;

    #[test]
    fn quiet_when_right_and_quick_when_wrong() {
        let (mut drift, mut draw) = (Drift::default(), Draw::new(1, 1));
        let mut label = |rate: f64| f64::from(draw.uniform() < rate);
        assert!((0..20_000).all(|_| !drift.alarms(label(0.78) - 0.78, 1.0)));
        let late = (0..1000)
            .position(|_| drift.alarms(label(0.55) - 0.78, 1.0))
            .unwrap();
        assert!(late < 200, "{late}");
    }
}
