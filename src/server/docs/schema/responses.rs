//! The Responses API.

use std::collections::HashMap;

use utoipa::ToSchema;

use super::answer::AnswerExtension;
use super::request::{ModelName, RequestExtension};
use super::tools::{FunctionWord, ToolChoiceWord};

/// Fields that are not here are ignored where that is harmless, and refused where it would change the answer.
#[derive(ToSchema)]
#[schema(example = json!({"model": "auto", "input": "What is the capital of France?", "store": false}))]
pub(crate) struct ResponseRequest {
    #[schema(inline)]
    model: ModelName,
    input: ResponseInput,
    instructions: Option<String>,
    /// What was said before it is said again to the model.
    previous_response_id: Option<String>,
    /// Keep the response, so that it can be looked up and gone on from. On unless told otherwise.
    store: Option<bool>,
    #[schema(minimum = 1)]
    max_output_tokens: Option<u32>,
    #[schema(minimum = 0, maximum = 2)]
    temperature: Option<f64>,
    #[schema(minimum = 0, maximum = 1)]
    top_p: Option<f64>,
    #[schema(minimum = 0, maximum = 20)]
    top_logprobs: Option<u32>,
    seed: Option<i64>,
    text: Option<ResponseText>,
    #[schema(max_items = 128)]
    tools: Option<Vec<ResponseTool>>,
    tool_choice: Option<ResponseToolChoice>,
    parallel_tool_calls: Option<bool>,
    metadata: Option<HashMap<String, String>>,
    include: Option<Vec<String>>,
    /// Send events instead of the whole.
    stream: Option<bool>,
    user: Option<String>,
    messplus: Option<RequestExtension>,
}

#[derive(ToSchema)]
#[serde(untagged)]
pub(crate) enum ResponseInput {
    Text(String),
    Items(Vec<InputItem>),
}

/// A message, a call that the model made, or what came of it.
#[derive(ToSchema)]
#[serde(untagged)]
pub(crate) enum InputItem {
    Message(InputMessage),
    Call(InputCall),
    Output(InputCallOutput),
}

#[derive(ToSchema)]
pub(crate) struct InputMessage {
    #[schema(nullable = false)]
    r#type: Option<MessageWord>,
    role: ItemRole,
    content: InputContent,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub(crate) enum MessageWord {
    Message,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub(crate) enum ItemRole {
    User,
    System,
    Developer,
    Assistant,
}

#[derive(ToSchema)]
#[serde(untagged)]
pub(crate) enum InputContent {
    Text(String),
    Parts(Vec<InputPart>),
}

#[derive(ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum InputPart {
    InputText { text: String },
    OutputText { text: String },
    Text { text: String },
    Refusal { refusal: String },
}

#[derive(ToSchema)]
pub(crate) struct InputCall {
    r#type: CallWord,
    call_id: String,
    name: String,
    arguments: String,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub(crate) enum CallWord {
    FunctionCall,
}

#[derive(ToSchema)]
pub(crate) struct InputCallOutput {
    r#type: CallOutputWord,
    call_id: String,
    output: InputContent,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub(crate) enum CallOutputWord {
    FunctionCallOutput,
}

#[derive(ToSchema)]
pub(crate) struct ResponseText {
    format: Option<ResponseTextFormat>,
    verbosity: Option<String>,
}

/// As `response_format` of a chat, without the object around a schema.
#[derive(ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum ResponseTextFormat {
    Text,
    JsonObject,
    JsonSchema {
        name: Option<String>,
        strict: Option<bool>,
        #[schema(value_type = Object)]
        schema: (),
    },
    Regex {
        #[schema(min_length = 1, max_length = 16384)]
        pattern: String,
    },
    Grammar {
        #[schema(min_length = 1, max_length = 16384)]
        grammar: String,
    },
}

#[derive(ToSchema)]
pub(crate) struct ResponseTool {
    r#type: FunctionWord,
    #[schema(min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9_.:-]+$")]
    name: String,
    description: Option<String>,
    #[schema(value_type = Option<Object>)]
    parameters: (),
    strict: Option<bool>,
}

#[derive(ToSchema)]
#[serde(untagged)]
pub(crate) enum ResponseToolChoice {
    Word(ToolChoiceWord),
    One(ResponseNamedFunction),
    Some(ResponseAllowedTools),
}

#[derive(ToSchema)]
pub(crate) struct ResponseNamedFunction {
    r#type: FunctionWord,
    name: String,
}

#[derive(ToSchema)]
pub(crate) struct ResponseAllowedTools {
    r#type: super::tools::AllowedToolsWord,
    mode: ToolChoiceWord,
    #[schema(min_items = 1)]
    tools: Vec<ResponseNamedFunction>,
}

/// A response, whole.
#[derive(ToSchema)]
pub(crate) struct Response {
    id: String,
    object: String,
    /// Seconds since 1970.
    created_at: u64,
    completed_at: Option<u64>,
    status: ItemStatus,
    background: bool,
    error: Option<ResponseError>,
    incomplete_details: Option<IncompleteDetails>,
    /// Who answered.
    model: String,
    output: Vec<Item>,
    instructions: Option<String>,
    max_output_tokens: Option<u32>,
    max_tool_calls: Option<i64>,
    metadata: HashMap<String, String>,
    parallel_tool_calls: bool,
    previous_response_id: Option<String>,
    prompt_cache_key: Option<String>,
    #[schema(value_type = Object)]
    reasoning: (),
    safety_identifier: Option<String>,
    service_tier: String,
    store: bool,
    temperature: Option<f64>,
    #[schema(value_type = Object)]
    text: (),
    tool_choice: ResponseToolChoice,
    tools: Vec<ResponseTool>,
    top_logprobs: u32,
    top_p: Option<f64>,
    truncation: String,
    user: Option<String>,
    usage: Option<ResponseUsage>,
    #[schema(nullable = false)]
    messplus: Option<AnswerExtension>,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub(crate) enum ItemStatus {
    InProgress,
    Completed,
    Incomplete,
    Failed,
}

#[derive(ToSchema)]
pub(crate) struct ResponseError {
    code: String,
    message: String,
}

#[derive(ToSchema)]
pub(crate) struct IncompleteDetails {
    reason: String,
}

#[derive(ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Item {
    Message {
        id: String,
        status: ItemStatus,
        role: ItemRole,
        content: Vec<ItemPart>,
    },
    FunctionCall {
        id: String,
        status: ItemStatus,
        call_id: String,
        name: String,
        arguments: String,
    },
    FunctionCallOutput {
        id: String,
        status: ItemStatus,
        call_id: String,
        output: String,
    },
}

#[derive(ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum ItemPart {
    InputText {
        text: String,
    },
    OutputText {
        text: String,
        annotations: Vec<serde_json::Value>,
        logprobs: Vec<serde_json::Value>,
    },
    Refusal {
        refusal: String,
    },
}

#[derive(ToSchema)]
pub(crate) struct ResponseUsage {
    input_tokens: u64,
    input_tokens_details: InputTokensDetails,
    output_tokens: u64,
    output_tokens_details: OutputTokensDetails,
    total_tokens: u64,
}

#[derive(ToSchema)]
pub(crate) struct InputTokensDetails {
    cached_tokens: u64,
    cache_write_tokens: u64,
}

#[derive(ToSchema)]
pub(crate) struct OutputTokensDetails {
    reasoning_tokens: u64,
}

#[derive(ToSchema)]
pub(crate) struct DeletedResponse {
    id: String,
    object: String,
    deleted: bool,
}

#[derive(ToSchema)]
pub(crate) struct InputItems {
    object: String,
    data: Vec<Item>,
    first_id: Option<String>,
    last_id: Option<String>,
    has_more: bool,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub(crate) enum ItemOrder {
    Asc,
    Desc,
}
