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
}

impl Heading {
    pub fn new(shape: Shape, request: RequestId, model: &str) -> Self {
        let prefix = match shape {
            Shape::Chat => "chatcmpl",
            Shape::Text => "cmpl",
        };
        Self {
            shape,
            id: format!("{prefix}-{:016x}", request.0),
            created: unix_seconds(),
            model: model.to_owned(),
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
    pub finish: FinishReason,
    /// When the client asked for them.
    pub logprobs: Option<Vec<Logprobs>>,
}

impl Choice {
    /// A choice of which nothing was said yet.
    pub fn empty(with_logprobs: bool) -> Self {
        Self {
            text: String::new(),
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

pub(super) fn finish_word(finish: FinishReason) -> &'static str {
    match finish {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
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
            Shape::Chat => chat_choice(index, choice),
            Shape::Text => text_choice(index, choice),
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

fn chat_choice(index: usize, choice: &Choice) -> Value {
    json!({
        "index": index,
        "message": {"role": "assistant", "content": choice.text, "refusal": null},
        "logprobs": choice.logprobs.as_deref().map(logprobs::chat),
        "finish_reason": finish_word(choice.finish),
    })
}

fn text_choice(index: usize, choice: &Choice) -> Value {
    let mut offset = 0;
    json!({
        "text": choice.text,
        "index": index,
        "logprobs": choice.logprobs.as_deref().map(|tokens| logprobs::text(tokens, &mut offset)),
        "finish_reason": finish_word(choice.finish),
    })
}
