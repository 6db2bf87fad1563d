//! What a lane asks of a model: to compute a batch, over pages that the lane hands out.

use super::ModelError;
use super::batch::{Batch, Logits};
use super::choice::Choice;

/// A forward pass over pages the caller hands out.
pub trait Decoder: Send {
    /// Computes the batch, writes its keys and values, returns the logits and hidden states asked for.
    /// Every page named in the batch must have been materialised.
    fn forward(&mut self, batch: &Batch) -> Result<Logits, ModelError>;
    /// Whether it draws tokens itself, see [`Decoder::forward_drawing`].
    fn draws(&self) -> bool {
        false
    }
    /// The same as `forward`, and draws a token of each logit row for which `choices` says how; of the others the
    /// logits come back, as may those of a row whose choice it cannot make.
    fn forward_drawing(
        &mut self,
        batch: &Batch,
        choices: &[Option<Choice<'_>>],
    ) -> Result<Logits, ModelError> {
        debug_assert!(choices.len() <= batch.logit_rows.len());
        self.forward(batch)
    }
    /// Gives a page memory, before its first use and again after a release.
    fn materialise_page(&mut self, page: u32);
    /// Takes a page's memory back.
    fn release_page(&mut self, page: u32);
    fn bytes_per_page(&self) -> u64;
    /// Numbers of a token's hidden state; `None` where the model does not show them.
    fn hidden_width(&self) -> Option<usize> {
        None
    }
    /// Pages may be shared between prompts of equal salt only: some rotary embeddings look at the prompt's length.
    fn cache_salt(&self, _prompt_tokens: usize) -> u64 {
        0
    }
    /// Whether a sequence that reaches this length must be computed again from its start.
    fn restarts_at(&self, _tokens: usize) -> bool {
        false
    }
    /// Sequences it can serve at the same time; `None` for as many as there are pages.
    fn max_rows(&self) -> Option<usize> {
        None
    }
    /// Whether a sequence's tokens must come in one piece when it starts.
    fn whole_prompts(&self) -> bool {
        false
    }
}
