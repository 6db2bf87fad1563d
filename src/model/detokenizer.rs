//! Text out of tokens one by one, never splitting a character.

use super::pieces::Pieces;
use super::tokenizer::Tokenizer;
use crate::units::TokenId;

/// Tokens of the prompt that are remembered: enough to see whether any text comes before the answer.
const REMEMBERED: usize = 8;
/// Tokens that may wait for the end of a character where only a decoder knows what they mean.
const MOST_HELD: usize = 16;

/// Turns an answer's tokens into text as they come. Special tokens are left out. What a token costs does not depend
/// on how many came before.
#[derive(Clone, Default)]
pub struct Detokenizer {
    /// The end of the prompt, until the first token comes.
    before: Vec<TokenId>,
    begun: bool,
    /// Bytes whose character is not whole yet: at most three.
    held: Vec<u8>,
    window: Window,
}

impl Detokenizer {
    /// For an answer that goes on from `prompt`: the prompt's text and the answer's make one text, so an answer may
    /// begin with a space.
    pub fn after(prompt: &[TokenId]) -> Self {
        Self {
            before: prompt[prompt.len().saturating_sub(REMEMBERED)..].to_vec(),
            ..Self::default()
        }
    }

    /// The text that `token` completes; empty while a character is still half.
    pub fn push(&mut self, tokenizer: &Tokenizer, token: TokenId) -> String {
        let Some(pieces) = tokenizer.pieces() else {
            return self.window.push(tokenizer, token);
        };
        if pieces.is_special(token) {
            return String::new();
        }
        let bytes = self.without_leading_spaces(pieces, token);
        self.held.extend_from_slice(bytes);
        let (text, rest) = whole_characters(&self.held);
        self.held.drain(..self.held.len() - rest);
        text
    }

    /// What is still held back when an answer ends: half a character shows as `\u{FFFD}`.
    pub fn finish(&mut self, tokenizer: &Tokenizer) -> String {
        let held = std::mem::take(&mut self.held);
        String::from_utf8_lossy(&held).into_owned() + &self.window.finish(tokenizer)
    }

    /// A token's bytes, less the spaces that do not belong to a text when it is the text's first token.
    fn without_leading_spaces<'a>(&mut self, pieces: &'a Pieces, token: TokenId) -> &'a [u8] {
        let bytes = pieces.bytes(token);
        if std::mem::replace(&mut self.begun, true) {
            return bytes;
        }
        let is_first = self.before.iter().all(|t| pieces.is_special(*t));
        self.before = Vec::new();
        let spaces = bytes.iter().take_while(|&&b| b == b' ').count();
        let taken = if is_first {
            spaces.min(pieces.leading_spaces())
        } else {
            0
        };
        &bytes[taken..]
    }
}

/// The characters that `bytes` complete, a byte that begins none as `\u{FFFD}`, and how many bytes at the end are the
/// beginning of one.
fn whole_characters(bytes: &[u8]) -> (String, usize) {
    let mut text = String::with_capacity(bytes.len());
    let mut chunks = bytes.utf8_chunks().peekable();
    while let Some(chunk) = chunks.next() {
        text.push_str(chunk.valid());
        let invalid = chunk.invalid();
        if invalid.is_empty() {
            continue;
        }
        let unfinished =
            chunks.peek().is_none() && std::str::from_utf8(invalid).is_err_and(|e| e.error_len().is_none());
        if unfinished {
            return (text, invalid.len());
        }
        text.push(char::REPLACEMENT_CHARACTER);
    }
    (text, 0)
}

/// The same for decoders that are more than a table of bytes: the last few tokens are decoded again each time.
#[derive(Clone, Default)]
struct Window {
    ids: Vec<u32>,
    prefix: String,
    prefix_index: usize,
    /// Tokens whose characters are not whole yet.
    held: Vec<u32>,
}

impl Window {
    fn push(&mut self, tokenizer: &Tokenizer, token: TokenId) -> String {
        self.held.push(token.0);
        let step = tokenizers::step_decode_stream(
            tokenizer.inner(),
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
            Ok(None) if self.held.len() < MOST_HELD => String::new(),
            // A decoder that rewrites what it already said has no common prefix, and no character is so long: the
            // held tokens are shown by themselves.
            _ => self.restart(tokenizer),
        }
    }

    fn finish(&mut self, tokenizer: &Tokenizer) -> String {
        if self.held.is_empty() {
            String::new()
        } else {
            self.restart(tokenizer)
        }
    }

    fn restart(&mut self, tokenizer: &Tokenizer) -> String {
        let text = tokenizer.inner().decode(&self.held, true).unwrap_or_default();
        *self = Self::default();
        text
    }
}

#[cfg(test)]
mod tests;
