//! A response as an object, whole or in the making.

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::server::wire::answer::{Usage, unix_seconds};
use crate::server::wire::extension::Extension;
use crate::units::RequestId;

use super::item::{Item, Status};
use super::response_id;

/// What a response repeats of its request.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Echo {
    pub instructions: Option<String>,
    pub max_output_tokens: Option<u32>,
    pub max_tool_calls: Option<i64>,
    pub metadata: Map<String, Value>,
    pub parallel_tool_calls: bool,
    pub previous_response_id: Option<String>,
    pub prompt_cache_key: Option<String>,
    pub reasoning: Value,
    pub safety_identifier: Option<String>,
    pub service_tier: &'static str,
    pub store: bool,
    /// The model's own where the request says nothing.
    pub temperature: Option<f64>,
    pub text: Value,
    pub tool_choice: Value,
    pub tools: Vec<Value>,
    pub top_logprobs: u8,
    pub top_p: Option<f64>,
    pub truncation: &'static str,
    pub user: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
pub struct ResponseObject {
    pub id: String,
    pub object: &'static str,
    /// Seconds since 1970.
    pub created_at: u64,
    pub completed_at: Option<u64>,
    pub status: Status,
    pub background: bool,
    pub error: Option<ResponseError>,
    pub incomplete_details: Option<IncompleteDetails>,
    /// The model that answers, not the one that was asked for.
    pub model: String,
    pub output: Vec<Item>,
    #[serde(flatten)]
    pub echo: Echo,
    pub usage: Option<ResponseUsage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messplus: Option<Extension>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ResponseError {
    pub code: &'static str,
    pub message: String,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct IncompleteDetails {
    pub reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ResponseUsage {
    pub input_tokens: u32,
    pub input_tokens_details: InputTokensDetails,
    pub output_tokens: u32,
    pub output_tokens_details: OutputTokensDetails,
    pub total_tokens: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct InputTokensDetails {
    pub cached_tokens: u32,
    pub cache_write_tokens: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OutputTokensDetails {
    pub reasoning_tokens: u32,
}

impl From<&Usage> for ResponseUsage {
    fn from(usage: &Usage) -> Self {
        Self {
            input_tokens: usage.prompt_tokens,
            input_tokens_details: InputTokensDetails {
                cached_tokens: usage.cached_tokens,
                cache_write_tokens: 0,
            },
            output_tokens: usage.completion_tokens,
            output_tokens_details: OutputTokensDetails { reasoning_tokens: 0 },
            total_tokens: u64::from(usage.prompt_tokens) + u64::from(usage.completion_tokens),
        }
    }
}

impl ResponseObject {
    /// A response of which nothing was said yet.
    pub fn begun(request: RequestId, model: &str, echo: Echo) -> Self {
        Self {
            id: response_id(request),
            object: "response",
            created_at: unix_seconds(),
            completed_at: None,
            status: Status::InProgress,
            background: false,
            error: None,
            incomplete_details: None,
            model: model.to_owned(),
            output: Vec::new(),
            echo,
            usage: None,
            messplus: None,
        }
    }
}

/// What is said once a response is deleted.
pub fn deleted_response(id: &str) -> Value {
    json!({"id": id, "object": "response", "deleted": true})
}
