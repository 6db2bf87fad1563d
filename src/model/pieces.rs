//! The bytes that each token of a vocabulary stands for.

use tokenizers::Tokenizer as Inner;

use crate::units::TokenId;

/// SentencePiece's sign for a space.
const MARK: char = '\u{2581}';

/// One table for a whole vocabulary. A text is its tokens' bytes one after the other, save for leading spaces that
/// some tokenizers add when they encode and take away when they decode.
pub struct Pieces {
    bytes: Vec<u8>,
    /// Where each token's bytes end.
    ends: Vec<u32>,
    special: Vec<bool>,
    leading_spaces: usize,
}

impl Pieces {
    /// Reads a tokenizer's table; `None` when its decoder does more than put bytes together.
    pub fn read(inner: &Inner) -> Option<Self> {
        let scheme = Scheme::of(inner)?;
        let count = inner.get_vocab(true).into_values().max()? as usize + 1;
        let added = inner.get_added_tokens_decoder();
        let mut pieces = Self {
            bytes: Vec::with_capacity(count * 6),
            ends: Vec::with_capacity(count),
            special: vec![false; count],
            leading_spaces: scheme.leading_spaces(),
        };
        for id in 0..count as u32 {
            if let Some(entry) = inner.id_to_token(id) {
                scheme.append(&entry, &mut pieces.bytes);
            }
            pieces.ends.push(u32::try_from(pieces.bytes.len()).ok()?);
            if let Some(token) = added.get(&id) {
                pieces.special[id as usize] = token.special;
            }
        }
        Some(pieces)
    }

    /// Tokens of the table.
    pub fn count(&self) -> usize {
        self.ends.len()
    }

    /// A token's bytes; none for a token that the table does not have.
    pub fn bytes(&self, token: TokenId) -> &[u8] {
        let at = token.0 as usize;
        let Some(&end) = self.ends.get(at) else {
            return &[];
        };
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start as usize..end as usize]
    }

    /// Whether a token steers the model and is no part of a text.
    pub fn is_special(&self, token: TokenId) -> bool {
        self.special.get(token.0 as usize).copied().unwrap_or(false)
    }

    /// Takes a special token for text.
    pub fn show(&mut self, token: TokenId) {
        if let Some(special) = self.special.get_mut(token.0 as usize) {
            *special = false;
        }
    }

    /// How many spaces at the beginning of a text do not belong to it.
    pub fn leading_spaces(&self) -> usize {
        self.leading_spaces
    }
}

/// How a decoder writes bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    /// GPT-2's alphabet, in which every byte has a printable character of its own.
    ByteLevel,
    /// Text with a sign for spaces and `<0xE2>` for bytes.
    SentencePiece {
        byte_fallback: bool,
        leading_spaces: usize,
    },
}

impl Scheme {
    fn of(inner: &Inner) -> Option<Self> {
        let decoder = serde_json::to_value(inner.get_decoder()?).ok()?;
        let steps = match decoder["decoders"].as_array() {
            Some(steps) => steps.as_slice(),
            None => std::slice::from_ref(&decoder),
        };
        let mark = MARK.to_string();
        let (mut byte_level, mut marks, mut byte_fallback, mut leading_spaces) = (false, false, false, 0);
        for step in steps {
            match step["type"].as_str()? {
                "ByteLevel" => byte_level = true,
                "Replace" if step["pattern"]["String"] == mark.as_str() && step["content"] == " " => {
                    marks = true;
                }
                "Metaspace" if step["replacement"] == mark.as_str() => {
                    marks = true;
                    if step["prepend_scheme"] != "never" {
                        leading_spaces = usize::MAX;
                    }
                }
                "ByteFallback" => byte_fallback = true,
                "Fuse" => {}
                "Strip" if step["content"] == " " && step["stop"] == 0 => {
                    leading_spaces = step["start"].as_u64()? as usize;
                }
                _ => return None,
            }
        }
        match (byte_level, marks) {
            (true, false) => Some(Self::ByteLevel),
            (false, true) => Some(Self::SentencePiece {
                byte_fallback,
                leading_spaces,
            }),
            _ => None,
        }
    }

    fn leading_spaces(self) -> usize {
        match self {
            Self::ByteLevel => 0,
            Self::SentencePiece { leading_spaces, .. } => leading_spaces,
        }
    }

    fn append(self, entry: &str, bytes: &mut Vec<u8>) {
        match self {
            Self::ByteLevel => {
                let start = bytes.len();
                for character in entry.chars() {
                    let Some(byte) = byte_of(character) else {
                        // An added token outside the alphabet is written as it reads.
                        bytes.truncate(start);
                        bytes.extend_from_slice(entry.as_bytes());
                        return;
                    };
                    bytes.push(byte);
                }
            }
            Self::SentencePiece { byte_fallback, .. } => {
                if let Some(byte) = fallback_byte(entry).filter(|_| byte_fallback) {
                    bytes.push(byte);
                    return;
                }
                for (at, part) in entry.split(MARK).enumerate() {
                    if at > 0 {
                        bytes.push(b' ');
                    }
                    bytes.extend_from_slice(part.as_bytes());
                }
            }
        }
    }
}

/// The byte of `<0xE2>`.
fn fallback_byte(entry: &str) -> Option<u8> {
    let digits = entry.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() != 2 {
        return None;
    }
    u8::from_str_radix(digits, 16).ok()
}

/// The byte that a character of GPT-2's alphabet stands for: printable Latin-1 stands for itself, the other 68 bytes
/// follow from U+0100 on in rising order: 0 to 32, 127 to 160, and 173.
fn byte_of(character: char) -> Option<u8> {
    let shows_itself = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    match u32::from(character) {
        code @ 0..=0xFF => u8::try_from(code).ok().filter(|byte| shows_itself(*byte)),
        code @ 0x100..=0x120 => Some((code - 0x100) as u8),
        code @ 0x121..=0x142 => Some((code - 0x121) as u8 + 127),
        0x143 => Some(173),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(scheme: Scheme, entry: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        scheme.append(entry, &mut bytes);
        bytes
    }

    #[test]
    fn the_alphabet_has_every_byte_once() {
        let mut all: Vec<u8> = (0..0x200).filter_map(|c| byte_of(char::from_u32(c)?)).collect();
        all.sort_unstable();
        assert_eq!(all, (0..=u8::MAX).collect::<Vec<_>>());
    }

    #[test]
    fn entries_become_their_bytes() {
        // "é" is C3 A9; GPT-2 writes them as they stand in Latin-1, a space as U+0120 and a line end as U+010A.
        assert_eq!(bytes(Scheme::ByteLevel, "Ã"), [0xC3]);
        assert_eq!(bytes(Scheme::ByteLevel, "Ġ©Ċ"), [b' ', 0xA9, b'\n']);
        assert_eq!(bytes(Scheme::ByteLevel, "東"), "東".as_bytes());
        let pieces = Scheme::SentencePiece {
            byte_fallback: true,
            leading_spaces: 1,
        };
        assert_eq!(bytes(pieces, "<0xE2>"), [0xE2]);
        assert_eq!(bytes(pieces, "<0xE2a>"), b"<0xE2a>");
        assert_eq!(bytes(pieces, "▁the▁東"), " the 東".as_bytes());
    }
}
