//! `POST /v1/completions`: the request.

use serde_json::Value;

use crate::units::TokenId;

use super::WireError;
use super::ask::{Ask, Prompt};
use super::common::{self, MOST_CHOICES};
use super::fields::{Fields, kind};
use super::format::constraint;
use super::refused::refuse_unsupported;

/// Turns a completions request into a plain ask, or says what is wrong with it.
pub fn completion_ask(body: &Value) -> Result<Ask, WireError> {
    let body = Fields::body(body)?;
    let (target, reference) = common::target_and_reference(&body)?;
    refuse_unsupported(&body)?;
    let ask = Ask {
        target,
        reference,
        prompts: prompts(body.required("prompt")?)?,
        n: common::answers(&body)?,
        max_tokens: common::max_tokens(&body)?,
        sampling: common::sampling(&body)?,
        stop: common::stop(&body, "stop")?,
        logprobs: body.integer("logprobs", 0..=20)?.map(|top| top as u8),
        constraint: constraint(&body)?,
        tools: None,
        delivery: common::delivery(&body)?,
    };
    if ask.choices() > MOST_CHOICES {
        let message = format!(
            "{} prompts times 'n' make {} answers, but one request may ask for {MOST_CHOICES}: split it",
            ask.prompts.len(),
            ask.choices()
        );
        return Err(WireError::invalid("prompt", message));
    }
    Ok(ask)
}

/// Text, token ids, or a list of either.
fn prompts(value: &Value) -> Result<Vec<Prompt>, WireError> {
    match value {
        Value::String(text) => Ok(vec![Prompt::Text(text.clone())]),
        Value::Array(items) if items.is_empty() => Err(WireError::invalid(
            "prompt",
            "'prompt' is empty: give text or token ids",
        )),
        Value::Array(items) if items.iter().all(Value::is_number) => Ok(vec![tokens(items)?]),
        Value::Array(items) => items
            .iter()
            .map(|item| match item {
                Value::String(text) => Ok(Prompt::Text(text.clone())),
                Value::Array(ids) => tokens(ids),
                other => Err(wrong_prompt(other)),
            })
            .collect(),
        other => Err(wrong_prompt(other)),
    }
}

fn tokens(ids: &[Value]) -> Result<Prompt, WireError> {
    let token = |id: &Value| {
        let number = id.as_u64().and_then(|number| u32::try_from(number).ok());
        number.map(TokenId).ok_or_else(|| {
            WireError::invalid(
                "prompt",
                format!("the token ids of 'prompt' must be integers from 0, but one is {id}"),
            )
        })
    };
    if ids.is_empty() {
        return Err(WireError::invalid(
            "prompt",
            "'prompt' holds an empty list of token ids",
        ));
    }
    ids.iter()
        .map(token)
        .collect::<Result<_, _>>()
        .map(Prompt::Tokens)
}

fn wrong_prompt(value: &Value) -> WireError {
    let message = format!(
        "'prompt' must be text, token ids or a list of either, but there is {} in it",
        kind(value)
    );
    WireError::invalid("prompt", message)
}
