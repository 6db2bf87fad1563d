//! Answers in pieces: the JSON after each `data: `.

use utoipa::ToSchema;

use super::answer::{AnswerExtension, ChatLogprobs, CompletionLogprobs, FinishWord, TokenUsage};
use super::tools::ToolCallPiece;

/// One event of a stream.
#[derive(ToSchema)]
pub(crate) struct ServerSentEvent {
    /// What it is about; chats and completions have no such line.
    #[schema(nullable = false)]
    event: Option<String>,
    /// JSON, or `[DONE]` at the end of a chat or a completion.
    data: String,
}

/// One event of a streamed chat. The stream ends with `data: [DONE]`; a failure is an event with `error` before it.
#[derive(ToSchema)]
#[schema(example = json!({"id": "chatcmpl-1a20b0184ba00000", "object": "chat.completion.chunk", "created": 1795480978,
    "model": "demo-large", "system_fingerprint": "messplus-0.1.0", "choices": [{"index": 0, "delta": {"content": "Par"},
    "logprobs": null, "finish_reason": null}]}))]
pub(crate) struct ChatChunk {
    id: String,
    object: String,
    /// Seconds since 1970.
    created: u64,
    model: String,
    system_fingerprint: String,
    /// Empty in the chunk that carries the usage.
    choices: Vec<ChunkChoice>,
    /// With `stream_options.include_usage`: `null` in all chunks but the last.
    usage: Option<TokenUsage>,
    /// In the chunk that ends the last choice, and in that of the usage.
    #[schema(nullable = false)]
    messplus: Option<AnswerExtension>,
}

#[derive(ToSchema)]
pub(crate) struct ChunkChoice {
    index: u32,
    delta: Delta,
    logprobs: Option<ChatLogprobs>,
    finish_reason: Option<FinishWord>,
}

#[derive(ToSchema)]
pub(crate) struct Delta {
    /// In a choice's first chunk alone.
    #[schema(nullable = false)]
    role: Option<String>,
    content: Option<String>,
    refusal: Option<String>,
    #[schema(nullable = false)]
    tool_calls: Option<Vec<ToolCallPiece>>,
}

/// One event of a streamed completion.
#[derive(ToSchema)]
pub(crate) struct CompletionChunk {
    id: String,
    object: String,
    /// Seconds since 1970.
    created: u64,
    model: String,
    system_fingerprint: String,
    choices: Vec<CompletionChunkChoice>,
    usage: Option<TokenUsage>,
    #[schema(nullable = false)]
    messplus: Option<AnswerExtension>,
}

#[derive(ToSchema)]
pub(crate) struct CompletionChunkChoice {
    text: String,
    index: u32,
    logprobs: Option<CompletionLogprobs>,
    finish_reason: Option<FinishWord>,
}
