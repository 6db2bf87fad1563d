//! Why a request that came through the gate is not served after all.

use crate::engine::EngineError;
use crate::store::StoreError;
use crate::units::RequestId;

#[derive(Debug, thiserror::Error)]
pub enum DeskError {
    #[error("there is no model '{name}' here: use auto, {}", .known.join(", "))]
    UnknownModel { name: String, known: Vec<String> },
    #[error("there is no SLA '{name}' here: use {}", .known.join(", "))]
    UnknownSla {
        name: String,
        param: &'static str,
        known: Vec<String>,
    },
    #[error("{reason}: name the model that is to answer")]
    NeedsNamedModel {
        param: &'static str,
        reason: &'static str,
    },
    #[error("'logit_bias' names the token {token}, but '{model}' has {vocabulary} tokens")]
    TokenBias {
        token: u32,
        model: String,
        vocabulary: usize,
    },
    #[error("the prompt has {tokens} tokens, and this server takes at most {most}: shorten it")]
    PromptTooLong { tokens: usize, most: usize },
    #[error("'{model}' cannot be held to the parameters of '{name}': {reason}")]
    WrongTool {
        /// Its place among the tools.
        at: usize,
        name: String,
        model: String,
        reason: String,
    },
    #[error("there is no request '{id}' in the log")]
    UnknownRequest { id: String },
    #[error("there is no response '{id}' here: it was never stored, or it was deleted")]
    UnknownResponse { id: String, param: &'static str },
    #[error("'{id}' was judged {told} before: a judgement is not taken back")]
    Contradiction { id: RequestId, told: f64 },
    #[error("'{id}' was not answered to its end, so there is nothing to judge")]
    Unanswered { id: RequestId },
    #[error("the server is shutting down: try again in a moment")]
    Draining,
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("the log cannot be written, so nothing is acknowledged: {0}")]
    Store(#[from] StoreError),
    #[error("a stored response cannot be read: {reason}")]
    Unreadable { reason: String },
    #[error("the lane stopped before the answer was complete")]
    Lost,
}
