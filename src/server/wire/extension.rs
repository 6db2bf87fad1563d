//! The `messplus` object of every answer: who answered, why, and what it cost.

use serde::Serialize;
use serde_json::{Map, Value};

/// What this server says beyond OpenAI's fields.
#[derive(Clone, Debug, Serialize)]
pub struct Extension {
    pub request_id: String,
    pub model: String,
    /// The policy that chose, or `named` when the client did.
    pub policy: String,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub decision: Option<DecisionObject>,
    /// Share of the answers that match the request's reference, when it brought one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub satisfied: Option<f64>,
    pub energy: EnergyObject,
    pub timing: Timing,
}

/// Why the router chose as it did; absent where it did not choose.
#[derive(Clone, Debug, Serialize)]
pub struct DecisionObject {
    pub sla: String,
    pub alpha: f64,
    pub explored: bool,
    /// Predicted chance of a satisfying answer, by model.
    pub satisfaction: Map<String, Value>,
    /// By model.
    pub expected_joules: Map<String, Value>,
    pub queue: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EnergyObject {
    /// Prefill and decode of the answer the client gets.
    pub joules: f64,
    pub prefill_joules: f64,
    pub decode_joules: f64,
    /// Other models' answers to the same request, made to learn from.
    pub exploration_joules: f64,
    pub source: String,
    /// False while the meter has not yet ticked past the request's last step.
    #[serde(rename = "final")]
    pub is_final: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Timing {
    pub queue_ms: f64,
    pub route_ms: f64,
    pub first_token_ms: f64,
    /// What the lane took of it, from the queue to the last token.
    pub engine_ms: f64,
    pub total_ms: f64,
}
