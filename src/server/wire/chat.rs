//! `POST /v1/chat/completions`: the request.

use serde_json::Value;

use super::WireError;
use super::ask::{Ask, Prompt};
use super::common;
use super::fields::Fields;
use super::format::constraint;
use super::messages::messages;
use super::refused::refuse_unsupported;
use super::tools::{ToolForm, tool_use};

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
        stop: common::stop(&body, "stop")?,
        logprobs: logprobs(&body)?,
        constraint: constraint(&body)?,
        tools: tool_use(&body, ToolForm::Chat)?,
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
