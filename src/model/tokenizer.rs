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

    /// One token's own text, special tokens included, and its bytes. Half a character shows as `\u{FFFD}` in the
    /// text and as itself in the bytes.
    pub fn piece(&self, token: TokenId) -> (String, Vec<u8>) {
        let text = self.0.decode(&[token.0], false).unwrap_or_default();
        let raw = if text.contains('\u{FFFD}') {
            self.0.id_to_token(token.0)
        } else {
            None
        };
        let bytes = raw
            .and_then(|raw| raw_bytes(&raw))
            .unwrap_or_else(|| text.clone().into_bytes());
        (text, bytes)
    }
}

/// The bytes of a vocabulary entry that is no whole text: `<0xE2>` as SentencePiece writes a byte, or GPT-2's
/// alphabet, in which every byte has a printable character of its own.
fn raw_bytes(entry: &str) -> Option<Vec<u8>> {
    if let Some(digits) = entry.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>')) {
        return u8::from_str_radix(digits, 16).ok().map(|byte| vec![byte]);
    }
    entry.chars().map(byte_of).collect()
}

/// The byte that a character of GPT-2's alphabet stands for: printable Latin-1 stands for itself, the other 68 bytes
/// follow from U+0100 on in rising order.
fn byte_of(character: char) -> Option<u8> {
    let shows_itself = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    match u32::from(character) {
        code @ 0..=0xFF => u8::try_from(code).ok().filter(|byte| shows_itself(*byte)),
        code => (0..=u8::MAX)
            .filter(|byte| !shows_itself(*byte))
            .nth(code as usize - 0x100),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_half_characters_are_their_own() {
        assert_eq!(raw_bytes("<0xE2>"), Some(vec![0xE2]));
        // "é" is C3 A9; GPT-2 writes them as they stand in Latin-1, a space as U+0120 and a line end as U+010A.
        assert_eq!(raw_bytes("Ã"), Some(vec![0xC3]));
        assert_eq!(raw_bytes("Ġ©Ċ"), Some(vec![b' ', 0xA9, b'\n']));
        assert_eq!(raw_bytes("東"), None);
        let alphabet: Vec<u8> = (0x100..0x144)
            .filter_map(|c| byte_of(char::from_u32(c)?))
            .collect();
        assert_eq!(alphabet.len(), 68);
    }
}
