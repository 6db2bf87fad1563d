//! `POST /v1/chat/completions`: the request.

use serde_json::Value;

use crate::engine::ChatMessage;

use super::WireError;
use super::ask::{Ask, Prompt};
use super::common;
use super::fields::{Fields, kind};
use super::format::constraint;
use super::refused::refuse_unsupported;

/// Turns a chat request into a plain ask, or says what is wrong with it.
pub fn chat_ask(body: &Value) -> Result<Ask, WireError> {
    let body = Fields::body(body)?;
    let (target, reference) = common::target_and_reference(&body)?;
    refuse_unsupported(&body)?;
    Ok(Ask {
        target,
        reference,
        prompts: vec![Prompt::Chat(messages(&body)?)],
        n: common::answers(&body)?,
        max_tokens: common::max_tokens(&body)?,
        sampling: common::sampling(&body)?,
        stop: common::stop(&body)?,
        logprobs: logprobs(&body)?,
        constraint: constraint(&body)?,
        delivery: common::delivery(&body)?,
    })
}

fn logprobs(body: &Fields<'_>) -> Result<Option<u8>, WireError> {
    let wanted = body.boolean("logprobs")?.unwrap_or(false);
    let top = body.integer("top_logprobs", 0..=20)?;
    match (wanted, top) {
        (true, top) => Ok(Some(top.map_or(0, |top| top as u8))),
        (false, None | Some(0)) => Ok(None),
        (false, Some(_)) => Err(WireError::invalid(
            "top_logprobs",
            "'top_logprobs' needs 'logprobs' to be true: set it",
        )),
    }
}

fn messages(body: &Fields<'_>) -> Result<Vec<ChatMessage>, WireError> {
    body.required("messages")?;
    let items = body.list("messages")?.unwrap_or_default();
    if items.is_empty() {
        return Err(WireError::invalid(
            "messages",
            "'messages' is empty: give at least one message",
        ));
    }
    items
        .iter()
        .enumerate()
        .map(|(at, item)| message(item, format!("messages[{at}]")))
        .collect()
}

fn message(item: &Value, path: String) -> Result<ChatMessage, WireError> {
    let fields = Fields::at(item, path)?;
    fields.required("role")?;
    let role = match fields.text("role")?.unwrap_or_default() {
        "system" | "developer" => "system",
        "user" => "user",
        "assistant" => "assistant",
        "tool" | "function" => {
            let mend = "give the tool's result as a user message";
            return Err(WireError::Unsupported {
                param: fields.path("role"),
                mend,
            });
        }
        other => {
            let param = fields.path("role");
            let message =
                format!("'{param}' must be system, developer, user or assistant, but it is '{other}'");
            return Err(WireError::invalid(param, message));
        }
    };
    for name in ["tool_calls", "function_call"] {
        let calls = fields
            .get(name)
            .is_some_and(|value| value.as_array().is_none_or(|calls| !calls.is_empty()));
        if calls {
            return Err(WireError::Unsupported {
                param: fields.path(name),
                mend: "leave it out",
            });
        }
    }
    Ok(ChatMessage::new(role, content(&fields, role)?))
}

/// A string, or the text of a list of parts; an assistant's turn may be empty.
fn content(fields: &Fields<'_>, role: &str) -> Result<String, WireError> {
    match fields.get("content") {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Array(parts)) => {
            let path = fields.path("content");
            let texts: Result<Vec<&str>, WireError> = parts
                .iter()
                .enumerate()
                .map(|(at, part)| part_text(part, format!("{path}[{at}]")))
                .collect();
            Ok(texts?.join("\n"))
        }
        None if role == "assistant" => Ok(String::new()),
        None => Err(WireError::Missing {
            param: fields.path("content"),
        }),
        Some(other) => {
            let param = fields.path("content");
            let message = format!(
                "'{param}' must be a string or a list of parts, but it is {}",
                kind(other)
            );
            Err(WireError::invalid(param, message))
        }
    }
}

fn part_text(part: &Value, path: String) -> Result<&str, WireError> {
    let fields = Fields::at(part, path)?;
    let field = match fields.text("type")? {
        Some("text") => "text",
        Some("refusal") => "refusal",
        Some(_) => {
            let mend = "the models read text only; send parts of type text";
            return Err(WireError::Unsupported {
                param: fields.path("type"),
                mend,
            });
        }
        None => {
            return Err(WireError::Missing {
                param: fields.path("type"),
            });
        }
    };
    fields.required(field)?;
    Ok(fields.text(field)?.unwrap_or_default())
}
