//! Log-probabilities in the two shapes OpenAI has for them.

use serde_json::{Map, Value, json};

use crate::engine::{Logprobs, TokenLogprob};

/// What stands for "impossible": JSON has no infinity, and OpenAI sends this number.
const IMPOSSIBLE: f32 = -9999.0;

fn plain(logprob: f32) -> f32 {
    if logprob.is_finite() {
        logprob.max(IMPOSSIBLE)
    } else {
        IMPOSSIBLE
    }
}

fn entry(token: &TokenLogprob) -> Map<String, Value> {
    let mut entry = Map::new();
    entry.insert("token".to_owned(), json!(token.text));
    entry.insert("logprob".to_owned(), json!(plain(token.logprob)));
    entry.insert("bytes".to_owned(), json!(token.bytes));
    entry
}

/// Chat: one object a token.
pub(super) fn chat(tokens: &[Logprobs]) -> Value {
    json!({"content": items(tokens), "refusal": null})
}

/// One object a token, as chat and the Responses API have it.
pub(super) fn items(tokens: &[Logprobs]) -> Vec<Value> {
    let item = |token: &Logprobs| {
        let mut shown = entry(&token.chosen);
        let top: Vec<Value> = token
            .top
            .iter()
            .map(|rival| Value::Object(entry(rival)))
            .collect();
        shown.insert("top_logprobs".to_owned(), Value::Array(top));
        Value::Object(shown)
    };
    tokens.iter().map(item).collect()
}

/// Completions: four lists side by side. `offset` is where the first token begins, in characters of the answer,
/// and is moved past the last one.
pub(super) fn text(tokens: &[Logprobs], offset: &mut usize) -> Value {
    let mut offsets = Vec::with_capacity(tokens.len());
    for token in tokens {
        offsets.push(*offset);
        *offset += token.chosen.text.chars().count();
    }
    let tops: Vec<Value> = tokens
        .iter()
        .map(|token| {
            let all = token.top.iter().chain([&token.chosen]);
            Value::Object(
                all.map(|rival| (rival.text.clone(), json!(plain(rival.logprob))))
                    .collect(),
            )
        })
        .collect();
    json!({
        "tokens": tokens.iter().map(|token| token.chosen.text.as_str()).collect::<Vec<_>>(),
        "token_logprobs": tokens.iter().map(|token| plain(token.chosen.logprob)).collect::<Vec<_>>(),
        "top_logprobs": tops,
        "text_offset": offsets,
    })
}
