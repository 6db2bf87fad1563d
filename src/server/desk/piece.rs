//! What comes back from the desk while an answer is made.

use tokio::sync::mpsc;

use crate::engine::{FinishReason, Logprobs};
use crate::server::wire::{Extension, Usage};
use crate::units::RequestId;

use super::DeskError;

/// An answer in the making. Dropping it cancels the request; the joules spent until then stay booked.
pub struct Answer {
    pub request: RequestId,
    /// The name of the model that answers.
    pub model: String,
    /// How many choices come, numbered from 0.
    pub choices: usize,
    /// Tokens of the prompts for that model.
    pub prompt_tokens: u32,
    pub pieces: mpsc::UnboundedReceiver<Piece>,
}

/// What an answer's stream carries: any number of `Text` and calls and one `Done` a choice, then one `Finished`;
/// or `Failed` at any moment, and nothing after it.
#[derive(Debug)]
pub enum Piece {
    Text {
        choice: usize,
        text: String,
        logprobs: Vec<Logprobs>,
    },
    /// A function is called. Calls of a choice are numbered from 0.
    Call {
        choice: usize,
        call: usize,
        id: String,
        name: String,
    },
    /// More of a call's arguments, which together are one JSON text.
    Arguments {
        choice: usize,
        call: usize,
        text: String,
    },
    Done {
        choice: usize,
        finish: FinishReason,
        /// The stop string that ended it.
        stopped_by: Option<String>,
    },
    /// The answer is complete, and the decision behind it is durable.
    Finished(Box<Summary>),
    Failed(DeskError),
}

/// What is known of an answer when it is complete.
#[derive(Clone, Debug)]
pub struct Summary {
    pub usage: Usage,
    pub extension: Extension,
}
