//! A message grows from what its answer says; the events of a stream and the message at its end are made in one place.

use serde::Serialize;
use serde_json::{Value, json};

use crate::engine::FinishReason;
use crate::server::wire::answer::{Usage, to_value};
use crate::server::wire::extension::Extension;
use crate::units::RequestId;

/// One event of a stream.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum MessageEvent {
    MessageStart {
        message: Value,
    },
    ContentBlockStart {
        index: usize,
        content_block: Value,
    },
    ContentBlockDelta {
        index: usize,
        delta: Value,
    },
    ContentBlockStop {
        index: usize,
    },
    MessageDelta {
        delta: Value,
        usage: Value,
        messplus: Box<Extension>,
    },
    MessageStop,
    Error {
        error: Value,
    },
}

/// What of a message was said.
enum Block {
    Text(String),
    Call { id: String, name: String, input: String },
}

pub struct MessageBuilder {
    id: String,
    model: String,
    blocks: Vec<Block>,
    /// Whether the last block is still growing.
    open: bool,
    stop_reason: Option<&'static str>,
    stop_sequence: Option<String>,
}

impl MessageBuilder {
    pub fn new(request: RequestId, model: &str) -> Self {
        Self {
            id: format!("msg_{:016x}", request.0),
            model: model.to_owned(),
            blocks: Vec::new(),
            open: false,
            stop_reason: None,
            stop_sequence: None,
        }
    }

    /// How a stream begins.
    pub fn begin(&self, prompt_tokens: u32) -> MessageEvent {
        let usage = Usage {
            prompt_tokens,
            ..Usage::default()
        };
        MessageEvent::MessageStart {
            message: self.object(&usage),
        }
    }

    pub fn text(&mut self, text: &str) -> Vec<MessageEvent> {
        let mut events = Vec::new();
        if text.is_empty() {
            return events;
        }
        if !self.open || !matches!(self.blocks.last(), Some(Block::Text(_))) {
            events.extend(self.close());
            events.push(self.add(Block::Text(String::new()), json!({"type": "text", "text": ""})));
        }
        if let Some(Block::Text(all)) = self.blocks.last_mut() {
            all.push_str(text);
        }
        events.push(self.delta(json!({"type": "text_delta", "text": text})));
        events
    }

    pub fn call(&mut self, id: &str, name: &str) -> Vec<MessageEvent> {
        let mut events: Vec<MessageEvent> = self.close().into_iter().collect();
        let shown = json!({"type": "tool_use", "id": id, "name": name, "input": {}});
        let call = Block::Call {
            id: id.to_owned(),
            name: name.to_owned(),
            input: String::new(),
        };
        events.push(self.add(call, shown));
        events
    }

    pub fn arguments(&mut self, text: &str) -> Vec<MessageEvent> {
        if let Some(Block::Call { input, .. }) = self.blocks.last_mut() {
            input.push_str(text);
        }
        vec![self.delta(json!({"type": "input_json_delta", "partial_json": text}))]
    }

    pub fn done(&mut self, finish: FinishReason, stopped_by: Option<String>) -> Vec<MessageEvent> {
        let called = self
            .blocks
            .iter()
            .any(|block| matches!(block, Block::Call { .. }));
        self.stop_reason = Some(match (finish, &stopped_by) {
            (FinishReason::Length, _) => "max_tokens",
            (FinishReason::Stop, Some(_)) => "stop_sequence",
            (FinishReason::Stop, None) if called => "tool_use",
            (FinishReason::Stop, None) => "end_turn",
        });
        self.stop_sequence = stopped_by;
        self.close().into_iter().collect()
    }

    /// How a stream ends.
    pub fn end(&self, usage: &Usage, extension: Extension) -> [MessageEvent; 2] {
        let last = MessageEvent::MessageDelta {
            delta: json!({"stop_reason": self.stop_reason, "stop_sequence": self.stop_sequence}),
            usage: usage_object(usage),
            messplus: Box::new(extension),
        };
        [last, MessageEvent::MessageStop]
    }

    /// The whole message.
    pub fn whole(&self, usage: &Usage, extension: &Extension) -> Value {
        let mut message = self.object(usage);
        message["messplus"] = to_value(extension);
        message
    }

    fn object(&self, usage: &Usage) -> Value {
        let content: Vec<Value> = self.blocks.iter().map(shown).collect();
        json!({
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": content,
            "stop_reason": self.stop_reason,
            "stop_sequence": self.stop_sequence,
            "usage": usage_object(usage),
        })
    }

    fn add(&mut self, block: Block, content_block: Value) -> MessageEvent {
        self.blocks.push(block);
        self.open = true;
        MessageEvent::ContentBlockStart {
            index: self.last_index(),
            content_block,
        }
    }

    fn close(&mut self) -> Option<MessageEvent> {
        let index = self.last_index();
        std::mem::take(&mut self.open).then_some(MessageEvent::ContentBlockStop { index })
    }

    fn delta(&self, delta: Value) -> MessageEvent {
        MessageEvent::ContentBlockDelta {
            index: self.last_index(),
            delta,
        }
    }

    fn last_index(&self) -> usize {
        self.blocks.len().saturating_sub(1)
    }
}

/// A block of a whole message. The beginning of an input that was cut short is no JSON: it shows as a text in `partial`.
fn shown(block: &Block) -> Value {
    match block {
        Block::Text(text) => json!({"type": "text", "text": text}),
        Block::Call { id, name, input } => {
            let read = serde_json::from_str::<Value>(input).unwrap_or_else(|_| json!({"partial": input}));
            json!({"type": "tool_use", "id": id, "name": name, "input": read})
        }
    }
}

/// Tokens found in the cache are counted apart.
fn usage_object(usage: &Usage) -> Value {
    json!({
        "input_tokens": usage.prompt_tokens - usage.cached_tokens.min(usage.prompt_tokens),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.completion_tokens,
    })
}
