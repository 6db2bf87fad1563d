//! What models answer.

use std::collections::HashMap;

use utoipa::ToSchema;

use super::status::EnergySource;
use super::tools::ToolCall;

#[derive(ToSchema)]
#[schema(example = json!({"id": "chatcmpl-1a20b0184ba00000", "object": "chat.completion", "created": 1795480978,
    "model": "demo-large", "choices": [{"index": 0, "message": {"role": "assistant", "content": "Paris", "refusal": null},
    "logprobs": null, "finish_reason": "stop"}], "usage": {"prompt_tokens": 16, "completion_tokens": 6, "total_tokens": 22,
    "prompt_tokens_details": {"cached_tokens": 0}, "completion_tokens_details": {"reasoning_tokens": 0}},
    "system_fingerprint": "messplus-0.1.0", "messplus": {"request_id": "req_1a20b0184ba00000", "model": "demo-large",
    "policy": "mess-plus", "sla": "default", "alpha": 0.85, "explored": true, "satisfaction": {"demo-small": 0.5,
    "demo-large": 0.9}, "expected_joules": {"demo-small": 0.0003, "demo-large": 0.0059}, "queue": 0.0, "energy":
    {"joules": 0.701195, "prefill_joules": 0.315539, "decode_joules": 0.385656, "exploration_joules": 0.0, "source":
    "modelled", "final": false}, "timing": {"queue_ms": 0.1, "route_ms": 6.0, "first_token_ms": 11.8, "engine_ms": 19.7,
    "total_ms": 26.3}}}))]
pub(crate) struct ChatCompletion {
    id: String,
    object: String,
    /// Seconds since 1970.
    created: u64,
    /// Who answered.
    model: String,
    choices: Vec<ChatChoice>,
    usage: TokenUsage,
    system_fingerprint: String,
    messplus: AnswerExtension,
}

#[derive(ToSchema)]
pub(crate) struct ChatChoice {
    index: u32,
    message: AnswerMessage,
    logprobs: Option<ChatLogprobs>,
    finish_reason: FinishWord,
}

#[derive(ToSchema)]
pub(crate) struct AnswerMessage {
    role: String,
    content: Option<String>,
    refusal: Option<String>,
    #[schema(nullable = false)]
    tool_calls: Option<Vec<ToolCall>>,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub(crate) enum FinishWord {
    Stop,
    Length,
    ToolCalls,
}

#[derive(ToSchema)]
pub(crate) struct ChatLogprobs {
    content: Vec<ChatToken>,
    refusal: Option<String>,
}

#[derive(ToSchema)]
pub(crate) struct ChatToken {
    token: String,
    logprob: f64,
    bytes: Vec<u8>,
    top_logprobs: Vec<RivalToken>,
}

#[derive(ToSchema)]
pub(crate) struct RivalToken {
    token: String,
    logprob: f64,
    bytes: Vec<u8>,
}

#[derive(ToSchema)]
pub(crate) struct Completion {
    id: String,
    object: String,
    /// Seconds since 1970.
    created: u64,
    model: String,
    choices: Vec<CompletionChoice>,
    usage: TokenUsage,
    system_fingerprint: String,
    messplus: AnswerExtension,
}

#[derive(ToSchema)]
pub(crate) struct CompletionChoice {
    text: String,
    index: u32,
    logprobs: Option<CompletionLogprobs>,
    finish_reason: FinishWord,
}

/// Lists side by side, an entry a token.
#[derive(ToSchema)]
pub(crate) struct CompletionLogprobs {
    tokens: Vec<String>,
    token_logprobs: Vec<f64>,
    top_logprobs: Vec<HashMap<String, f64>>,
    text_offset: Vec<u64>,
}

#[derive(ToSchema)]
pub(crate) struct TokenUsage {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    prompt_tokens_details: PromptDetails,
    completion_tokens_details: CompletionDetails,
}

#[derive(ToSchema)]
pub(crate) struct PromptDetails {
    /// Found in the prefix cache.
    cached_tokens: u64,
}

#[derive(ToSchema)]
pub(crate) struct CompletionDetails {
    reasoning_tokens: u64,
}

/// Who answered, why, and what it cost. What speaks of a decision is absent where the client named the model.
#[derive(ToSchema)]
pub(crate) struct AnswerExtension {
    request_id: String,
    model: String,
    /// The policy that chose, or `named`.
    policy: String,
    #[schema(nullable = false)]
    sla: Option<String>,
    /// The promised share.
    #[schema(nullable = false)]
    alpha: Option<f64>,
    /// Whether the choice was made to learn rather than to save.
    #[schema(nullable = false)]
    explored: Option<bool>,
    /// Predicted chance of a satisfying answer, by model.
    #[schema(nullable = false)]
    satisfaction: Option<HashMap<String, f64>>,
    /// By model.
    #[schema(nullable = false)]
    expected_joules: Option<HashMap<String, f64>>,
    /// How far behind the promise this service level is, in requests.
    #[schema(nullable = false)]
    queue: Option<f64>,
    /// Share of the answers that match the request's reference.
    #[schema(nullable = false)]
    satisfied: Option<f64>,
    energy: AnswerEnergy,
    timing: AnswerTiming,
}

#[derive(ToSchema)]
pub(crate) struct AnswerEnergy {
    /// Prefill and decode of this answer.
    joules: f64,
    prefill_joules: f64,
    decode_joules: f64,
    /// Other models' answers to the same request, made to learn from.
    exploration_joules: f64,
    source: EnergySource,
    /// False while the meter has not ticked past the answer's last step; `GET /v1/requests/{id}` has the final joules.
    r#final: bool,
}

#[derive(ToSchema)]
pub(crate) struct AnswerTiming {
    queue_ms: f64,
    route_ms: f64,
    first_token_ms: f64,
    /// What the lane took of it, from the queue to the last token.
    engine_ms: f64,
    total_ms: f64,
}
