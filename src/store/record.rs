//! One request as it is kept and shown: plain data, no joules or labels invented for what is not known.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::units::RequestId;

/// Joules of a request, as far as they are attributed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EnergyRecord {
    pub prefill_joules: f64,
    pub decode_joules: f64,
    /// Joules of unseen answers made on this request's behalf.
    pub exploration_joules: f64,
    /// nvml, rapl or modelled.
    pub source: String,
    /// False while the meter's next tick is awaited.
    #[serde(rename = "final")]
    pub settled: bool,
}

impl EnergyRecord {
    /// Joules of the answer itself.
    pub fn joules(&self) -> f64 {
        self.prefill_joules + self.decode_joules
    }
}

/// Where the time went, in milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TimingRecord {
    pub queue_ms: f64,
    pub route_ms: f64,
    pub first_token_ms: Option<f64>,
    pub total_ms: Option<f64>,
}

/// One model's answer to a request, the one shown or an unseen one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AnswerRecord {
    pub model: String,
    /// 0 to 1, once judged.
    pub label: Option<f64>,
    /// Who said so: reference, agreement or judge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_source: Option<String>,
    /// Trust in it, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_weight: Option<f64>,
    pub joules: Option<f64>,
    pub seconds: Option<f64>,
}

/// What somebody said about the answer shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeedbackRecord {
    /// 0 to 1.
    pub satisfied: f64,
    /// user, reference, agreement or judge.
    pub source: String,
    /// Seconds since 1970.
    pub at: f64,
}

/// The whole record of a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RequestRecord {
    pub id: RequestId,
    /// Seconds since 1970.
    pub created: f64,
    /// `auto` when the router chose, `named` when the client did.
    pub route: String,
    pub model: String,
    pub sla: Option<String>,
    pub policy: Option<String>,
    /// The router's decision as it was logged; null for a named model.
    pub decision: Value,
    pub prompt_tokens: u32,
    pub completion_tokens: u32,
    pub finish_reason: Option<String>,
    pub energy: EnergyRecord,
    pub timing: TimingRecord,
    /// Written by [`super::Store::feedback`] alone: what a later version of the record says here is ignored.
    #[serde(default)]
    pub feedback: Option<FeedbackRecord>,
    pub input_text: String,
    /// The answer shown and the unseen ones.
    pub answers: Vec<AnswerRecord>,
    pub error: Option<String>,
}

impl RequestRecord {
    /// A request that has just arrived.
    pub fn new(id: RequestId, created: f64, route: &str, model: &str) -> Self {
        Self {
            id,
            created,
            route: route.to_owned(),
            model: model.to_owned(),
            sla: None,
            policy: None,
            decision: Value::Null,
            prompt_tokens: 0,
            completion_tokens: 0,
            finish_reason: None,
            energy: EnergyRecord::default(),
            timing: TimingRecord::default(),
            feedback: None,
            input_text: String::new(),
            answers: vec![],
            error: None,
        }
    }
}
