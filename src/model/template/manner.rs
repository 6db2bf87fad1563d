//! How a model is shown functions, calls and results: by its own template as far as that shows them, else in words of
//! ours, so that every model can be asked.

use std::hash::{Hash, Hasher};

use serde_json::{Value as Json, json};

use crate::model::calls::{CallForm, Tool};

use super::{ChatMessage, ChatTemplate, TemplateInputs};

/// What a trial conversation is about.
const FUNCTION: &str = "trial_function";
const PLACE: &str = "trial_place";
const RESULT: &str = "trial_result";

/// What a template shows by itself, found out by rendering trial conversations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manner {
    pub form: CallForm,
    /// Whether the template describes the functions.
    tools: bool,
    /// Whether it shows calls in an assistant's turn.
    calls: bool,
    /// Whether it shows results in turns of the role `tool`.
    results: bool,
    /// Whether it takes a system turn.
    system: bool,
}

impl Manner {
    /// Nothing but words of ours.
    pub const OURS: Self = Self {
        form: CallForm::TAGGED,
        tools: false,
        calls: false,
        results: false,
        system: true,
    };

    /// `source`: all that the model's configuration says, templates included.
    pub fn find(template: &ChatTemplate, source: &str) -> Self {
        let tools = json!([trial_tool().described()]);
        let render = |messages: &[ChatMessage]| {
            let inputs = TemplateInputs {
                tools: tools.clone(),
                ..TemplateInputs::default()
            };
            template.render_with(messages, &inputs).unwrap_or_default()
        };
        let asked = ChatMessage::new("user", "Hello");
        let system = template.render(&[ChatMessage::new("system", "Hello"), asked.clone()]);
        let ours = Self {
            system: system.is_ok(),
            ..Self::OURS
        };
        if !render(std::slice::from_ref(&asked)).contains(FUNCTION) {
            return ours;
        }
        let called = [asked, trial_call()];
        let answered = render(&[called.as_slice(), &[trial_result()]].concat());
        let called = [answered.clone(), render(&called)]
            .into_iter()
            .find(|text| text.contains(PLACE));
        let form = match &called {
            Some(text) => CallForm::of_call(text, FUNCTION, PLACE),
            None => CallForm::of_source(source),
        };
        // Where a form is not known here, the model is told of one that is.
        let Some(form) = form else { return ours };
        Self {
            form,
            tools: true,
            calls: called.is_some(),
            results: answered.contains(RESULT),
            ..ours
        }
    }

    /// The conversation in turns that the template shows, and what to give it as `tools`.
    pub fn put(&self, messages: &[ChatMessage], tools: &[Tool]) -> (Vec<ChatMessage>, Json) {
        let mut turns = self.spelled_out(messages);
        if tools.is_empty() {
            return (turns, Json::Null);
        }
        let described: Vec<Json> = tools.iter().map(Tool::described).collect();
        if self.tools {
            return (turns, Json::Array(described));
        }
        self.tell(&mut turns, &instruction(&described));
        (turns, Json::Null)
    }

    /// Puts calls and results that the template does not show into the text of turns that it does.
    fn spelled_out(&self, messages: &[ChatMessage]) -> Vec<ChatMessage> {
        let mut turns: Vec<ChatMessage> = Vec::with_capacity(messages.len());
        let mut result_before = false;
        for message in messages {
            let is_result = message.role == "tool";
            let mut turn = message.clone();
            if self.form == CallForm::MISTRAL {
                shorten_ids(&mut turn);
            }
            if is_result && !self.results {
                turn = ChatMessage::new(
                    "user",
                    format!("<tool_response>\n{}\n</tool_response>", turn.content),
                );
            } else if !self.calls
                && let Some(calls) = turn.extra.shift_remove("tool_calls")
            {
                turn.content = [std::mem::take(&mut turn.content), written(&self.form, &calls)]
                    .into_iter()
                    .filter(|part| !part.is_empty())
                    .collect::<Vec<_>>()
                    .join("\n");
            }
            // Templates that want user and assistant in turn get one turn of what would be several.
            let joins = result_before && turn.role == "user";
            match turns.last_mut().filter(|_| joins) {
                Some(last) => last.content = format!("{}\n{}", last.content, turn.content),
                None => turns.push(turn),
            }
            result_before = !self.results && (is_result || joins);
        }
        turns
    }

    /// Adds to what the model is told before all else.
    fn tell(&self, turns: &mut Vec<ChatMessage>, text: &str) {
        match turns.first_mut() {
            Some(first) if first.role == "system" => first.content = format!("{}\n\n{text}", first.content),
            _ if self.system => turns.insert(0, ChatMessage::new("system", text)),
            Some(first) => first.content = format!("{text}\n\n{}", first.content),
            None => turns.push(ChatMessage::new("user", text)),
        }
    }
}

/// What a model is told whose template knows no functions.
fn instruction(described: &[Json]) -> String {
    let functions: Vec<String> = described
        .iter()
        .map(|tool| tool["function"].to_string())
        .collect();
    format!(
        "You can call functions:\n{}\nTo call one, answer with\n<tool_call>\n{{\"name\": its name, \"arguments\": {{…}}}}\n\
         </tool_call>\nIts result comes in <tool_response>.",
        functions.join("\n")
    )
}

/// Calls in the model's own form.
fn written(form: &CallForm, calls: &Json) -> String {
    let one = |call: &Json| {
        let function = &call["function"];
        format!(
            "{{\"name\": {}, \"{}\": {}}}",
            function["name"], form.arguments, function["arguments"]
        )
    };
    let all: Vec<String> = calls.as_array().into_iter().flatten().map(one).collect();
    let open = form.open.unwrap_or_default();
    match form.close {
        Some(close) => {
            let marked = all.iter().map(|call| format!("{open}\n{call}\n{close}"));
            marked.collect::<Vec<_>>().join("\n")
        }
        None if form.list => format!("{open}[{}]", all.join(", ")),
        None => all.join("\n"),
    }
}

/// Mistral's templates take nothing but ids of nine letters and digits.
fn shorten_ids(turn: &mut ChatMessage) {
    let calls = turn.extra.get_mut("tool_calls").and_then(Json::as_array_mut);
    let ids = calls.into_iter().flatten().filter_map(|call| call.get_mut("id"));
    ids.for_each(shorten);
    turn.extra.get_mut("tool_call_id").into_iter().for_each(shorten);
}

fn shorten(id: &mut Json) {
    const LENGTH: usize = 9;
    let Some(text) = id.as_str() else { return };
    if text.len() == LENGTH && text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return;
    }
    let mut hasher = siphasher::sip::SipHasher13::new();
    text.hash(&mut hasher);
    let mut rest = hasher.finish();
    let mut short = String::with_capacity(LENGTH);
    for _ in 0..LENGTH {
        short.extend(char::from_digit((rest % 36) as u32, 36));
        rest /= 36;
    }
    *id = short.into();
}

fn trial_tool() -> Tool {
    Tool {
        name: FUNCTION.to_owned(),
        description: Some("A trial".to_owned()),
        parameters: Some(
            json!({"type": "object", "properties": {"place": {"type": "string", "description": "A place"}}}),
        ),
        strict: false,
    }
}

fn trial_call() -> ChatMessage {
    let function = json!({"name": FUNCTION, "arguments": {"place": PLACE}});
    let mut message = ChatMessage::new("assistant", "");
    let call = json!([{"id": "trialcall", "type": "function", "function": function}]);
    message.extra.insert("tool_calls".to_owned(), call);
    message
}

fn trial_result() -> ChatMessage {
    let mut message = ChatMessage::new("tool", RESULT);
    message
        .extra
        .insert("tool_call_id".to_owned(), json!("trialcall"));
    message.extra.insert("name".to_owned(), json!(FUNCTION));
    message
}
