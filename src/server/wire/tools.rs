//! Functions that a request offers, and whether the model has to call one: chat's form of it and the Responses API's.

use serde_json::Value;

use crate::engine::Tool;

use super::WireError;
use super::ask::{CallChoice, ToolUse};
use super::fields::{Fields, kind};

const MOST_TOOLS: usize = 128;
const LONGEST_NAME: usize = 64;

/// How a door writes a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ToolForm {
    /// `{"type": "function", "function": {"name": …}}`.
    Chat,
    /// `{"type": "function", "name": …}`, strict unless it says otherwise.
    Responses,
}

/// Reads `tools`, `tool_choice` and `parallel_tool_calls`; `None` when nothing may be called.
pub(super) fn tool_use(body: &Fields<'_>, form: ToolForm) -> Result<Option<ToolUse>, WireError> {
    let tools = tools(body, form)?;
    let parallel = body.boolean("parallel_tool_calls")?.unwrap_or(true);
    let (choice, callable) = choice(body, form, &tools)?;
    let Some(choice) = choice.filter(|_| !tools.is_empty()) else {
        return Ok(None);
    };
    Ok(Some(ToolUse {
        callable,
        choice,
        parallel: parallel && choice != CallChoice::Named,
        tools,
    }))
}

fn tools(body: &Fields<'_>, form: ToolForm) -> Result<Vec<Tool>, WireError> {
    let items = body.list("tools")?.unwrap_or_default();
    if items.len() > MOST_TOOLS {
        let message = format!("'tools' may hold up to {MOST_TOOLS} functions");
        return Err(WireError::invalid("tools", message));
    }
    let mut tools: Vec<Tool> = Vec::with_capacity(items.len());
    for (at, item) in items.iter().enumerate() {
        let fields = Fields::at(item, format!("tools[{at}]"))?;
        fields.required("type")?;
        if fields.text("type")? != Some("function") {
            let mend = "only functions can be called; send tools of type function";
            return Err(WireError::unsupported(fields.path("type"), mend));
        }
        let function = match form {
            ToolForm::Chat => {
                fields.required("function")?;
                fields.object("function")?.unwrap_or(fields)
            }
            ToolForm::Responses => fields,
        };
        let tool = tool(&function, form)?;
        if tools.iter().any(|other| other.name == tool.name) {
            let param = function.path("name");
            let message = format!(
                "'{param}' is '{}', as another function is called already",
                tool.name
            );
            return Err(WireError::invalid(param, message));
        }
        tools.push(tool);
    }
    Ok(tools)
}

fn tool(function: &Fields<'_>, form: ToolForm) -> Result<Tool, WireError> {
    function.required("name")?;
    let name = function.text("name")?.unwrap_or_default();
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':');
    if name.is_empty() || name.len() > LONGEST_NAME || !name.chars().all(fits) {
        let param = function.path("name");
        let message = format!(
            "'{param}' must be up to {LONGEST_NAME} letters, digits, '_', '-', '.' and ':', but it is '{name}'"
        );
        return Err(WireError::invalid(param, message));
    }
    Ok(Tool {
        name: name.to_owned(),
        description: function.text("description")?.map(str::to_owned),
        parameters: schema(function, "parameters")?,
        strict: function.boolean("strict")?.unwrap_or(form == ToolForm::Responses),
    })
}

/// A JSON Schema of an object.
pub(super) fn schema(function: &Fields<'_>, name: &str) -> Result<Option<Value>, WireError> {
    let Some(schema) = function.object(name)? else {
        return Ok(None);
    };
    match schema.get("type") {
        None => {}
        Some(Value::String(word)) if word == "object" => {}
        Some(other) => {
            let param = schema.path("type");
            let message = format!("'{param}' must be \"object\", but it is {other}");
            return Err(WireError::invalid(param, message));
        }
    }
    let described: serde_json::Map<String, Value> = schema
        .entries()
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    Ok((!described.is_empty()).then_some(Value::Object(described)))
}

type Chosen = (Option<CallChoice>, Vec<String>);

/// Whether something has to be called, and what may be. No choice: nothing may.
fn choice(body: &Fields<'_>, form: ToolForm, tools: &[Tool]) -> Result<Chosen, WireError> {
    let all = || tools.iter().map(|tool| tool.name.clone()).collect();
    let word = |param: &str, word: &str| {
        let choice = match word {
            "none" => None,
            "auto" => Some(CallChoice::Auto),
            "required" => Some(CallChoice::Required),
            other => {
                let message = format!(
                    "'{param}' must be none, auto, required or the name of a function, but it is '{other}'"
                );
                return Err(WireError::invalid(param, message));
            }
        };
        if choice == Some(CallChoice::Required) && tools.is_empty() {
            let message = format!("'{param}' is required, but there are no 'tools': give at least one");
            return Err(WireError::invalid(param, message));
        }
        Ok(choice)
    };
    let chosen = match body.get("tool_choice") {
        None => return Ok((Some(CallChoice::Auto), all())),
        Some(Value::String(text)) => return Ok((word("tool_choice", text)?, all())),
        Some(chosen @ Value::Object(_)) => Fields::at(chosen, "tool_choice".to_owned())?,
        Some(other) => {
            let message = format!(
                "'tool_choice' must be a string or an object, but it is {}",
                kind(other)
            );
            return Err(WireError::invalid("tool_choice", message));
        }
    };
    chosen.required("type")?;
    match chosen.text("type")?.unwrap_or_default() {
        "function" => {
            let name = named(&chosen, form, tools)?;
            Ok((Some(CallChoice::Named), vec![name]))
        }
        "allowed_tools" => {
            let allowed = match form {
                ToolForm::Chat => {
                    chosen.required("allowed_tools")?;
                    chosen.object("allowed_tools")?.unwrap_or(chosen)
                }
                ToolForm::Responses => chosen,
            };
            allowed.required("mode")?;
            let choice = word(&allowed.path("mode"), allowed.text("mode")?.unwrap_or_default())?;
            let items = allowed.list("tools")?.unwrap_or_default();
            let names: Result<Vec<String>, WireError> = items
                .iter()
                .enumerate()
                .map(|(at, item)| {
                    named(
                        &Fields::at(item, allowed.path(&format!("tools[{at}]")))?,
                        form,
                        tools,
                    )
                })
                .collect();
            let names = names?;
            if names.is_empty() {
                let param = allowed.path("tools");
                let message = format!("'{param}' is empty: name at least one function");
                return Err(WireError::invalid(param, message));
            }
            Ok((choice, names))
        }
        _ => {
            let mend = "only functions can be called; choose none, auto, required or a function";
            Err(WireError::unsupported(chosen.path("type"), mend))
        }
    }
}

/// The function that `{"type": "function", …}` names, which must be one of those offered.
fn named(chosen: &Fields<'_>, form: ToolForm, tools: &[Tool]) -> Result<String, WireError> {
    let holder = match form {
        ToolForm::Chat => {
            chosen.required("function")?;
            chosen.object("function")?
        }
        ToolForm::Responses => None,
    };
    let holder = holder.as_ref().unwrap_or(chosen);
    holder.required("name")?;
    let name = holder.text("name")?.unwrap_or_default();
    if tools.iter().any(|tool| tool.name == name) {
        return Ok(name.to_owned());
    }
    let param = holder.path("name");
    let message = format!("'{param}' is '{name}', but 'tools' has no function of that name");
    Err(WireError::invalid(param, message))
}
