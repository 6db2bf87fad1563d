//! Answers as OpenAI stream chunks.
//!
//! openai-python adds up every number and concatenates every string of a delta, so the role stands in a choice's
//! first delta alone, a call's id and name in its first fragment alone, and nothing but text follows them.

use serde_json::{Map, Value, json};

use crate::engine::{FinishReason, Logprobs};

use super::answer::{FINGERPRINT, Heading, Shape, Usage, to_value};
use super::extension::Extension;
use super::logprobs;

/// Builds the chunks of one answer and remembers what each choice has sent.
#[derive(Debug)]
pub struct Chunks {
    heading: Heading,
    include_usage: bool,
    with_logprobs: bool,
    choices: Vec<Sent>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sent {
    role: bool,
    called: bool,
    /// Characters whose tokens' log-probabilities were sent.
    offset: usize,
}

impl Chunks {
    pub fn new(heading: Heading, choices: usize, include_usage: bool, with_logprobs: bool) -> Self {
        Self {
            heading,
            include_usage,
            with_logprobs,
            choices: vec![Sent::default(); choices],
        }
    }

    pub fn include_usage(&self) -> bool {
        self.include_usage
    }

    /// More of one choice. A chat choice opens with a chunk of its own that carries the role.
    pub fn text(&mut self, index: usize, text: &str, tokens: &[Logprobs]) -> Vec<Value> {
        // Nothing was said yet: the message may still turn out to be calls alone.
        if text.is_empty() && tokens.is_empty() {
            return Vec::new();
        }
        let mut chunks = self.opening(index, json!(""));
        let logprobs = match self.heading.shape {
            _ if !self.with_logprobs => Value::Null,
            Shape::Chat => logprobs::chat(tokens),
            Shape::Text => match self.choices.get_mut(index) {
                Some(sent) => logprobs::text(tokens, &mut sent.offset),
                None => Value::Null,
            },
        };
        let choice = match self.heading.shape {
            Shape::Chat => {
                json!({"index": index, "delta": {"content": text}, "logprobs": logprobs, "finish_reason": null})
            }
            Shape::Text => json!({"text": text, "index": index, "logprobs": logprobs, "finish_reason": null}),
        };
        chunks.push(self.chunk(json!([choice]), None));
        chunks
    }

    /// A choice calls a function. Its arguments follow.
    pub fn call(&mut self, index: usize, call: usize, id: &str, name: &str) -> Vec<Value> {
        // A message that has said nothing before it calls has no content.
        let mut chunks = self.opening(index, Value::Null);
        if let Some(sent) = self.choices.get_mut(index) {
            sent.called = true;
        }
        let function = json!({"name": name, "arguments": ""});
        let call = json!({"index": call, "id": id, "type": "function", "function": function});
        chunks.push(self.delta(index, json!({"tool_calls": [call]})));
        chunks
    }

    /// More of a call's arguments.
    pub fn arguments(&self, index: usize, call: usize, text: &str) -> Value {
        let call = json!({"index": call, "function": {"arguments": text}});
        self.delta(index, json!({"tool_calls": [call]}))
    }

    /// The end of one choice; the last one to end carries the `messplus` object.
    pub fn finish(
        &mut self,
        index: usize,
        finish: FinishReason,
        extension: Option<&Extension>,
    ) -> Vec<Value> {
        let mut chunks = self.opening(index, json!(""));
        let called = self.choices.get(index).is_some_and(|sent| sent.called);
        let reason = self.heading.reason(finish, called);
        let choice = match self.heading.shape {
            Shape::Chat => json!({"index": index, "delta": {}, "logprobs": null, "finish_reason": reason}),
            Shape::Text => json!({"text": "", "index": index, "logprobs": null, "finish_reason": reason}),
        };
        chunks.push(self.chunk(json!([choice]), extension));
        chunks
    }

    /// The chunk after all choices, for a client that asked for usage. Nothing may follow it.
    pub fn usage(&self, usage: &Usage, extension: &Extension) -> Value {
        let mut chunk = self.chunk(json!([]), Some(extension));
        chunk["usage"] = usage.object();
        chunk
    }

    fn opening(&mut self, index: usize, content: Value) -> Vec<Value> {
        match self.choices.get_mut(index) {
            Some(sent) if self.heading.shape == Shape::Chat && !sent.role => sent.role = true,
            _ => return Vec::new(),
        }
        let delta = json!({"role": "assistant", "content": content, "refusal": null});
        vec![self.delta(index, delta)]
    }

    fn delta(&self, index: usize, delta: Value) -> Value {
        let choice = json!({"index": index, "delta": delta, "logprobs": null, "finish_reason": null});
        self.chunk(json!([choice]), None)
    }

    fn chunk(&self, choices: Value, extension: Option<&Extension>) -> Value {
        let object = match self.heading.shape {
            Shape::Chat => "chat.completion.chunk",
            Shape::Text => "text_completion",
        };
        let mut chunk = Map::new();
        chunk.insert("id".to_owned(), json!(self.heading.id));
        chunk.insert("object".to_owned(), json!(object));
        chunk.insert("created".to_owned(), json!(self.heading.created));
        chunk.insert("model".to_owned(), json!(self.heading.model));
        chunk.insert("system_fingerprint".to_owned(), json!(FINGERPRINT));
        chunk.insert("choices".to_owned(), choices);
        if self.include_usage {
            chunk.insert("usage".to_owned(), Value::Null);
        }
        if let Some(extension) = extension {
            chunk.insert("messplus".to_owned(), to_value(extension));
        }
        Value::Object(chunk)
    }
}
