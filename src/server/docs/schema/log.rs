//! The log of requests.

use utoipa::ToSchema;

use super::router::RouteDecision;
use super::status::EnergySource;

#[derive(ToSchema)]
#[schema(example = json!({"object": "feedback", "request_id": "req_1a20b0184ba00000", "satisfied": 1.0}))]
pub(crate) struct Feedback {
    object: String,
    request_id: String,
    satisfied: f64,
}

#[derive(ToSchema)]
pub(crate) struct RequestList {
    object: String,
    data: Vec<RequestRecord>,
    has_more: bool,
}

/// One request, whole.
#[derive(ToSchema)]
pub(crate) struct RequestRecord {
    id: String,
    /// Seconds since 1970.
    created: f64,
    route: Route,
    model: String,
    sla: Option<String>,
    policy: Option<String>,
    /// `null` for a named model. A decision that speaks of another zoo is shown as it was logged.
    #[schema(value_type = Option<Object>)]
    decision: Option<RouteDecision>,
    prompt_tokens: u64,
    completion_tokens: u64,
    finish_reason: Option<String>,
    energy: RecordEnergy,
    timing: RecordTiming,
    feedback: Option<RecordFeedback>,
    /// What the router saw.
    input_text: String,
    /// The answer shown comes first, then the unseen ones. The texts are not kept.
    answers: Vec<RecordAnswer>,
    error: Option<String>,
}

/// Who chose the model: the router or the client.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub(crate) enum Route {
    Auto,
    Named,
}

#[derive(ToSchema)]
pub(crate) struct RecordEnergy {
    prefill_joules: f64,
    decode_joules: f64,
    exploration_joules: f64,
    source: EnergySource,
    /// False while the meter's next tick is awaited.
    r#final: bool,
}

#[derive(ToSchema)]
pub(crate) struct RecordTiming {
    queue_ms: f64,
    route_ms: f64,
    first_token_ms: Option<f64>,
    total_ms: Option<f64>,
}

#[derive(ToSchema)]
pub(crate) struct RecordFeedback {
    /// 0 to 1.
    satisfied: f64,
    /// user, reference, agreement or judge.
    source: String,
    /// Seconds since 1970.
    at: f64,
}

#[derive(ToSchema)]
pub(crate) struct RecordAnswer {
    model: String,
    /// 0 to 1, once judged.
    label: Option<f64>,
    #[schema(nullable = false)]
    label_source: Option<String>,
    #[schema(nullable = false)]
    label_weight: Option<f64>,
    joules: Option<f64>,
    seconds: Option<f64>,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    Json,
    Csv,
}
