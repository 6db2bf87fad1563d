//! What models are asked.

use utoipa::ToSchema;

use super::tools::{ToolCall, ToolChoice, ToolOffer};

/// Fields that are not here are ignored where that is harmless, and refused where it would change the answer.
#[derive(ToSchema)]
#[schema(example = json!({"model": "auto", "messages": [{"role": "user", "content": "What is the capital of France?"}]}))]
pub(crate) struct ChatRequest {
    #[schema(inline)]
    model: ModelName,
    #[schema(min_items = 1)]
    messages: Vec<ChatMessage>,
    /// Log-probabilities of each token.
    logprobs: Option<bool>,
    /// And of so many likeliest ones beside it; needs `logprobs`.
    #[schema(minimum = 0, maximum = 20)]
    top_logprobs: Option<u32>,
    #[schema(max_items = 128)]
    tools: Option<Vec<ToolOffer>>,
    tool_choice: Option<ToolChoice>,
    parallel_tool_calls: Option<bool>,
    #[serde(flatten)]
    common: Sampling,
}

/// `auto`: the router decides, under the promise `default`. `auto:NAME`: under the promise of that name. Any other name is a
/// model's own, and is answered by it.
#[derive(ToSchema)]
#[schema(example = "auto")]
pub(crate) struct ModelName(String);

#[derive(ToSchema)]
pub(crate) struct ChatMessage {
    role: ChatRole,
    /// Text, or parts of it. Only an assistant's may be absent.
    content: Option<ChatContent>,
    name: Option<String>,
    /// Calls that an assistant made.
    tool_calls: Option<Vec<ToolCall>>,
    /// The call that a tool's message answers, which needs it.
    tool_call_id: Option<String>,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub(crate) enum ChatRole {
    System,
    /// As `system`.
    Developer,
    User,
    Assistant,
    Tool,
}

#[derive(ToSchema)]
#[serde(untagged)]
pub(crate) enum ChatContent {
    Text(String),
    Parts(Vec<ContentPart>),
}

#[derive(ToSchema)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(crate) enum ContentPart {
    Text { text: String },
    Refusal { refusal: String },
}

#[derive(ToSchema)]
#[schema(example = json!({"model": "demo-small", "prompt": "The capital of France is", "max_tokens": 8}))]
pub(crate) struct CompletionRequest {
    #[schema(inline)]
    model: ModelName,
    prompt: PromptInput,
    /// Log-probabilities of each token, and of so many likeliest ones beside it.
    #[schema(minimum = 0, maximum = 20)]
    logprobs: Option<u32>,
    #[serde(flatten)]
    common: Sampling,
}

/// Token ids need a model's own name in `model`.
#[derive(ToSchema)]
#[serde(untagged)]
pub(crate) enum PromptInput {
    Text(String),
    Texts(Vec<String>),
    Tokens(Vec<u32>),
    TokenLists(Vec<Vec<u32>>),
}

/// What chats and completions share. Every field may be `null`, which means absent; where the request says nothing, the
/// model's authors' advice holds.
#[derive(ToSchema)]
pub(crate) struct Sampling {
    /// Answers to make.
    #[schema(minimum = 1, maximum = 8)]
    n: Option<u32>,
    /// Tokens to generate at most; without it, as many as the context leaves.
    #[schema(minimum = 1)]
    max_tokens: Option<u32>,
    /// Its newer name, which wins.
    #[schema(minimum = 1)]
    max_completion_tokens: Option<u32>,
    /// 0 is greedy.
    #[schema(minimum = 0, maximum = 2)]
    temperature: Option<f64>,
    #[schema(minimum = 0, maximum = 1)]
    top_p: Option<f64>,
    /// 0 and -1 keep all.
    #[schema(minimum = -1)]
    top_k: Option<i64>,
    #[schema(minimum = 0, maximum = 1)]
    min_p: Option<f64>,
    #[schema(minimum = 0.01, maximum = 100)]
    repetition_penalty: Option<f64>,
    #[schema(minimum = -2, maximum = 2)]
    presence_penalty: Option<f64>,
    #[schema(minimum = -2, maximum = 2)]
    frequency_penalty: Option<f64>,
    /// Token ids, as strings, and what is added to their logits. Needs a model's own name in `model`.
    #[schema(value_type = Option<std::collections::HashMap<String, f64>>)]
    logit_bias: (),
    /// Makes sampling repeatable, whoever shares the batch.
    seed: Option<i64>,
    /// What ends an answer and is not part of it.
    stop: Option<StopStrings>,
    response_format: Option<ResponseFormat>,
    /// Send the answer as server-sent events.
    stream: Option<bool>,
    /// Only with `stream`.
    stream_options: Option<StreamOptions>,
    messplus: Option<RequestExtension>,
}

#[derive(ToSchema)]
#[serde(untagged)]
pub(crate) enum StopStrings {
    One(String),
    Many(Vec<String>),
}

#[derive(ToSchema)]
pub(crate) struct StreamOptions {
    /// End with a chunk that has no choices and all the usage.
    include_usage: Option<bool>,
}

/// What the answer has to be.
#[derive(ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum ResponseFormat {
    Text,
    JsonObject,
    JsonSchema {
        json_schema: NamedSchema,
    },
    /// The whole answer matches `pattern`.
    Regex {
        #[schema(min_length = 1, max_length = 16384)]
        pattern: String,
    },
    /// The whole answer follows `grammar`, in Lark's notation.
    Grammar {
        #[schema(min_length = 1, max_length = 16384)]
        grammar: String,
    },
}

#[derive(ToSchema)]
pub(crate) struct NamedSchema {
    name: Option<String>,
    /// Every schema is kept to strictly, whatever this says.
    strict: Option<bool>,
    /// A JSON Schema; without one any object will do.
    #[schema(value_type = Option<Object>)]
    schema: (),
}

/// What is asked beyond OpenAI's fields.
#[derive(ToSchema)]
#[schema(example = json!({"sla": "default", "reference": "42", "match": "numeric"}))]
pub(crate) struct RequestExtension {
    /// The promise to answer under; as `auto:NAME` in `model`.
    sla: Option<String>,
    /// The right answer: the server then judges every answer itself.
    reference: Option<String>,
    r#match: Option<MatchRule>,
}

/// When an answer counts as right: it is the reference, holds it, or its last number is the reference's.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub(crate) enum MatchRule {
    Exact,
    Contains,
    Numeric,
}

/// A chat's request, or a completion's.
#[derive(ToSchema)]
#[serde(untagged)]
pub(crate) enum RouteRequest {
    Chat(ChatRequest),
    Completion(CompletionRequest),
}

#[derive(ToSchema)]
#[schema(example = json!({"request_id": "req_1a20b0184ba00000", "satisfied": true}))]
pub(crate) struct FeedbackRequest {
    /// As the answer's `messplus.request_id` or `x-request-id` has it.
    request_id: String,
    satisfied: Satisfied,
}

/// Yes, no, or a share between 0 and 1.
#[derive(ToSchema)]
#[serde(untagged)]
pub(crate) enum Satisfied {
    Truth(bool),
    Share(Share),
}

#[derive(ToSchema)]
#[schema(minimum = 0, maximum = 1)]
pub(crate) struct Share(f64);

#[derive(ToSchema)]
#[schema(example = json!({"sla": "default"}))]
pub(crate) struct ResetRequest {
    /// The promise whose past is forgiven; `default` without it.
    sla: Option<String>,
}
