//! Anthropic's door.

use utoipa::ToSchema;

use super::answer::AnswerExtension;
use super::request::{ModelName, RequestExtension};

/// Fields that are not here are ignored where that is harmless, and refused where it would change the answer.
#[derive(ToSchema)]
#[schema(example = json!({"model": "auto", "max_tokens": 64, "messages": [{"role": "user", "content": "What is 17 + 25?"}]}))]
pub(crate) struct MessageRequest {
    #[schema(minimum = 1)]
    max_tokens: u32,
    #[serde(flatten)]
    rest: CountRequest,
}

/// A request whose tokens are only counted sets them no limit.
#[derive(ToSchema)]
#[schema(example = json!({"model": "demo-small", "messages": [{"role": "user", "content": "What is 17 + 25?"}]}))]
pub(crate) struct CountRequest {
    #[schema(inline)]
    model: ModelName,
    #[schema(min_items = 1)]
    messages: Vec<MessageTurn>,
    system: Option<MessageText>,
    #[schema(minimum = 0, maximum = 2)]
    temperature: Option<f64>,
    #[schema(minimum = 0, maximum = 1)]
    top_p: Option<f64>,
    #[schema(minimum = -1)]
    top_k: Option<i64>,
    #[schema(max_items = 16)]
    stop_sequences: Option<Vec<String>>,
    tools: Option<Vec<MessageTool>>,
    tool_choice: Option<MessageToolChoice>,
    stream: Option<bool>,
    messplus: Option<RequestExtension>,
}

#[derive(ToSchema)]
pub(crate) struct MessageTurn {
    role: TurnRole,
    content: TurnContent,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub(crate) enum TurnRole {
    User,
    Assistant,
}

#[derive(ToSchema)]
#[serde(untagged)]
pub(crate) enum TurnContent {
    Text(String),
    Blocks(Vec<TurnBlock>),
}

/// Results are a user's, uses an assistant's.
#[derive(ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum TurnBlock {
    Text {
        text: String,
    },
    ToolUse {
        id: String,
        name: String,
        #[schema(value_type = Object)]
        input: (),
    },
    ToolResult {
        tool_use_id: String,
        content: Option<MessageText>,
        is_error: Option<bool>,
    },
}

#[derive(ToSchema)]
#[serde(untagged)]
pub(crate) enum MessageText {
    Text(String),
    Parts(Vec<TextBlock>),
}

#[derive(ToSchema)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(crate) enum TextBlock {
    Text { text: String },
}

#[derive(ToSchema)]
pub(crate) struct MessageTool {
    name: String,
    description: Option<String>,
    /// A JSON Schema of an object.
    #[schema(value_type = Object)]
    input_schema: (),
}

#[derive(ToSchema)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(crate) enum MessageToolChoice {
    Auto { disable_parallel_tool_use: Option<bool> },
    Any { disable_parallel_tool_use: Option<bool> },
    Tool { name: String },
    None,
}

#[derive(ToSchema)]
pub(crate) struct Message {
    id: String,
    r#type: String,
    role: String,
    model: String,
    content: Vec<AnswerBlock>,
    stop_reason: Option<String>,
    stop_sequence: Option<String>,
    usage: MessageUsage,
    messplus: AnswerExtension,
}

#[derive(ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum AnswerBlock {
    Text {
        text: String,
    },
    ToolUse {
        id: String,
        name: String,
        #[schema(value_type = Object)]
        input: (),
    },
}

#[derive(ToSchema)]
pub(crate) struct MessageUsage {
    input_tokens: u64,
    cache_creation_input_tokens: u64,
    cache_read_input_tokens: u64,
    output_tokens: u64,
}

#[derive(ToSchema)]
#[schema(example = json!({"input_tokens": 16}))]
pub(crate) struct TokenCount {
    input_tokens: u64,
}

/// Anthropic's error.
#[derive(ToSchema)]
#[schema(example = json!({"type": "error", "error": {"type": "not_found_error", "message": "there is no model 'claude' here"},
    "request_id": "req_1a20b0184ba00000"}))]
pub(crate) struct MessageRefusal {
    r#type: String,
    error: MessageError,
    request_id: Option<String>,
}

#[derive(ToSchema)]
pub(crate) struct MessageError {
    r#type: String,
    message: String,
}
