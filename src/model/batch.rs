//! The border of a decoder: which tokens to compute, where their keys and values go, and the logits that come back.

use crate::units::TokenId;

/// Several sequences' new tokens packed one after the other, prefill chunks and decode rows alike.
///
/// With `T` tokens in `S` sequences: `input_ids`, `positions`, `extents` and `slots` are `[T]`, `cu_seqlens` is
/// `[S + 1]`, `block_tables` is `[S, table_width]`, row by row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    pub input_ids: Vec<TokenId>,
    /// Place of each token in its own sequence, from 0. Tokens of one sequence follow each other without a gap.
    pub positions: Vec<u32>,
    /// How long each token's sequence is for rotary embeddings that look at the length: the prompt's length, for
    /// tokens past the prompt their own position + 1. It does not depend on how the prompt was cut into chunks.
    pub extents: Vec<u32>,
    /// `cu_seqlens[s]..cu_seqlens[s + 1]` are the tokens of sequence `s`.
    pub cu_seqlens: Vec<u32>,
    /// Where each token's key and value go: page × [`PAGE_TOKENS`](super::PAGE_TOKENS) + offset.
    pub slots: Vec<u32>,
    /// The pages of each sequence in order, padded with 0 to `table_width`.
    pub block_tables: Vec<u32>,
    pub table_width: usize,
    /// Tokens whose logits are wanted, as indices into `input_ids`, rising.
    pub logit_rows: Vec<u32>,
    /// Tokens whose hidden states are wanted, as indices into `input_ids`, rising. Only for a decoder that has a
    /// [`hidden_width`](super::Decoder::hidden_width).
    pub hidden_rows: Vec<u32>,
}

impl Batch {
    /// Appends a sequence's next tokens. `prompt` is the length of the sequence's prompt, of which `tokens` may be a
    /// part. `pages` must cover every position up to the last of `tokens`.
    /// With `wants_logits` the last token's logits are asked for.
    pub fn push(
        &mut self,
        tokens: &[TokenId],
        first_position: usize,
        prompt: usize,
        pages: &[u32],
        wants_logits: bool,
    ) {
        if self.cu_seqlens.is_empty() {
            self.cu_seqlens.push(0);
        }
        for (place, &token) in (first_position..).zip(tokens) {
            self.input_ids.push(token);
            self.positions.push(place as u32);
            self.extents.push(prompt.max(place + 1) as u32);
            let page = pages[place / super::PAGE_TOKENS];
            self.slots
                .push(page * super::PAGE_TOKENS as u32 + (place % super::PAGE_TOKENS) as u32);
        }
        self.cu_seqlens.push(self.input_ids.len() as u32);
        if wants_logits {
            self.logit_rows.push(self.input_ids.len() as u32 - 1);
        }
        let used = (first_position + tokens.len()).div_ceil(super::PAGE_TOKENS);
        self.append_table(&pages[..used]);
    }

    /// Asks for the hidden state of the token appended last.
    pub fn want_hidden(&mut self) {
        if let Some(last) = self.input_ids.len().checked_sub(1) {
            self.hidden_rows.push(last as u32);
        }
    }

    pub fn sequences(&self) -> usize {
        self.cu_seqlens.len().saturating_sub(1)
    }

    fn append_table(&mut self, pages: &[u32]) {
        if pages.len() > self.table_width {
            let (old, new) = (self.table_width, pages.len());
            let rows = self.block_tables.len().checked_div(old).unwrap_or(0);
            let mut wider = Vec::with_capacity((rows + 1) * new);
            for row in self.block_tables.chunks(old.max(1)) {
                wider.extend_from_slice(row);
                wider.resize(wider.len() + new - old, 0);
            }
            self.block_tables = wider;
            self.table_width = new;
        }
        self.block_tables.extend_from_slice(pages);
        self.block_tables
            .resize(self.block_tables.len() + self.table_width - pages.len(), 0);
    }
}

/// Logits of the rows a batch asked for, `[rows, vocabulary]`, or the tokens drawn from them, and the hidden states of the
/// rows it asked those of, `[hidden rows, width]`: the last layer's, after the final norm, as transformers'
/// `last_hidden_state`.
#[derive(Clone, Debug, PartialEq)]
pub struct Logits {
    /// Of the rows without a token.
    values: Vec<f32>,
    vocabulary: usize,
    /// The token drawn for each row; empty where none was.
    tokens: Vec<Option<TokenId>>,
    hidden: Vec<f32>,
    width: usize,
}

impl Logits {
    pub fn new(values: Vec<f32>, vocabulary: usize) -> Self {
        debug_assert_eq!(values.len() % vocabulary, 0);
        Self {
            values,
            vocabulary,
            tokens: Vec::new(),
            hidden: Vec::new(),
            width: 0,
        }
    }

    /// With the tokens of some rows; `values` has the logits of the others, in order.
    pub fn drawn(values: Vec<f32>, vocabulary: usize, tokens: Vec<Option<TokenId>>) -> Self {
        debug_assert_eq!(
            values.len(),
            vocabulary * tokens.iter().filter(|token| token.is_none()).count()
        );
        Self {
            tokens,
            ..Self::new(values, vocabulary)
        }
    }

    pub fn with_hidden(self, hidden: Vec<f32>, width: usize) -> Self {
        debug_assert!(width > 0 && hidden.len().is_multiple_of(width));
        Self {
            hidden,
            width,
            ..self
        }
    }

    pub fn rows(&self) -> usize {
        self.tokens.len().max(self.values.len() / self.vocabulary)
    }

    /// The token drawn for a row; `None` for one that has its logits here.
    pub fn token(&self, row: usize) -> Option<TokenId> {
        self.tokens.get(row).copied().flatten()
    }

    /// The logits of a row without a token.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.values[self.place(row) * self.vocabulary..][..self.vocabulary]
    }

    fn place(&self, row: usize) -> usize {
        let before = &self.tokens[..row.min(self.tokens.len())];
        row - before.iter().filter(|token| token.is_some()).count()
    }

    /// The hidden state of a row of [`Batch::hidden_rows`].
    pub fn hidden_row(&self, row: usize) -> &[f32] {
        &self.hidden[row * self.width..][..self.width]
    }

    pub fn row_mut(&mut self, row: usize) -> &mut [f32] {
        let place = self.place(row);
        &mut self.values[place * self.vocabulary..][..self.vocabulary]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_widen_with_the_longest_sequence() {
        let ids = |n: u32| (0..n).map(TokenId).collect::<Vec<_>>();
        let mut batch = Batch::default();
        batch.push(&ids(1), 5, 3, &[9], true);
        batch.push(&ids(40), 0, 50, &[3, 4, 8], false);
        batch.push(&ids(2), 31, 32, &[6, 7], true);
        assert_eq!(batch.table_width, 2);
        assert_eq!(batch.block_tables, [9, 0, 3, 4, 6, 7]);
        assert_eq!(batch.cu_seqlens, [0, 1, 41, 43]);
        assert_eq!(batch.logit_rows, [0, 42]);
        assert_eq!(batch.slots[0], 9 * 32 + 5);
        assert_eq!(batch.slots[41..], [6 * 32 + 31, 7 * 32]);
        assert_eq!(batch.sequences(), 3);
        assert_eq!((batch.extents[0], batch.extents[1]), (6, 50));
        assert_eq!(batch.extents[41..], [32, 33]);
    }
}
