//! What the router sees of a text: hashed words and neighbouring pairs, always; an embedding, where somebody outside
//! makes one.
//!
//! Numbers are replaced by their shape ("347" becomes "###"), because their size tells how hard a task is
//! while their value hardly ever comes again. Long texts give their first and last words, where the task is
//! usually told.

use super::draw::mix;
use super::embedding::Embedding;

/// Distinct feature numbers.
pub const DIMENSIONS: usize = 1 << 14;
const HEAD_WORDS: usize = 64;
const TAIL_WORDS: usize = 32;
const BYTES_A_WORD: usize = 24;

/// The features of one text, as plain data.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Features {
    /// [`hashed`] words and pairs.
    pub ngrams: Vec<u16>,
    pub embedding: Option<Embedding>,
}

impl From<Vec<u16>> for Features {
    fn from(ngrams: Vec<u16>) -> Self {
        Self {
            ngrams,
            embedding: None,
        }
    }
}

/// Sorted, distinct feature numbers below [`DIMENSIONS`], at most 112.
pub fn hashed(text: &str) -> Vec<u16> {
    let words = words(text);
    let mut features = Vec::with_capacity(2 * words.len());
    for (at, word) in words.iter().enumerate() {
        features.push(place(*word));
        if let Some(next) = words.get(at + 1) {
            features.push(place(mix(word.wrapping_add(1)) ^ next));
        }
    }
    features.sort_unstable();
    features.dedup();
    features
}

fn place(hash: u64) -> u16 {
    (mix(hash) >> 50) as u16
}

/// Hashes of the text's first and last words; scanning is bounded so that a huge prompt costs no more than a
/// small one.
fn words(text: &str) -> Vec<u64> {
    let mut words = Vec::with_capacity(HEAD_WORDS + TAIL_WORDS);
    let head = text.floor_char_boundary(HEAD_WORDS * BYTES_A_WORD);
    let cut = scan(&text[..head], HEAD_WORDS, &mut words);
    let rest = &text[cut..];
    let start = rest.ceil_char_boundary(rest.len().saturating_sub(TAIL_WORDS * BYTES_A_WORD));
    scan(&rest[start..], TAIL_WORDS, &mut words);
    words
}

/// Appends up to `most` words and returns the byte after the last one. Letters and digits form words, any
/// other visible character is a word of its own.
fn scan(text: &str, most: usize, words: &mut Vec<u64>) -> usize {
    const EMPTY: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    let limit = words.len() + most;
    let (mut hash, mut open) = (EMPTY, false);
    for (at, letter) in text.char_indices() {
        if letter.is_alphanumeric() {
            let folded = if letter.is_numeric() {
                '#'
            } else {
                letter.to_lowercase().next().unwrap_or(letter)
            };
            hash = (hash ^ folded as u64).wrapping_mul(PRIME);
            open = true;
            continue;
        }
        if open {
            words.push(hash);
            (hash, open) = (EMPTY, false);
            if words.len() == limit {
                return at;
            }
        }
        if !letter.is_whitespace() {
            words.push((EMPTY ^ letter as u64).wrapping_mul(PRIME) ^ 1);
            if words.len() == limit {
                return at + letter.len_utf8();
            }
        }
    }
    if open {
        words.push(hash);
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shape_matters_value_and_case_do_not() {
        assert_eq!(hashed("What is 12 + 345?"), hashed("what is 98 + 761?"));
        assert_ne!(hashed("what is 12 + 345?"), hashed("what is 1 + 345?"));
        assert_ne!(hashed("dog bites man"), hashed("man bites dog"));
        assert!(hashed("").is_empty());
    }

    #[test]
    fn any_text_is_bounded_and_cheap() {
        let long = "wörter über 数学 \u{1F600} x".repeat(100_000);
        let features = hashed(&long);
        assert!(features.len() <= 2 * (HEAD_WORDS + TAIL_WORDS));
        assert!(features.windows(2).all(|w| w[0] < w[1]));
        assert!(features.iter().all(|f| (*f as usize) < DIMENSIONS));
        hashed(&"é".repeat(1_000_000));
    }
}
