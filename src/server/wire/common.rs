//! The fields that chat and completions share.

use serde_json::Value;

use crate::config::DEFAULT_SLA;
use crate::units::TokenId;

use super::WireError;
use super::ask::{Delivery, SamplingWish, Target};
use super::fields::{Fields, kind, number_in};
use super::reference::Reference;

/// Answers to one prompt; more cost as much as as many requests.
pub(super) const MOST_ANSWERS: i64 = 8;
/// Choices of one request over all its prompts, so that one request cannot fill the queue.
pub(super) const MOST_CHOICES: usize = 64;
const MOST_STOPS: usize = 16;

/// Who is to answer, and what the answer is measured against.
pub(super) fn target_and_reference(body: &Fields<'_>) -> Result<(Target, Option<Reference>), WireError> {
    body.required("model")?;
    let model = body.text("model")?.unwrap_or_default();
    let extension = body.object("messplus")?;
    let asked_sla = extension
        .as_ref()
        .map(|fields| fields.text("sla"))
        .transpose()?
        .flatten();
    let reference = extension.as_ref().map(Reference::read).transpose()?.flatten();
    let by_model = match model {
        "auto" => None,
        _ => match model.strip_prefix("auto:") {
            Some(sla) => Some(sla),
            None => {
                return Ok((
                    Target::Named {
                        model: model.to_owned(),
                    },
                    reference,
                ));
            }
        },
    };
    let target = match (by_model, asked_sla) {
        (Some(one), Some(other)) if one != other => {
            let message = format!(
                "'model' asks for the SLA '{one}' and 'messplus.sla' for '{other}': give one of them"
            );
            return Err(WireError::invalid("messplus.sla", message));
        }
        (Some(sla), _) => Target::Auto {
            sla: sla.to_owned(),
            param: "model",
        },
        (None, Some(sla)) => Target::Auto {
            sla: sla.to_owned(),
            param: "messplus.sla",
        },
        (None, None) => Target::Auto {
            sla: DEFAULT_SLA.to_owned(),
            param: "model",
        },
    };
    Ok((target, reference))
}

/// How tokens are to be drawn.
pub(super) fn sampling(body: &Fields<'_>) -> Result<SamplingWish, WireError> {
    let narrow = |number: Option<f64>| number.map(|number| number as f32);
    // A top_p of 0 means the likeliest token alone; the sampler wants a positive number for it.
    let top_p = narrow(body.number("top_p", 0.0..=1.0)?).map(|mass| mass.max(f32::MIN_POSITIVE));
    // vLLM's clients say -1 for "all", llama.cpp's say 0.
    let top_k = body
        .integer("top_k", -1..=i64::from(u32::MAX))?
        .map(|k| u32::try_from(k).unwrap_or(0));
    Ok(SamplingWish {
        temperature: narrow(body.number("temperature", 0.0..=2.0)?),
        top_p,
        top_k,
        min_p: narrow(body.number("min_p", 0.0..=1.0)?),
        repetition_penalty: narrow(body.number("repetition_penalty", 0.01..=100.0)?),
        presence_penalty: narrow(body.number("presence_penalty", -2.0..=2.0)?),
        frequency_penalty: narrow(body.number("frequency_penalty", -2.0..=2.0)?),
        logit_bias: logit_bias(body)?,
        seed: seed(body)?,
    })
}

fn logit_bias(body: &Fields<'_>) -> Result<Vec<(TokenId, f32)>, WireError> {
    let Some(bias) = body.object("logit_bias")? else {
        return Ok(Vec::new());
    };
    bias.entries()
        .map(|(token, amount)| {
            let path = bias.path(token);
            let id = token.parse().map_err(|_| {
                let message = format!("the keys of 'logit_bias' must be token ids, but one is '{token}'");
                WireError::invalid("logit_bias", message)
            })?;
            Ok((TokenId(id), number_in(amount, &path, -100.0..=100.0)? as f32))
        })
        .collect()
}

/// Any integer of 64 bits, signed or not.
fn seed(body: &Fields<'_>) -> Result<Option<u64>, WireError> {
    match body.get("seed") {
        Some(value) if value.as_u64().is_some() => Ok(value.as_u64()),
        _ => Ok(body.integer("seed", i64::MIN..=i64::MAX)?.map(|seed| seed as u64)),
    }
}

/// Tokens to generate at most. The newer name wins where a client sends both.
pub(super) fn max_tokens(body: &Fields<'_>) -> Result<Option<u32>, WireError> {
    let most = i64::from(u32::MAX);
    let newer = body.integer("max_completion_tokens", 1..=most)?;
    let older = body.integer("max_tokens", 1..=most)?;
    Ok(newer.or(older).and_then(|tokens| u32::try_from(tokens).ok()))
}

/// `name`: what this door calls the field.
pub(super) fn stop(body: &Fields<'_>, name: &str) -> Result<Vec<String>, WireError> {
    let items = match body.get(name) {
        None => return Ok(Vec::new()),
        Some(Value::Array(items)) => items.as_slice(),
        Some(one) => std::slice::from_ref(one),
    };
    if items.len() > MOST_STOPS {
        return Err(WireError::invalid(
            name,
            format!("'{name}' may hold up to {MOST_STOPS} strings"),
        ));
    }
    items
        .iter()
        .map(|item| match item {
            Value::String(text) if text.is_empty() => Err(WireError::invalid(
                name,
                format!("'{name}' must not hold an empty string"),
            )),
            Value::String(text) => Ok(text.clone()),
            other => Err(WireError::invalid(
                name,
                format!(
                    "'{name}' must be a string or a list of strings, but holds {}",
                    kind(other)
                ),
            )),
        })
        .collect()
}

pub(super) fn answers(body: &Fields<'_>) -> Result<u32, WireError> {
    Ok(body.integer("n", 1..=MOST_ANSWERS)?.map_or(1, |n| n as u32))
}

pub(super) fn delivery(body: &Fields<'_>) -> Result<Delivery, WireError> {
    let stream = body.boolean("stream")?.unwrap_or(false);
    match (stream, body.object("stream_options")?) {
        (true, options) => {
            let include_usage = options
                .map(|options| options.boolean("include_usage"))
                .transpose()?
                .flatten()
                .unwrap_or(false);
            Ok(Delivery::Stream { include_usage })
        }
        (false, None) => Ok(Delivery::Whole),
        (false, Some(_)) => Err(WireError::invalid(
            "stream_options",
            "'stream_options' is only allowed when 'stream' is true: leave it out or stream",
        )),
    }
}
