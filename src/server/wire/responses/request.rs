//! `POST /v1/responses`: the request.

use serde_json::{Map, Value, json};

use crate::engine::Constraint;
use crate::server::wire::WireError;
use crate::server::wire::ask::{Ask, Delivery, Prompt};
use crate::server::wire::common;
use crate::server::wire::fields::{Fields, kind};
use crate::server::wire::format::constraint_of;
use crate::server::wire::messages::text_of;
use crate::server::wire::refused::{Harmless, refuse};
use crate::server::wire::tools::{ToolForm, tool_use};
use crate::units::RequestId;

use super::item::{Item, Part, Role, Status, turns};
use super::object::Echo;

/// A request that the Responses API got, but for the responses before it.
#[derive(Clone, Debug)]
pub struct ResponseAsk {
    ask: Ask,
    /// What the request brings along.
    pub input: Vec<Item>,
    pub echo: Echo,
}

impl ResponseAsk {
    pub fn delivery(&self) -> Delivery {
        self.ask.delivery
    }

    pub fn with_logprobs(&self) -> bool {
        self.ask.logprobs.is_some()
    }

    /// The plain ask, once it is known what was said before.
    pub fn after(&self, before: &[Item]) -> Ask {
        let all = [before, &self.input].concat();
        Ask {
            prompts: vec![Prompt::Chat(turns(self.echo.instructions.as_deref(), &all))],
            ..self.ask.clone()
        }
    }
}

const LEAVE_OUT: &str = "leave it out";
const REFUSED: &[(&str, Harmless, &str)] = &[
    ("background", Harmless::Empty, "wait for the answer or stream it"),
    (
        "background_options",
        Harmless::Empty,
        "wait for the answer or stream it",
    ),
    ("context_management", Harmless::Empty, LEAVE_OUT),
    ("conversation", Harmless::Never, "use 'previous_response_id'"),
    (
        "prompt",
        Harmless::Never,
        "send the text of the prompt as 'instructions' and 'input'",
    ),
    (
        "truncation",
        Harmless::Words(&["disabled"]),
        "inputs are never truncated; shorten it yourself",
    ),
    ("image", Harmless::Empty, LEAVE_OUT),
    ("moderation", Harmless::Empty, LEAVE_OUT),
    ("response_format", Harmless::Never, "use 'text.format'"),
    ("messages", Harmless::Never, "use 'input'"),
    ("max_tokens", Harmless::Never, "use 'max_output_tokens'"),
    (
        "max_completion_tokens",
        Harmless::Never,
        "use 'max_output_tokens'",
    ),
    ("stop", Harmless::Empty, LEAVE_OUT),
];

/// What `include` may ask for: all of it but the log-probabilities belongs to items that are never made here.
const LOGPROBS: &str = "message.output_text.logprobs";
const INCLUDABLE: [&str; 8] = [
    LOGPROBS,
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
    "reasoning.encrypted_content",
];

/// Turns a request into a plain ask, or says what is wrong with it.
pub fn response_ask(request: RequestId, body: &Value) -> Result<ResponseAsk, WireError> {
    let body = Fields::body(body)?;
    let (target, reference) = common::target_and_reference(&body)?;
    refuse(&body, REFUSED)?;
    if body.integer("n", 1..=i64::MAX)?.is_some_and(|n| n > 1) {
        return Err(WireError::unsupported(
            "n",
            "send the request again for another answer",
        ));
    }
    let tools = tool_use(&body, ToolForm::Responses)?;
    let max_tokens = body
        .integer("max_output_tokens", 1..=i64::from(u32::MAX))?
        .and_then(|tokens| u32::try_from(tokens).ok());
    let top_logprobs = body.integer("top_logprobs", 0..=20)?.map(|top| top as u8);
    let logprobs = top_logprobs
        .filter(|top| *top > 0)
        .or(includes_logprobs(&body)?.then_some(0));
    let (constraint, text) = text(&body)?;
    let delivery = if body.boolean("stream")?.unwrap_or(false) {
        Delivery::Stream { include_usage: true }
    } else {
        Delivery::Whole
    };
    let own = |name: &str| Ok::<_, WireError>(body.text(name)?.map(str::to_owned));
    Ok(ResponseAsk {
        input: input(request, &body)?,
        echo: Echo {
            instructions: own("instructions")?,
            max_output_tokens: max_tokens,
            max_tool_calls: body.integer("max_tool_calls", 0..=i64::MAX)?,
            metadata: metadata(&body)?,
            parallel_tool_calls: body.boolean("parallel_tool_calls")?.unwrap_or(true),
            previous_response_id: own("previous_response_id")?,
            prompt_cache_key: own("prompt_cache_key")?,
            reasoning: reasoning(&body)?,
            safety_identifier: own("safety_identifier")?,
            service_tier: "default",
            store: body.boolean("store")?.unwrap_or(true),
            temperature: body.number("temperature", 0.0..=2.0)?,
            text,
            tool_choice: body.get("tool_choice").cloned().unwrap_or_else(|| json!("auto")),
            tools: echoed_tools(&body)?,
            top_logprobs: top_logprobs.unwrap_or(0),
            top_p: body.number("top_p", 0.0..=1.0)?,
            truncation: "disabled",
            user: own("user")?,
        },
        ask: Ask {
            target,
            reference,
            prompts: Vec::new(),
            n: 1,
            max_tokens,
            sampling: common::sampling(&body)?,
            stop: Vec::new(),
            logprobs,
            constraint,
            tools,
            delivery,
        },
    })
}

fn includes_logprobs(body: &Fields<'_>) -> Result<bool, WireError> {
    let wanted = body.list("include")?.unwrap_or_default();
    for (at, item) in wanted.iter().enumerate() {
        if !item.as_str().is_some_and(|name| INCLUDABLE.contains(&name)) {
            let param = format!("include[{at}]");
            let message = format!(
                "'{param}' must be one of {}, but it is {item}",
                INCLUDABLE.join(", ")
            );
            return Err(WireError::invalid(param, message));
        }
    }
    Ok(wanted.iter().any(|item| item == LOGPROBS))
}

/// The constraint, and the field as the response repeats it.
fn text(body: &Fields<'_>) -> Result<(Option<Constraint>, Value), WireError> {
    let mut format = json!({"type": "text"});
    let mut verbosity = json!("medium");
    let mut constraint = None;
    if let Some(text) = body.object("text")? {
        if let Some(given) = text.object("format")? {
            constraint = constraint_of(&given, false)?;
            format = text.get("format").cloned().unwrap_or(format);
        }
        // A hint, and the models know nothing of it.
        if let Some(word) = text.text("verbosity")? {
            verbosity = json!(word);
        }
    }
    Ok((constraint, json!({"format": format, "verbosity": verbosity})))
}

/// A hint to models that reason on demand.
fn reasoning(body: &Fields<'_>) -> Result<Value, WireError> {
    let given = body.object("reasoning")?;
    let of = |name: &str| given.as_ref().and_then(|fields| fields.get(name)).cloned();
    Ok(json!({"effort": of("effort"), "summary": of("summary")}))
}

fn metadata(body: &Fields<'_>) -> Result<Map<String, Value>, WireError> {
    let Some(given) = body.object("metadata")? else {
        return Ok(Map::new());
    };
    let one = |(name, value): (&String, &Value)| match value {
        Value::String(_) => Ok((name.clone(), value.clone())),
        other => Err(WireError::wrong_type(given.path(name), "a string", other)),
    };
    given.entries().map(one).collect()
}

/// Tools as they were understood.
fn echoed_tools(body: &Fields<'_>) -> Result<Vec<Value>, WireError> {
    let one = |item: &Value| {
        json!({
            "type": "function",
            "name": item["name"],
            "description": item["description"],
            "parameters": item["parameters"],
            "strict": item["strict"].as_bool().unwrap_or(true),
        })
    };
    Ok(body.list("tools")?.unwrap_or_default().iter().map(one).collect())
}

/// A text, or a list of items.
fn input(request: RequestId, body: &Fields<'_>) -> Result<Vec<Item>, WireError> {
    let id = |kind: &str, at: usize| format!("{kind}_{:016x}i{at:03x}", request.0);
    match body.required("input")? {
        Value::String(text) => Ok(vec![Item::Message {
            id: id("msg", 0),
            status: Status::Completed,
            role: Role::User,
            content: vec![Part::InputText { text: text.clone() }],
        }]),
        Value::Array(items) if items.is_empty() => Err(WireError::invalid(
            "input",
            "'input' is empty: give a text or at least one item",
        )),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .map(|(at, value)| {
                let fields = Fields::at(value, format!("input[{at}]"))?;
                item(&fields, &|kind| id(kind, at))
            })
            .collect(),
        other => {
            let message = format!(
                "'input' must be a text or a list of items, but it is {}",
                kind(other)
            );
            Err(WireError::invalid("input", message))
        }
    }
}

/// An item gets an id of its own: a client may send the same one twice.
fn item(fields: &Fields<'_>, fresh_id: &dyn Fn(&str) -> String) -> Result<Item, WireError> {
    let status = Status::Completed;
    let needed = |name: &str| {
        fields.required(name)?;
        Ok::<_, WireError>(fields.text(name)?.unwrap_or_default().to_owned())
    };
    match fields.text("type")?.unwrap_or("message") {
        "message" => message(fields, fresh_id("msg")),
        "function_call" => Ok(Item::FunctionCall {
            id: fresh_id("fc"),
            status,
            call_id: needed("call_id")?,
            name: needed("name")?,
            arguments: needed("arguments")?,
        }),
        "function_call_output" => Ok(Item::FunctionCallOutput {
            id: fresh_id("fco"),
            status,
            call_id: needed("call_id")?,
            output: {
                fields.required("output")?;
                text_of(fields, "output", &[("input_text", "text")])?
            },
        }),
        _ => {
            let mend = "send items of type message, function_call and function_call_output";
            Err(WireError::unsupported(fields.path("type"), mend))
        }
    }
}

fn message(fields: &Fields<'_>, id: String) -> Result<Item, WireError> {
    fields.required("role")?;
    let role = match fields.text("role")?.unwrap_or_default() {
        "user" => Role::User,
        "system" => Role::System,
        "developer" => Role::Developer,
        "assistant" => Role::Assistant,
        other => {
            let param = fields.path("role");
            let message =
                format!("'{param}' must be user, system, developer or assistant, but it is '{other}'");
            return Err(WireError::invalid(param, message));
        }
    };
    fields.required("content")?;
    let kinds = [
        ("input_text", "text"),
        ("output_text", "text"),
        ("text", "text"),
        ("refusal", "refusal"),
    ];
    let text = text_of(fields, "content", &kinds)?;
    Ok(Item::Message {
        id,
        status: Status::Completed,
        role,
        content: vec![match role {
            Role::Assistant => Part::spoken(text),
            _ => Part::InputText { text },
        }],
    })
}
