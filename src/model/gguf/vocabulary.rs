//! The tokens of a file, and which of them have a part to play.

use serde_json::{Value, json};

use super::metadata::{Metadata, Number};

/// What a token is for, as `tokenizer.ggml.token_type` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

impl Role {
    fn of_number(number: Number) -> Self {
        match number.count() {
            Some(2) => Self::Unknown,
            Some(3) => Self::Control,
            Some(4) => Self::UserDefined,
            Some(5) => Self::Unused,
            Some(6) => Self::Byte,
            _ => Self::Normal,
        }
    }

    /// Whether text is searched for the token before anything else is done to it.
    pub fn is_added(self) -> bool {
        matches!(self, Self::Unknown | Self::Control | Self::UserDefined)
    }
}

/// Tokens by their ids; the three lists are of one length.
#[derive(Debug)]
pub struct Vocabulary {
    pub texts: Vec<String>,
    pub roles: Vec<Role>,
    /// Empty where the file has none: only SentencePiece needs them.
    pub scores: Vec<f64>,
}

impl Vocabulary {
    pub fn read(metadata: &Metadata) -> Result<Self, String> {
        let texts = metadata
            .texts("tokenizer.ggml.tokens")?
            .ok_or("it has no tokenizer.ggml.tokens")?;
        let texts: Vec<String> = texts
            .iter()
            .enumerate()
            // A token of no text could never be met; its id must still be somebody's.
            .map(|(id, text)| {
                if text.is_empty() {
                    format!("[EMPTY_{id}]")
                } else {
                    text.clone()
                }
            })
            .collect();
        let as_long = |key: &str, length: usize| {
            if length < texts.len() {
                Err(format!(
                    "its {key} speaks of {length} tokens and it has {}",
                    texts.len()
                ))
            } else {
                Ok(())
            }
        };
        let roles = match metadata.numbers("tokenizer.ggml.token_type")? {
            None => vec![Role::Normal; texts.len()],
            Some(numbers) => {
                as_long("tokenizer.ggml.token_type", numbers.len())?;
                numbers
                    .into_iter()
                    .take(texts.len())
                    .map(Role::of_number)
                    .collect()
            }
        };
        let scores = match metadata.numbers("tokenizer.ggml.scores")? {
            None => Vec::new(),
            Some(numbers) => {
                as_long("tokenizer.ggml.scores", numbers.len())?;
                let scores = numbers.take(texts.len()).map(Number::float);
                let scores: Option<Vec<f64>> = scores.collect();
                scores
                    .filter(|scores| !scores.iter().any(|score| score.is_nan()))
                    .ok_or("its tokenizer.ggml.scores are not all numbers")?
            }
        };
        let vocabulary = Self { texts, roles, scores };
        for key in SPECIAL_KEYS {
            let id = metadata.count(key)?;
            if let Some(id) = id.filter(|id| *id >= vocabulary.texts.len()) {
                return Err(format!(
                    "its {key} is {id}, past its {} tokens",
                    vocabulary.texts.len()
                ));
            }
        }
        Ok(vocabulary)
    }
}

const BEGIN: &str = "tokenizer.ggml.bos_token_id";
const END: &str = "tokenizer.ggml.eos_token_id";
const UNKNOWN: &str = "tokenizer.ggml.unknown_token_id";
const END_OF_TURN: &str = "tokenizer.ggml.eot_token_id";
const END_OF_MESSAGE: &str = "tokenizer.ggml.eom_token_id";
const SPECIAL_KEYS: [&str; 5] = [BEGIN, END, UNKNOWN, END_OF_TURN, END_OF_MESSAGE];

/// Tokens that end an answer wherever they are special: few files name more than one end.
const KNOWN_ENDS: [&str; 8] = [
    "<|eot_id|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<end_of_turn>",
    "<EOT>",
];

/// Ids that a model's use needs. A key that is absent or broken gives none; `Vocabulary::read` refuses broken ones.
#[derive(Debug, Default, PartialEq)]
pub struct SpecialIds {
    pub begin: Option<usize>,
    pub end: Option<usize>,
    pub unknown: Option<usize>,
    /// All tokens that end an answer, `end` first.
    pub ends: Vec<usize>,
}

pub fn special_ids(metadata: &Metadata) -> SpecialIds {
    // SentencePiece's own ids, which its files need not spell out.
    let habit = |id: usize| is_sentencepiece(metadata).then_some(id);
    let id = |key: &str| metadata.count(key).ok().flatten();
    let end = id(END).or(habit(2));
    let mut ends: Vec<usize> = [end, id(END_OF_TURN), id(END_OF_MESSAGE)]
        .into_iter()
        .flatten()
        .collect();
    let texts = metadata
        .texts("tokenizer.ggml.tokens")
        .ok()
        .flatten()
        .unwrap_or_default();
    if let Ok(Some(roles)) = metadata.numbers("tokenizer.ggml.token_type") {
        let known = texts.iter().zip(roles).enumerate().filter(|(_, (text, role))| {
            KNOWN_ENDS.contains(&text.as_str()) && Role::of_number(*role).is_added()
        });
        ends.extend(known.map(|(id, _)| id));
    }
    let mut met = std::collections::HashSet::new();
    ends.retain(|id| met.insert(*id));
    SpecialIds {
        begin: id(BEGIN).or(habit(1)),
        end,
        unknown: id(UNKNOWN).or(habit(0)),
        ends,
    }
}

pub fn is_sentencepiece(metadata: &Metadata) -> bool {
    metadata.text("tokenizer.ggml.model") == Ok(Some("llama"))
}

/// Whether a text is given a begin token and an end token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Additions {
    pub begin: bool,
    pub end: bool,
}

pub fn additions(metadata: &Metadata) -> Additions {
    let flag = |key: &str| metadata.flag(key).ok().flatten();
    let pre = metadata
        .text("tokenizer.ggml.pre")
        .ok()
        .flatten()
        .unwrap_or_default();
    let habit = is_sentencepiece(metadata) || super::pretokenizer::begins_by_habit(pre);
    Additions {
        begin: flag("tokenizer.ggml.add_bos_token").unwrap_or(habit),
        end: flag("tokenizer.ggml.add_eos_token").unwrap_or(false),
    }
}

pub fn tokenizer_config(metadata: &Metadata) -> Value {
    let ids = special_ids(metadata);
    let texts = metadata
        .texts("tokenizer.ggml.tokens")
        .ok()
        .flatten()
        .unwrap_or_default();
    let text = |id: Option<usize>| id.and_then(|id| texts.get(id));
    let added = additions(metadata);
    json!({
        "chat_template": metadata.text("tokenizer.chat_template").ok().flatten(),
        "bos_token": text(ids.begin),
        "eos_token": text(ids.end),
        "unk_token": text(ids.unknown),
        "add_bos_token": added.begin && ids.begin.is_some(),
        "add_eos_token": added.end && ids.end.is_some(),
        "eos_token_ids": ids.ends,
    })
}
