//! A model's tokenizer, and text out of tokens one by one.

use tokenizers::Tokenizer as Inner;

use super::ModelError;
use super::files::Files;
use crate::units::TokenId;

/// Text to tokens and back. Cheap to clone.
#[derive(Clone)]
pub struct Tokenizer(std::sync::Arc<Inner>);

impl Tokenizer {
    /// Reads `tokenizer.json` and checks that no token lies outside a vocabulary of `vocabulary`.
    pub fn load(files: &Files, vocabulary: usize) -> Result<Self, ModelError> {
        let bad = |reason: String| ModelError::BadFile {
            place: files.place(),
            file: "tokenizer.json".to_owned(),
            reason,
        };
        let mut inner = Inner::from_bytes(files.read("tokenizer.json")?).map_err(|e| bad(e.to_string()))?;
        // Padding and truncation are a training pipeline's settings; here they would change the prompt.
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|e| bad(e.to_string()))?;
        let highest = inner.get_vocab(true).into_values().max().unwrap_or(0) as usize;
        if highest >= vocabulary {
            return Err(bad(format!(
                "it has a token {highest}, but the model's vocabulary ends at {vocabulary}"
            )));
        }
        Ok(Self(std::sync::Arc::new(inner)))
    }

    /// `special` adds what the tokenizer itself puts around a text (a begin token, say); a chat template has
    /// already written those.
    pub fn encode(&self, text: &str, special: bool) -> Result<Vec<TokenId>, String> {
        let encoding = self.0.encode_fast(text, special).map_err(|e| e.to_string())?;
        Ok(encoding.get_ids().iter().map(|&id| TokenId(id)).collect())
    }

    /// The token of a special string such as `<|end|>`.
    pub fn token(&self, text: &str) -> Option<TokenId> {
        self.0.token_to_id(text).map(TokenId)
    }

    /// One token's own text, special tokens included; half a character shows as `\u{FFFD}`.
    pub fn text_of(&self, token: TokenId) -> String {
        self.0.decode(&[token.0], false).unwrap_or_default()
    }
}

/// Turns tokens into text as they come, never splitting a character.
#[derive(Clone, Default)]
pub struct Detokenizer {
    ids: Vec<u32>,
    prefix: String,
    prefix_index: usize,
    /// Tokens whose characters are not whole yet.
    held: Vec<u32>,
}

impl Detokenizer {
    /// The text that `token` completes; empty while a character is still half.
    pub fn push(&mut self, tokenizer: &Tokenizer, token: TokenId) -> String {
        self.held.push(token.0);
        let inner = &tokenizer.0;
        let step = tokenizers::step_decode_stream(
            inner,
            vec![token.0],
            true,
            &mut self.ids,
            &mut self.prefix,
            &mut self.prefix_index,
        );
        match step {
            Ok(Some(text)) => {
                self.held.clear();
                text
            }
            Ok(None) => String::new(),
            Err(_) => self.restart(tokenizer),
        }
    }

    /// What is still held back when an answer ends: half a character shows as `\u{FFFD}`.
    pub fn finish(&mut self, tokenizer: &Tokenizer) -> String {
        if self.held.is_empty() {
            String::new()
        } else {
            self.restart(tokenizer)
        }
    }

    /// A decoder that rewrites what it already said has no common prefix: the held tokens are shown by themselves.
    fn restart(&mut self, tokenizer: &Tokenizer) -> String {
        let text = tokenizer.0.decode(&self.held, true).unwrap_or_default();
        *self = Self::default();
        text
    }
}
