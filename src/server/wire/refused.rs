//! Fields that mean something to the answer and that this build does not do. A client that sends one of them
//! to good purpose is told so; the same field with its harmless value passes. All other unknown fields are
//! ignored, as clients send many.

use serde_json::Value;

use super::WireError;
use super::fields::Fields;

/// When a field changes nothing.
pub(super) enum Harmless {
    /// Only when absent or null.
    Never,
    /// When it is `false`, 0, or an empty string, list or object.
    Empty,
    /// When it is one of these strings, or empty.
    Words(&'static [&'static str]),
}

const USE_TOOLS: &str = "use 'tools' and 'tool_choice'";
const PLAIN_TEXT: &str = "answers are plain text; leave it out";
const USE_FORMAT: &str = "use 'response_format'";
const LEAVE_OUT: &str = "leave it out";

const REFUSED: &[(&str, Harmless, &str)] = &[
    ("functions", Harmless::Empty, USE_TOOLS),
    ("function_call", Harmless::Words(&["none", "auto"]), USE_TOOLS),
    ("audio", Harmless::Never, PLAIN_TEXT),
    ("web_search_options", Harmless::Never, LEAVE_OUT),
    ("suffix", Harmless::Empty, LEAVE_OUT),
    (
        "echo",
        Harmless::Empty,
        "the answer comes without the prompt; leave it out",
    ),
    ("guided_json", Harmless::Never, USE_FORMAT),
    ("guided_regex", Harmless::Never, USE_FORMAT),
    ("guided_choice", Harmless::Never, USE_FORMAT),
    ("guided_grammar", Harmless::Never, USE_FORMAT),
    ("structured_outputs", Harmless::Never, USE_FORMAT),
    ("json_schema", Harmless::Empty, USE_FORMAT),
    ("grammar", Harmless::Empty, USE_FORMAT),
    ("ignore_eos", Harmless::Empty, LEAVE_OUT),
    ("min_tokens", Harmless::Empty, LEAVE_OUT),
    ("stop_token_ids", Harmless::Empty, "use 'stop' with strings"),
    ("bad_words", Harmless::Empty, "use 'logit_bias'"),
    ("use_beam_search", Harmless::Empty, LEAVE_OUT),
    (
        "chat_template",
        Harmless::Empty,
        "the model's own template is used; leave it out",
    ),
    ("chat_template_kwargs", Harmless::Empty, LEAVE_OUT),
    ("continue_final_message", Harmless::Empty, LEAVE_OUT),
    ("documents", Harmless::Empty, "put their text into a message"),
    (
        "truncate_prompt_tokens",
        Harmless::Empty,
        "prompts are never truncated; shorten it yourself",
    ),
    ("prompt_logprobs", Harmless::Empty, LEAVE_OUT),
];

/// Refuses what chat and completions cannot honour.
pub(super) fn refuse_unsupported(body: &Fields<'_>) -> Result<(), WireError> {
    refuse(body, REFUSED)?;
    refuse_best_of(body)?;
    refuse_modalities(body)
}

/// Refuses the fields of a table that are sent to good purpose.
pub(super) fn refuse(
    body: &Fields<'_>,
    table: &[(&'static str, Harmless, &'static str)],
) -> Result<(), WireError> {
    for (name, harmless, mend) in table {
        if body.get(name).is_some_and(|value| !harmless.allows(value)) {
            return Err(WireError::unsupported(*name, mend));
        }
    }
    Ok(())
}

impl Harmless {
    fn allows(&self, value: &Value) -> bool {
        match self {
            Self::Never => false,
            Self::Empty => is_empty(value),
            Self::Words(words) => value.as_str().is_some_and(|word| words.contains(&word)) || is_empty(value),
        }
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(truth) => !truth,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

/// `best_of` equal to `n` asks for nothing beyond `n`.
fn refuse_best_of(body: &Fields<'_>) -> Result<(), WireError> {
    let best_of = body.integer("best_of", 0..=i64::MAX)?.unwrap_or(1);
    let n = body.get("n").and_then(Value::as_i64).unwrap_or(1);
    if best_of <= 1 || best_of == n {
        return Ok(());
    }
    Err(WireError::unsupported("best_of", "use 'n' and choose yourself"))
}

fn refuse_modalities(body: &Fields<'_>) -> Result<(), WireError> {
    let wanted = body.list("modalities")?.unwrap_or_default();
    if wanted.iter().all(|modality| modality.as_str() == Some("text")) {
        return Ok(());
    }
    Err(WireError::unsupported("modalities", PLAIN_TEXT))
}
