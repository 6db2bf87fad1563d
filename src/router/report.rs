//! What the operator sees: per service level, what was promised, what was achieved, what it cost.

use serde::{Deserialize, Serialize};

use super::accuracy::Errors;
use super::adapt::Remap;
use crate::units::Joules;

/// Running totals of one service level.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    pub requests: u64,
    pub withdrawn: u64,
    pub expired: u64,
    pub explored: u64,
    pub judged: f64,
    pub satisfied: f64,
    /// Requests answered, joules of the answers shown, joules of the unseen ones; per model.
    pub served: Vec<u64>,
    pub joules: Vec<f64>,
    pub exploration_joules: Vec<f64>,
}

impl Tally {
    pub fn new(models: usize) -> Self {
        Self {
            requests: 0,
            withdrawn: 0,
            expired: 0,
            explored: 0,
            judged: 0.0,
            satisfied: 0.0,
            served: vec![0; models],
            joules: vec![0.0; models],
            exploration_joules: vec![0.0; models],
        }
    }

    pub fn remap(&mut self, map: &Remap) {
        self.served = map.models(&self.served, |_| 0);
        self.joules = map.models(&self.joules, |_| 0.0);
        self.exploration_joules = map.models(&self.exploration_joules, |_| 0.0);
    }
}

/// One model's part in a service level.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelReport {
    pub model: String,
    /// Share of requests that it answered, 0 to 1.
    pub share: f64,
    pub requests: u64,
    pub joules: Joules,
    pub exploration_joules: Joules,
    /// Estimated rate of satisfaction over all requests and its standard deviation.
    pub satisfaction: f64,
    pub satisfaction_sd: f64,
    pub labels: u64,
    /// Mean joules of its answers of late; a guess from its size before the first.
    pub mean_joules: Joules,
}

/// One service level.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SlaReport {
    pub sla: String,
    pub alpha: f64,
    pub policy: String,
    pub requests: u64,
    /// Requests that were never answered: they do not count for the promise.
    pub withdrawn: u64,
    /// Answers shown and judged, by weight of the label.
    pub judged: f64,
    /// Requests whose judgement is no longer awaited.
    pub expired: u64,
    /// Share of judged requests that were satisfied, with its 95 % Wilson interval; absent before the first
    /// label.
    pub satisfaction: Option<f64>,
    pub interval: Option<(f64, f64)>,
    /// Virtual queue, in requests.
    pub queue: f64,
    pub v: f64,
    pub price: f64,
    /// Share of requests that explored so far, and the chance that the next one does.
    pub explored_share: f64,
    pub exploration_rate: f64,
    pub reachable: Option<(f64, f64)>,
    /// False when α lies above what any choice of models reaches: the promise cannot be kept.
    pub feasible: bool,
    pub warming: bool,
    /// How often some model was found to have changed.
    pub changes: u64,
    /// Which predictor speaks.
    pub stage: super::event::Stage,
    pub models: Vec<ModelReport>,
}

/// The whole cost model, as shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CostReport {
    /// Over the last answers of all models, expected at the decision against final joules.
    pub overall: Option<Errors>,
    /// The same for what is expected once the length is known.
    pub given_length: Option<Errors>,
    pub since_start: Option<Errors>,
    /// By the model's name, in the zoo's order.
    pub models: Vec<(String, ModelCostReport)>,
}

/// One model's cost, as shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelCostReport {
    /// Answers that the law was learned from.
    pub measured: u64,
    /// Median of |expected − final| / final over the last answers, expected at the decision.
    pub median_error: Option<f64>,
    /// Σ expected / Σ final − 1 over the last answers.
    pub bias: Option<f64>,
    /// Mean joules of its answers of late; a guess from its size before the first.
    pub mean_joules: Joules,
    /// Errors that are left once the answer's length is known.
    pub given_length: Option<Errors>,
    pub since_start: Option<Errors>,
    /// What expectations are multiplied by so that they are right on average.
    pub correction: f64,
    /// Share of prompt tokens that the prefix cache had of late.
    pub cached_share: f64,
    pub length: LengthReport,
    pub law: LawReport,
}

/// A model's answers in tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LengthReport {
    pub mean: Option<f64>,
    /// Of the expected length.
    pub errors: Option<Errors>,
}

/// The fitted law, before the correction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LawReport {
    /// A prompt token that is computed.
    pub prompt_token: Joules,
    /// A request, whatever its size.
    pub request: Joules,
    /// A token of the answer.
    pub output_token: Joules,
    /// The part of a token's step that all who run beside it share.
    pub shared_step: Joules,
}

/// Wilson's score interval at 95 % for `satisfied` of `judged`.
pub fn wilson(satisfied: f64, judged: f64) -> Option<(f64, f64)> {
    if judged <= 0.0 {
        return None;
    }
    let (z, share) = (1.959_963_985, satisfied / judged);
    let centre = (share + z * z / (2.0 * judged)) / (1.0 + z * z / judged);
    let half = z / (1.0 + z * z / judged)
        * (share * (1.0 - share) / judged + z * z / (4.0 * judged * judged))
            .max(0.0)
            .sqrt();
    Some(((centre - half).max(0.0), (centre + half).min(1.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wilson_as_published() {
        let (low, high) = wilson(81.0, 263.0).unwrap();
        assert!(
            (low - 0.2553).abs() < 5e-4 && (high - 0.3662).abs() < 5e-4,
            "{low} {high}"
        );
        assert_eq!(wilson(0.0, 0.0), None);
    }
}
