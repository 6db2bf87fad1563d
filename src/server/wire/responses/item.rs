//! Items: what goes into a response and what comes out of it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::engine::ChatMessage;
use crate::server::wire::messages::{add_calls, called, result};

/// One item of a conversation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Item {
    Message {
        id: String,
        status: Status,
        role: Role,
        content: Vec<Part>,
    },
    FunctionCall {
        id: String,
        status: Status,
        call_id: String,
        name: String,
        /// JSON, as the model wrote it.
        arguments: String,
    },
    FunctionCallOutput {
        id: String,
        status: Status,
        call_id: String,
        output: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    InProgress,
    Completed,
    Incomplete,
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    User,
    System,
    Developer,
    Assistant,
}

/// A part of a message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Part {
    InputText {
        text: String,
    },
    OutputText {
        text: String,
        /// There are none.
        annotations: Vec<Value>,
        logprobs: Vec<Value>,
    },
    Refusal {
        refusal: String,
    },
}

impl Part {
    /// A part in which a model speaks.
    pub fn spoken(text: String) -> Self {
        Self::OutputText {
            text,
            annotations: Vec::new(),
            logprobs: Vec::new(),
        }
    }

    fn text(&self) -> &str {
        match self {
            Self::InputText { text } | Self::OutputText { text, .. } => text,
            Self::Refusal { refusal } => refusal,
        }
    }
}

impl Item {
    pub fn id(&self) -> &str {
        match self {
            Self::Message { id, .. }
            | Self::FunctionCall { id, .. }
            | Self::FunctionCallOutput { id, .. } => id,
        }
    }

    pub fn set_status(&mut self, to: Status) {
        match self {
            Self::Message { status, .. }
            | Self::FunctionCall { status, .. }
            | Self::FunctionCallOutput { status, .. } => *status = to,
        }
    }
}

/// A conversation in turns, as models' templates want it: what a model says and the functions it calls in one breath
/// are one turn.
pub fn turns(instructions: Option<&str>, items: &[Item]) -> Vec<ChatMessage> {
    let told = instructions.map(|text| ChatMessage::new("system", text));
    let mut turns: Vec<ChatMessage> = told.into_iter().collect();
    for item in items {
        match item {
            Item::Message { role, content, .. } => {
                let texts: Vec<&str> = content.iter().map(Part::text).collect();
                let role = match role {
                    Role::User => "user",
                    Role::System | Role::Developer => "system",
                    Role::Assistant => "assistant",
                };
                turns.push(ChatMessage::new(role, texts.join("\n")));
            }
            Item::FunctionCall {
                call_id,
                name,
                arguments,
                ..
            } => {
                let call = called(call_id, name, arguments);
                match turns.last_mut().filter(|turn| turn.role == "assistant") {
                    Some(turn) => add_calls(turn, vec![call]),
                    None => {
                        let mut turn = ChatMessage::new("assistant", "");
                        add_calls(&mut turn, vec![call]);
                        turns.push(turn);
                    }
                }
            }
            Item::FunctionCallOutput { call_id, output, .. } => {
                let turn = result(call_id, output.clone(), &turns);
                turns.push(turn);
            }
        }
    }
    turns
}
