//! Answers that keep to a grammar: before a token is drawn, all tokens that cannot go on towards a valid answer are
//! taken out of the row.
//!
//! A grammar is compiled where the request is checked, outside the lane, and a [`Guide`] then goes with its sequence:
//! what it knows are the answer's tokens, so neither the company in a batch nor a preemption can disturb it.

mod calls;

pub use calls::{CallRule, Callable, Instead};

use std::collections::VecDeque;
use std::sync::{Mutex, OnceLock, PoisonError};

use llguidance::api::TopLevelGrammar;
use llguidance::earley::SlicedBiasComputer;
use llguidance::toktrie::{ApproximateTokEnv, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory};
use serde_json::{Value, json};

use crate::model::{Pieces, Tokenizer};
use crate::units::TokenId;

/// Compiled grammars kept for the next request with the same one.
const KEPT: usize = 16;
/// Longest token that the trie of a vocabulary can hold, in bytes; none of a language comes near it.
const LONGEST_TOKEN: usize = 250;
/// What may stand between two parts of a JSON text: a space, or a new line and its indent. Models that would rather say
/// something else fill every gap as far as they are let.
const JSON_SPACE: &str = r" |\n {0,16}";

/// What an answer has to be. An answer that ends by itself is one; one cut off by `max_tokens` is the beginning of one.
#[derive(Clone, Debug, PartialEq)]
pub enum Constraint {
    /// Any JSON object.
    JsonObject,
    /// JSON that is valid under this JSON Schema.
    JsonSchema(Value),
    /// A text that matches this regular expression from its beginning to its end.
    Regex(String),
    /// A text of this grammar in Lark's notation.
    Lark(String),
    /// Calls of functions.
    Calls(CallRule),
}

impl Constraint {
    fn grammar(&self) -> Result<TopLevelGrammar, String> {
        match self {
            Self::JsonObject => Ok(json_grammar(json!({"type": "object"}))),
            Self::JsonSchema(schema @ (Value::Object(_) | Value::Bool(_))) => {
                Ok(json_grammar(schema.clone()))
            }
            Self::JsonSchema(_) => Err("a schema is an object, true or false".to_owned()),
            Self::Regex(pattern) => Ok(TopLevelGrammar::from_regex(pattern)),
            Self::Lark(grammar) => Ok(TopLevelGrammar::from_lark(grammar.clone())),
            Self::Calls(rule) => Ok(TopLevelGrammar::from_lark(rule.lark()?)),
        }
    }
}

fn json_grammar(schema: Value) -> TopLevelGrammar {
    let schema = match schema {
        // What a client says about the compiler's own settings is not for the client to say.
        Value::Object(mut map) => {
            map.insert("x-guidance".to_owned(), json!({"whitespace_pattern": JSON_SPACE}));
            Value::Object(map)
        }
        other => other,
    };
    TopLevelGrammar::from_json_schema(schema)
}

/// One model's compiler of grammars. What it needs of the vocabulary is put together at the first constraint.
pub struct Grammars {
    tokenizer: Tokenizer,
    vocabulary: usize,
    end_tokens: Vec<TokenId>,
    factory: OnceLock<Result<ParserFactory, String>>,
    /// Latest last.
    compiled: Mutex<VecDeque<(Constraint, Matcher)>>,
}

impl Grammars {
    /// `vocabulary` is the length of a row of logits.
    pub fn new(tokenizer: Tokenizer, vocabulary: usize, end_tokens: Vec<TokenId>) -> Self {
        Self {
            tokenizer,
            vocabulary,
            end_tokens,
            factory: OnceLock::new(),
            compiled: Mutex::default(),
        }
    }

    /// A guide at the beginning of an answer. Costs up to some hundred milliseconds for a new constraint and little
    /// for a known one.
    ///
    /// # Errors
    /// A sentence that says what of the constraint cannot be kept.
    pub fn guide(&self, constraint: &Constraint) -> Result<Guide, String> {
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = compiled.iter().position(|(known, _)| known == constraint)
            && let Some(known) = compiled.remove(at)
        {
            let guide = Guide(Box::new(known.1.deep_clone()));
            compiled.push_back(known);
            return Ok(guide);
        }
        drop(compiled);
        let matcher = self.compile(constraint)?;
        let guide = Guide(Box::new(matcher.deep_clone()));
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        if compiled.len() >= KEPT {
            compiled.pop_front();
        }
        compiled.push_back((constraint.clone(), matcher));
        Ok(guide)
    }

    fn compile(&self, constraint: &Constraint) -> Result<Matcher, String> {
        let factory = self.factory.get_or_init(|| self.build()).as_ref();
        let factory = factory.map_err(Clone::clone)?;
        let parser = factory.create_parser(constraint.grammar()?);
        let mut matcher = Matcher::new(parser);
        if let Some(error) = matcher.get_error() {
            return Err(plain(&error));
        }
        // A grammar that nothing can match fails here and not in the answer.
        matcher
            .compute_mask_or_eos()
            .map_err(|_| "no text can match it".to_owned())?;
        Ok(matcher)
    }

    fn build(&self) -> Result<ParserFactory, String> {
        let pieces = self.tokenizer.pieces();
        let pieces = pieces.ok_or("this model's tokenizer does not say which bytes its tokens are")?;
        let trie = self.trie(pieces)?;
        let environment: TokEnv = std::sync::Arc::new(ApproximateTokEnv::new(trie));
        let mut factory = ParserFactory::new(
            &environment,
            InferenceCapabilities::default(),
            &SlicedBiasComputer::json_slices(),
        )
        .map_err(|e| plain(&e.to_string()))?;
        factory.quiet();
        factory.limits_mut().verbose_errors = false;
        Ok(factory)
    }

    fn trie(&self, pieces: &Pieces) -> Result<TokTrie, String> {
        let words: Vec<Vec<u8>> = (0..self.vocabulary as u32)
            .map(TokenId)
            .map(|token| {
                let bytes = pieces.bytes(token);
                let special = pieces.is_special(token) || self.end_tokens.contains(&token);
                if special {
                    // The trie tells special tokens by this mark: no text contains it.
                    [&[TokTrie::SPECIAL_TOKEN_MARKER], bytes].concat()
                } else {
                    bytes.to_vec()
                }
            })
            .map(|word| {
                if word.len() > LONGEST_TOKEN {
                    Vec::new()
                } else {
                    word
                }
            })
            .collect();
        let ends: Vec<u32> = self
            .end_tokens
            .iter()
            .map(|token| token.0)
            .filter(|token| (*token as usize) < self.vocabulary)
            .collect();
        let first = *ends.first().ok_or("this model has no end token")?;
        let info = TokRxInfo::new(self.vocabulary as u32, first);
        Ok(TokTrie::from(&info, &words).with_eos_tokens(&ends))
    }
}

/// The first line of what a compiler says, without where in a grammar that nobody sees; the rest is its own state.
fn plain(error: &str) -> String {
    let line = error.lines().next().unwrap_or_default();
    let place = line.strip_prefix("at ").and_then(|rest| rest.split_once("): "));
    let what = place.map_or(line, |(_, what)| what);
    what.trim_end_matches("<non-verbose/>")
        .trim()
        .trim_end_matches(':')
        .to_owned()
}

/// Where one answer stands in its grammar.
pub struct Guide(Box<Matcher>);

impl Guide {
    /// Puts every token that may not come next at -inf. End tokens may come when the answer is whole.
    ///
    /// # Errors
    /// The grammar became too large to go on with.
    pub fn restrict(&mut self, logits: &mut [f32]) -> Result<(), String> {
        let mask = self.0.compute_mask_or_eos().map_err(|e| plain(&e.to_string()))?;
        let words = mask.as_slice();
        for (at, block) in logits.chunks_mut(32).enumerate() {
            let allowed = words.get(at).copied().unwrap_or(0);
            match allowed {
                0 => block.fill(f32::NEG_INFINITY),
                u32::MAX => {}
                _ => {
                    for (bit, logit) in block.iter_mut().enumerate() {
                        if allowed >> bit & 1 == 0 {
                            *logit = f32::NEG_INFINITY;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes in the token that was chosen; true when the answer is whole and nothing can follow.
    ///
    /// # Errors
    /// The token was not among those allowed, or the grammar became too large.
    pub fn accept(&mut self, token: TokenId) -> Result<bool, String> {
        self.0.consume_token(token.0).map_err(|e| plain(&e.to_string()))?;
        Ok(self.0.is_stopped())
    }
}

#[cfg(test)]
mod tests;
