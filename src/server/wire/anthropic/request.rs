//! `POST /v1/messages`: the request.

use serde_json::Value;

use crate::engine::{ChatMessage, Tool};
use crate::server::wire::WireError;
use crate::server::wire::ask::{Ask, CallChoice, Delivery, Prompt, ToolUse};
use crate::server::wire::common;
use crate::server::wire::fields::{Fields, kind};
use crate::server::wire::messages::{add_calls, called, result, text_of};
use crate::server::wire::refused::{Harmless, refuse};
use crate::server::wire::tools::schema;

const LEAVE_OUT: &str = "leave it out";
const REFUSED: &[(&str, Harmless, &str)] = &[
    ("mcp_servers", Harmless::Empty, "call the servers yourself"),
    ("container", Harmless::Empty, LEAVE_OUT),
    ("context_management", Harmless::Empty, LEAVE_OUT),
    (
        "output_format",
        Harmless::Empty,
        "use /v1/chat/completions with 'response_format'",
    ),
];

/// Turns a request into a plain ask, or says what is wrong with it.
pub fn message_ask(body: &Value) -> Result<Ask, WireError> {
    let fields = Fields::body(body)?;
    fields.required("max_tokens")?;
    count_ask(body)
}

/// The same of a request whose tokens are only counted, which sets them no limit.
pub fn count_ask(body: &Value) -> Result<Ask, WireError> {
    let body = Fields::body(body)?;
    let (target, reference) = common::target_and_reference(&body)?;
    refuse(&body, REFUSED)?;
    if let Some(thinking) = body.object("thinking")?
        && thinking.text("type")? != Some("disabled")
    {
        return Err(WireError::unsupported(
            "thinking",
            "set its type to disabled, or leave it out",
        ));
    }
    let max_tokens = body.integer("max_tokens", 1..=i64::from(u32::MAX))?;
    Ok(Ask {
        target,
        reference,
        prompts: vec![Prompt::Chat(messages(&body)?)],
        n: 1,
        max_tokens: max_tokens.and_then(|tokens| u32::try_from(tokens).ok()),
        sampling: common::sampling(&body)?,
        stop: common::stop(&body, "stop_sequences")?,
        logprobs: None,
        constraint: None,
        tools: tool_use(&body)?,
        delivery: if body.boolean("stream")?.unwrap_or(false) {
            Delivery::Stream { include_usage: true }
        } else {
            Delivery::Whole
        },
    })
}

fn messages(body: &Fields<'_>) -> Result<Vec<ChatMessage>, WireError> {
    let mut messages = Vec::new();
    if body.get("system").is_some() {
        messages.push(ChatMessage::new(
            "system",
            text_of(body, "system", &[("text", "text")])?,
        ));
    }
    body.required("messages")?;
    let items = body.list("messages")?.unwrap_or_default();
    if items.is_empty() {
        let message = "'messages' is empty: give at least one message";
        return Err(WireError::invalid("messages", message));
    }
    for (at, item) in items.iter().enumerate() {
        let fields = Fields::at(item, format!("messages[{at}]"))?;
        fields.required("role")?;
        match fields.text("role")?.unwrap_or_default() {
            "user" => user(&fields, &mut messages)?,
            "assistant" => assistant(&fields, &mut messages)?,
            other => {
                let param = fields.path("role");
                let message = format!("'{param}' must be user or assistant, but it is '{other}'");
                return Err(WireError::invalid(param, message));
            }
        }
    }
    Ok(messages)
}

/// The blocks of a message; a text is one block.
fn blocks<'a>(fields: &Fields<'a>) -> Result<Vec<(Option<Fields<'a>>, &'a str)>, WireError> {
    let path = fields.path("content");
    match fields.required("content")? {
        Value::String(text) => Ok(vec![(None, text)]),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .map(|(at, item)| {
                let block = Fields::at(item, format!("{path}[{at}]"))?;
                block.required("type")?;
                let kind = block.text("type")?.unwrap_or_default();
                Ok((Some(block), kind))
            })
            .collect(),
        other => {
            let message = format!(
                "'{path}' must be a string or a list of blocks, but it is {}",
                kind(other)
            );
            Err(WireError::invalid(path, message))
        }
    }
}

/// Results of calls are turns of their own, before what the user says.
fn user(fields: &Fields<'_>, messages: &mut Vec<ChatMessage>) -> Result<(), WireError> {
    let mut said = Vec::new();
    for (block, word) in blocks(fields)? {
        match (block, word) {
            (None, text) => said.push(text.to_owned()),
            (Some(block), "text") => said.push(needed(&block, "text")?),
            (Some(block), "tool_result") => {
                let id = needed(&block, "tool_use_id")?;
                let content = match block.get("content") {
                    None => String::new(),
                    Some(_) => text_of(&block, "content", &[("text", "text")])?,
                };
                let failed = block.boolean("is_error")?.unwrap_or(false);
                let content = if failed {
                    format!("Error: {content}")
                } else {
                    content
                };
                let turn = result(&id, content, messages);
                messages.push(turn);
            }
            (Some(block), _) => return Err(only_text(&block)),
        }
    }
    if !said.is_empty() {
        messages.push(ChatMessage::new("user", said.join("\n")));
    }
    Ok(())
}

fn assistant(fields: &Fields<'_>, messages: &mut Vec<ChatMessage>) -> Result<(), WireError> {
    let (mut said, mut calls) = (Vec::new(), Vec::new());
    for (block, word) in blocks(fields)? {
        match (block, word) {
            (None, text) => said.push(text.to_owned()),
            (Some(block), "text") => said.push(needed(&block, "text")?),
            (Some(block), "tool_use") => {
                let input = block.required("input")?.to_string();
                calls.push(called(&needed(&block, "id")?, &needed(&block, "name")?, &input));
            }
            (Some(block), _) => return Err(only_text(&block)),
        }
    }
    let mut turn = ChatMessage::new("assistant", said.join("\n"));
    add_calls(&mut turn, calls);
    messages.push(turn);
    Ok(())
}

fn only_text(block: &Fields<'_>) -> WireError {
    WireError::unsupported(
        block.path("type"),
        "the models read text only; send text, tool_use and tool_result",
    )
}

fn needed(fields: &Fields<'_>, name: &str) -> Result<String, WireError> {
    fields.required(name)?;
    Ok(fields.text(name)?.unwrap_or_default().to_owned())
}

fn tool_use(body: &Fields<'_>) -> Result<Option<ToolUse>, WireError> {
    let items = body.list("tools")?.unwrap_or_default();
    let tools: Result<Vec<Tool>, WireError> = items
        .iter()
        .enumerate()
        .map(|(at, item)| {
            let fields = Fields::at(item, format!("tools[{at}]"))?;
            if fields.text("type")?.is_some_and(|kind| kind != "custom") {
                let mend = "only functions of yours can be called; send tools with an 'input_schema'";
                return Err(WireError::unsupported(fields.path("type"), mend));
            }
            fields.required("input_schema")?;
            Ok(Tool {
                name: needed(&fields, "name")?,
                description: fields.text("description")?.map(str::to_owned),
                parameters: schema(&fields, "input_schema")?,
                strict: fields.boolean("strict")?.unwrap_or(false),
            })
        })
        .collect();
    let tools = tools?;
    let all: Vec<String> = tools.iter().map(|tool| tool.name.clone()).collect();
    let (mut choice, mut callable, mut parallel) = (Some(CallChoice::Auto), all, true);
    if let Some(given) = body.object("tool_choice")? {
        given.required("type")?;
        choice = match given.text("type")?.unwrap_or_default() {
            "auto" => Some(CallChoice::Auto),
            "any" => Some(CallChoice::Required),
            "none" => None,
            "tool" => {
                let name = needed(&given, "name")?;
                if !callable.contains(&name) {
                    let message =
                        format!("'tool_choice.name' is '{name}', but 'tools' has no function of that name");
                    return Err(WireError::invalid("tool_choice.name", message));
                }
                callable = vec![name];
                Some(CallChoice::Named)
            }
            other => {
                let message =
                    format!("'tool_choice.type' must be auto, any, tool or none, but it is '{other}'");
                return Err(WireError::invalid("tool_choice.type", message));
            }
        };
        parallel = !given.boolean("disable_parallel_tool_use")?.unwrap_or(false);
    }
    if choice == Some(CallChoice::Required) && tools.is_empty() {
        let message = "'tool_choice' wants a call, but there are no 'tools': give at least one";
        return Err(WireError::invalid("tool_choice", message));
    }
    Ok(choice.filter(|_| !tools.is_empty()).map(|choice| ToolUse {
        tools,
        callable,
        choice,
        parallel: parallel && choice != CallChoice::Named,
    }))
}
