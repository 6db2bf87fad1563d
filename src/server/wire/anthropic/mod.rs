//! Anthropic's Messages API, translated: its requests become the same plain asks, its answers are made of the same pieces.

mod build;
mod request;

pub use build::{MessageBuilder, MessageEvent};
pub use request::{count_ask, message_ask};
