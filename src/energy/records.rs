//! The plain data of energy: what a lane leaves behind of each step, and whom the joules are booked to.

use serde::{Deserialize, Serialize};

use crate::units::{DeviceId, ModelId, Moment, RequestId};

/// Whom energy is booked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Account {
    /// The answer a client gets.
    Request(RequestId),
    /// Another model's answer to the same request, made only to learn from it.
    Exploration(RequestId),
    /// The router's own work: features, predictor training.
    Router,
    /// Loading and warming up a model.
    Load,
}

/// What one row of a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRow {
    pub account: Account,
    /// Prompt tokens whose keys and values this step computed.
    pub prefill_tokens: u32,
    /// Tokens decoded: 0 or 1 without speculation.
    pub decode_tokens: u32,
    /// Tokens the row attended to, its own included.
    pub context: u32,
}

/// One step of a lane: one forward pass of one model over a packed batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    pub device: DeviceId,
    pub model: ModelId,
    pub start: Moment,
    pub end: Moment,
    pub rows: Vec<StepRow>,
}
