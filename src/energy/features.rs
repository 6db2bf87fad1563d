//! What of a step predicts its energy.

use super::records::{Account, StepRecord};
use crate::units::ModelId;

/// Features per kind of work.
pub(super) const WIDTH: usize = 4;

/// Work whose energy follows one law.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Work {
    /// Forward passes of one model.
    Model(ModelId),
    /// The router's own computing.
    Router,
    /// Loading weights.
    Load,
}

/// One step's features.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct StepFeatures {
    pub(super) work: Work,
    /// For a model: prompt tokens, the step itself (1), decoded tokens, tokens attended to. For other work: seconds,
    /// and nothing else.
    pub(super) values: [f64; WIDTH],
    pub(super) seconds: f64,
}

impl StepFeatures {
    pub(super) fn of(step: &StepRecord) -> Self {
        let seconds = step.end.seconds_since(step.start);
        let sum = |part: fn(&super::StepRow) -> u32| {
            step.rows.iter().map(|r| u64::from(part(r))).sum::<u64>() as f64
        };
        let (prefill, decode) = (sum(|r| r.prefill_tokens), sum(|r| r.decode_tokens));
        // Work without tokens has no forward pass whose law it could follow, only a duration.
        let account = step.rows.first().map(|r| r.account);
        let work = match account {
            Some(Account::Router) if prefill + decode == 0.0 => Work::Router,
            Some(Account::Load) if prefill + decode == 0.0 => Work::Load,
            _ => Work::Model(step.model),
        };
        let values = match work {
            Work::Model(_) => [prefill, 1.0, decode, sum(|r| r.context)],
            Work::Router | Work::Load => [seconds, 0.0, 0.0, 0.0],
        };
        Self {
            work,
            values,
            seconds,
        }
    }

    /// The features of two steps of the same work.
    pub(super) fn and(&self, other: &Self) -> Self {
        Self {
            work: self.work,
            values: std::array::from_fn(|at| self.values[at] + other.values[at]),
            seconds: self.seconds + other.seconds,
        }
    }

    /// The features of a part of the step, energy taken as even over its time.
    pub(super) fn part(&self, fraction: f64) -> Self {
        Self {
            work: self.work,
            values: self.values.map(|v| v * fraction),
            seconds: self.seconds * fraction,
        }
    }
}

pub(super) fn dot(a: &[f64; WIDTH], b: &[f64; WIDTH]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
