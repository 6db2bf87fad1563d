//! A model's tokenizer.

use std::sync::Arc;

use tokenizers::Tokenizer as Inner;

use super::ModelError;
use super::files::Files;
use super::pieces::Pieces;
use crate::units::TokenId;

/// Text to tokens and back. Cheap to clone.
#[derive(Clone)]
pub struct Tokenizer(Arc<Shared>);

struct Shared {
    inner: Inner,
    pieces: Option<Pieces>,
}

impl Tokenizer {
    pub(super) fn new(inner: Inner) -> Self {
        let pieces = Pieces::read(&inner);
        Self(Arc::new(Shared { inner, pieces }))
    }

    /// Reads `tokenizer.json` and checks that no token lies outside a vocabulary of `vocabulary`.
    pub fn load(files: &Files, vocabulary: usize) -> Result<Self, ModelError> {
        let bad = |reason: String| ModelError::BadFile {
            place: files.place(),
            file: "tokenizer.json".to_owned(),
            reason,
        };
        let inner = Inner::from_bytes(files.read("tokenizer.json")?).map_err(|e| bad(e.to_string()))?;
        Self::from_built(inner, vocabulary).map_err(bad)
    }

    /// Checks that no token lies outside a vocabulary of `vocabulary`.
    pub(super) fn from_built(mut inner: Inner, vocabulary: usize) -> Result<Self, String> {
        // Padding and truncation are a training pipeline's settings; here they would change the prompt.
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|e| e.to_string())?;
        let highest = inner.get_vocab(true).into_values().max().unwrap_or(0) as usize;
        if highest >= vocabulary {
            return Err(format!(
                "it has a token {highest}, but the model's vocabulary ends at {vocabulary}"
            ));
        }
        Ok(Self::new(inner))
    }

    /// The same with these special tokens, as far as it has them, taken for text that shows.
    pub(super) fn showing(mut self, texts: impl Iterator<Item = &'static str>) -> Self {
        let shared = Arc::get_mut(&mut self.0).expect("a tokenizer that is being loaded has one holder");
        for text in texts {
            let token = shared.inner.token_to_id(text).map(TokenId);
            if let (Some(pieces), Some(token)) = (&mut shared.pieces, token) {
                pieces.show(token);
            }
        }
        self
    }

    /// `special` adds what the tokenizer itself puts around a text (a begin token, say); a chat template has
    /// already written those.
    pub fn encode(&self, text: &str, special: bool) -> Result<Vec<TokenId>, String> {
        let encoding = self
            .0
            .inner
            .encode_fast(text, special)
            .map_err(|e| e.to_string())?;
        Ok(encoding.get_ids().iter().map(|&id| TokenId(id)).collect())
    }

    /// The token of a special string such as `<|end|>`.
    pub fn token(&self, text: &str) -> Option<TokenId> {
        self.0.inner.token_to_id(text).map(TokenId)
    }

    /// One token's own text, special tokens included, and its bytes. Half a character shows as `\u{FFFD}` in the
    /// text and as itself in the bytes.
    pub fn piece(&self, token: TokenId) -> (String, Vec<u8>) {
        match &self.0.pieces {
            Some(pieces) => {
                let bytes = pieces.bytes(token).to_vec();
                (String::from_utf8_lossy(&bytes).into_owned(), bytes)
            }
            None => {
                let text = self.0.inner.decode(&[token.0], false).unwrap_or_default();
                let bytes = text.clone().into_bytes();
                (text, bytes)
            }
        }
    }

    /// Every token's bytes; `None` when the tokenizer's decoder does more than put bytes together.
    pub fn pieces(&self) -> Option<&Pieces> {
        self.0.pieces.as_ref()
    }

    pub(super) fn inner(&self) -> &Inner {
        &self.0.inner
    }
}
