//! The OpenAI wire: requests become plain asks at one gate, answers become OpenAI objects at another.

mod answer;
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
mod reference;
mod refused;
#[cfg(test)]
mod request_tests;
mod verdict;

pub use answer::{Choice, Heading, Shape, Usage, whole_answer};
pub use ask::{Ask, Delivery, Prompt, SamplingWish, Target};
pub use chat::chat_ask;
pub use chunk::Chunks;
pub use completion::completion_ask;
pub use error::WireError;
pub use extension::{DecisionObject, EnergyObject, Extension, Timing};
pub use reference::{MatchRule, Reference};
pub use verdict::{reset_target, verdict};

pub(super) use answer::{to_value, unix_seconds};
