//! The OpenAI wire: requests become plain asks at one gate, answers become OpenAI objects at another.

mod answer;
mod anthropic;
mod ask;
mod chat;
mod chunk;
mod common;
mod completion;
mod error;
mod extension;
mod fields;
mod format;
mod logprobs;
mod messages;
mod reference;
mod refused;
#[cfg(test)]
mod request_tests;
mod responses;
#[cfg(test)]
mod stream_laws;
mod tools;
mod verdict;

pub use answer::{Choice, Heading, Shape, ToolCall, Usage, whole_answer};
pub use anthropic::{MessageBuilder, MessageEvent, count_ask, message_ask};
pub use ask::{Ask, CallChoice, Delivery, Prompt, SamplingWish, Target, ToolUse};
pub use chat::chat_ask;
pub use chunk::Chunks;
pub use completion::completion_ask;
pub use error::WireError;
pub use extension::{DecisionObject, EnergyObject, Extension, Timing};
pub use reference::{MatchRule, Reference};
pub use responses::{
    Item, ItemPage, ResponseAsk, ResponseBuilder, ResponseEvent, answered_request, deleted_response,
    item_page, response_ask, response_id,
};
pub use verdict::{reset_target, verdict};

pub(super) use answer::{to_value, unix_seconds};
