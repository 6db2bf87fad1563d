//! The conversation of a chat request.

use serde_json::{Value, json};

use crate::engine::ChatMessage;

use super::WireError;
use super::fields::{Fields, kind};

/// `messages`, each as a model's template wants it.
pub(super) fn messages(body: &Fields<'_>) -> Result<Vec<ChatMessage>, WireError> {
    body.required("messages")?;
    let items = body.list("messages")?.unwrap_or_default();
    if items.is_empty() {
        return Err(WireError::invalid(
            "messages",
            "'messages' is empty: give at least one message",
        ));
    }
    let mut messages = Vec::with_capacity(items.len());
    for (at, item) in items.iter().enumerate() {
        let next = message(item, format!("messages[{at}]"), &messages)?;
        messages.push(next);
    }
    Ok(messages)
}

fn message(item: &Value, path: String, before: &[ChatMessage]) -> Result<ChatMessage, WireError> {
    let fields = Fields::at(item, path)?;
    fields.required("role")?;
    match fields.text("role")?.unwrap_or_default() {
        "system" | "developer" => Ok(ChatMessage::new("system", content(&fields)?)),
        "user" => Ok(ChatMessage::new("user", content(&fields)?)),
        "assistant" => assistant(&fields),
        "tool" => {
            fields.required("tool_call_id")?;
            let id = fields.text("tool_call_id")?.unwrap_or_default();
            Ok(result(id, content(&fields)?, before))
        }
        "function" => {
            let mend = "give the result as a message of the role tool";
            Err(WireError::unsupported(fields.path("role"), mend))
        }
        other => {
            let param = fields.path("role");
            let message =
                format!("'{param}' must be system, developer, user, assistant or tool, but it is '{other}'");
            Err(WireError::invalid(param, message))
        }
    }
}

/// A turn of the model itself, which may be silent and may have called functions.
fn assistant(fields: &Fields<'_>) -> Result<ChatMessage, WireError> {
    if fields.get("function_call").is_some() {
        return Err(WireError::unsupported(
            fields.path("function_call"),
            "use 'tool_calls'",
        ));
    }
    let said = match fields.get("content") {
        None => String::new(),
        Some(_) => content(fields)?,
    };
    let mut message = ChatMessage::new("assistant", said);
    let calls = fields.list("tool_calls")?.unwrap_or_default();
    let calls: Result<Vec<Value>, WireError> = calls
        .iter()
        .enumerate()
        .map(|(at, item)| {
            let call = Fields::at(item, fields.path(&format!("tool_calls[{at}]")))?;
            call.required("function")?;
            let id = call.text("id")?.unwrap_or_default();
            let function = call.object("function")?.unwrap_or(call);
            function.required("name")?;
            let name = function.text("name")?.unwrap_or_default();
            Ok(called(id, name, function.text("arguments")?.unwrap_or_default()))
        })
        .collect();
    add_calls(&mut message, calls?);
    Ok(message)
}

/// A call as chat templates expect it: its arguments are an object. What a model once wrote that is none stays text.
pub(super) fn called(id: &str, name: &str, arguments: &str) -> Value {
    let given = if arguments.trim().is_empty() {
        "{}"
    } else {
        arguments
    };
    let arguments = serde_json::from_str::<Value>(given).unwrap_or_else(|_| given.into());
    json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}})
}

/// Adds calls to a turn of the model's. Templates ask whether there is such a field, so none is made for no calls.
pub(super) fn add_calls(message: &mut ChatMessage, calls: Vec<Value>) {
    if calls.is_empty() {
        return;
    }
    let field = message.extra.entry("tool_calls").or_insert_with(|| json!([]));
    if let Value::Array(all) = field {
        all.extend(calls);
    }
}

/// The result of a call in `before`; some templates want the name of what was called.
pub(super) fn result(id: &str, content: String, before: &[ChatMessage]) -> ChatMessage {
    let mut message = ChatMessage::new("tool", content);
    message.extra.insert("tool_call_id".to_owned(), json!(id));
    let calls = before
        .iter()
        .rev()
        .filter_map(|message| message.extra.get("tool_calls")?.as_array());
    if let Some(call) = calls.flatten().find(|call| call["id"] == id) {
        message
            .extra
            .insert("name".to_owned(), call["function"]["name"].clone());
    }
    message
}

/// A string, or the text of a list of parts.
fn content(fields: &Fields<'_>) -> Result<String, WireError> {
    fields.required("content")?;
    text_of(fields, "content", &[("text", "text"), ("refusal", "refusal")])
}

/// The text of a field that is a string or a list of parts. `parts`: the types that may stand in it and where each has
/// its text.
pub(super) fn text_of(fields: &Fields<'_>, name: &str, parts: &[(&str, &str)]) -> Result<String, WireError> {
    let path = fields.path(name);
    match fields.get(name) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Array(items)) => {
            let texts: Result<Vec<&str>, WireError> = items
                .iter()
                .enumerate()
                .map(|(at, part)| part_text(part, format!("{path}[{at}]"), parts))
                .collect();
            Ok(texts?.join("\n"))
        }
        other => {
            let got = other.map_or("missing", kind);
            let message = format!("'{path}' must be a string or a list of parts, but it is {got}");
            Err(WireError::invalid(path, message))
        }
    }
}

fn part_text<'a>(part: &'a Value, path: String, parts: &[(&str, &str)]) -> Result<&'a str, WireError> {
    let fields = Fields::at(part, path)?;
    fields.required("type")?;
    let given = fields.text("type")?.unwrap_or_default();
    let Some((_, field)) = parts.iter().find(|(name, _)| *name == given) else {
        let mend = "the models read text only; send parts of text";
        return Err(WireError::unsupported(fields.path("type"), mend));
    };
    fields.required(field)?;
    Ok(fields.text(field)?.unwrap_or_default())
}
