//! Answers as OpenAI objects, whole.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::{Value, json};

use crate::engine::{FinishReason, Logprobs};
use crate::units::RequestId;

use super::extension::Extension;
use super::logprobs;

/// What OpenAI calls the configuration that answered.
pub(super) const FINGERPRINT: &str = concat!("messplus-", env!("CARGO_PKG_VERSION"));

/// Which of the two doors an answer leaves by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Chat,
    Text,
}

/// What every object of one answer repeats.
#[derive(Clone, Debug)]
pub struct Heading {
    pub shape: Shape,
    pub id: String,
    /// Seconds since 1970.
    pub created: u64,
    /// The model that answers, not the one that was asked for.
    pub model: String,
    /// Whether the client named the function to call: then a call is no reason for an answer to end.
    pub named_call: bool,
}

impl Heading {
    pub fn new(shape: Shape, request: RequestId, model: &str, named_call: bool) -> Self {
        let prefix = match shape {
            Shape::Chat => "chatcmpl",
            Shape::Text => "cmpl",
        };
        Self {
            shape,
            id: format!("{prefix}-{:016x}", request.0),
            created: unix_seconds(),
            model: model.to_owned(),
            named_call,
        }
    }

    /// Why a choice ended.
    pub(super) fn reason(&self, finish: FinishReason, called: bool) -> &'static str {
        match finish {
            FinishReason::Length => "length",
            FinishReason::Stop if called && !self.named_call => "tool_calls",
            FinishReason::Stop => "stop",
        }
    }
}

/// A call of a function.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ToolCall {
    pub id: String,
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub function: CalledFunction,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CalledFunction {
    pub name: String,
    /// JSON, as the model wrote it.
    pub arguments: String,
}

impl ToolCall {
    pub fn new(id: String, name: String) -> Self {
        let arguments = String::new();
        Self {
            id,
            kind: "function",
            function: CalledFunction { name, arguments },
        }
    }
}

/// Seconds since 1970.
pub(crate) fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |passed| passed.as_secs())
}

/// One finished choice.
#[derive(Clone, Debug)]
pub struct Choice {
    pub text: String,
    pub calls: Vec<ToolCall>,
    pub finish: FinishReason,
    /// When the client asked for them.
    pub logprobs: Option<Vec<Logprobs>>,
}

impl Choice {
    /// A choice of which nothing was said yet.
    pub fn empty(with_logprobs: bool) -> Self {
        Self {
            text: String::new(),
            calls: Vec::new(),
            finish: FinishReason::Stop,
            logprobs: with_logprobs.then(Vec::new),
        }
    }

    pub fn push(&mut self, text: &str, tokens: Vec<Logprobs>) {
        self.text.push_str(text);
        if let Some(all) = &mut self.logprobs {
            all.extend(tokens);
        }
    }
}

/// Tokens in and out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub prompt_tokens: u32,
    pub cached_tokens: u32,
    pub completion_tokens: u32,
}

impl Usage {
    pub(super) fn object(&self) -> Value {
        json!({
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": u64::from(self.prompt_tokens) + u64::from(self.completion_tokens),
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
            "completion_tokens_details": {"reasoning_tokens": 0},
        })
    }
}

/// Plain data to JSON. Only maps with keys that are not strings can fail, and there are none.
pub(crate) fn to_value(data: &impl Serialize) -> Value {
    serde_json::to_value(data).unwrap_or(Value::Null)
}

/// The answer to a request that did not stream.
pub fn whole_answer(heading: &Heading, choices: &[Choice], usage: &Usage, extension: &Extension) -> Value {
    let object = match heading.shape {
        Shape::Chat => "chat.completion",
        Shape::Text => "text_completion",
    };
    let shown: Vec<Value> = choices
        .iter()
        .enumerate()
        .map(|(index, choice)| match heading.shape {
            Shape::Chat => chat_choice(heading, index, choice),
            Shape::Text => text_choice(heading, index, choice),
        })
        .collect();
    json!({
        "id": heading.id,
        "object": object,
        "created": heading.created,
        "model": heading.model,
        "choices": shown,
        "usage": usage.object(),
        "system_fingerprint": FINGERPRINT,
        "messplus": to_value(extension),
    })
}

fn chat_choice(heading: &Heading, index: usize, choice: &Choice) -> Value {
    let called = !choice.calls.is_empty();
    let content = Some(choice.text.as_str()).filter(|text| !called || !text.is_empty());
    let mut message = json!({"role": "assistant", "content": content, "refusal": null});
    if called {
        message["tool_calls"] = to_value(&choice.calls);
    }
    json!({
        "index": index,
        "message": message,
        "logprobs": choice.logprobs.as_deref().map(logprobs::chat),
        "finish_reason": heading.reason(choice.finish, called),
    })
}

fn text_choice(heading: &Heading, index: usize, choice: &Choice) -> Value {
    let mut offset = 0;
    json!({
        "text": choice.text,
        "index": index,
        "logprobs": choice.logprobs.as_deref().map(|tokens| logprobs::text(tokens, &mut offset)),
        "finish_reason": heading.reason(choice.finish, false),
    })
}
