//! How the next token of a row is to be drawn, for decoders that draw it themselves.

use crate::units::TokenId;

/// A token that a sequence holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    pub token: TokenId,
    /// How often the answer holds it; 0 for a token of the prompt alone.
    pub answered: u32,
}

/// A row's settings, as OpenAI's and transformers' requests have them; a decoder that draws must choose what the
/// engine's sampler would, to the bit.
#[derive(Clone, Copy, Debug)]
pub struct Choice<'a> {
    /// 0 is greedy.
    pub temperature: f32,
    /// 1 keeps all.
    pub top_p: f32,
    /// 0 keeps all.
    pub min_p: f32,
    /// 0 keeps all.
    pub top_k: u32,
    /// 1 is none.
    pub repetition_penalty: f32,
    pub presence_penalty: f32,
    pub frequency_penalty: f32,
    pub seed: u64,
    /// The token's place in its sequence.
    pub position: u32,
    /// What the sequence holds, each token once.
    pub history: &'a [Seen],
    /// Added to logits.
    pub biases: &'a [(TokenId, f32)],
}
