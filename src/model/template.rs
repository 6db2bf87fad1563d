//! Chat templates: Jinja, as `tokenizer_config.json` carries them and as transformers renders them.

mod manner;
mod python;

use std::collections::BTreeMap;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, Error, ErrorKind, Value};
use serde::Serialize;
use serde_json::{Map, Value as Json};

use super::calls::{CallForm, Tool};
use manner::Manner;

/// One turn of a conversation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ChatMessage {
    pub role: String,
    pub content: String,
    /// Whatever else the template may look at: tool calls, a name, a reasoning.
    #[serde(flatten)]
    pub extra: Map<String, Json>,
}

impl ChatMessage {
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self {
            role: role.into(),
            content: content.into(),
            extra: Map::new(),
        }
    }
}

/// What a template is given besides the messages.
#[derive(Clone, Debug, PartialEq)]
pub struct TemplateInputs {
    /// Descriptions of functions; null without any.
    pub tools: Json,
    /// Texts to answer from; null without any.
    pub documents: Json,
    /// Whether the text is to end where the model answers.
    pub add_generation_prompt: bool,
    /// Further variables by name.
    pub variables: Map<String, Json>,
}

impl Default for TemplateInputs {
    fn default() -> Self {
        Self {
            tools: Json::Null,
            documents: Json::Null,
            add_generation_prompt: true,
            variables: Map::new(),
        }
    }
}

/// A model's compiled chat templates with its special tokens.
pub struct ChatTemplate {
    environment: Environment<'static>,
    /// `bos_token` and its like, as far as the model has them.
    special: BTreeMap<&'static str, String>,
    /// How it shows functions.
    manner: Manner,
}

/// The template of a conversation without tools, and the only one of most models.
const DEFAULT: &str = "default";
const TOOL_USE: &str = "tool_use";
const SPECIAL: [&str; 7] = [
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
];

impl ChatTemplate {
    /// Compiles `tokenizer_config`'s template, or its templates by name, and renders a trial conversation, so that a
    /// template that cannot work is found at load.
    pub fn compile(tokenizer_config: &Json) -> Result<Self, String> {
        let mut environment = python::environment(syntax()?);
        let mut all = tokenizer_config["added_tokens_decoder"].to_string();
        for (name, source) in sources(&tokenizer_config["chat_template"])? {
            all += &source;
            environment
                .add_template_owned(name.clone(), without_generation(&source))
                .map_err(|e| match name.as_str() {
                    DEFAULT => format!("its chat_template does not compile: {}", reason(&e)),
                    _ => format!("its chat_template '{name}' does not compile: {}", reason(&e)),
                })?;
        }
        let special = SPECIAL
            .iter()
            .filter_map(|name| Some((*name, special(tokenizer_config, name)?)))
            .collect();
        let mut template = Self {
            environment,
            special,
            manner: Manner::OURS,
        };
        template
            .render(&[ChatMessage::new("user", "Hello")])
            .map_err(|e| format!("its chat_template fails on one user message: {e}"))?;
        template.manner = Manner::find(&template, &all);
        Ok(template)
    }

    /// The form in which the model writes calls of functions.
    pub fn call_form(&self) -> CallForm {
        self.manner.form.clone()
    }

    /// The text of a conversation in which functions may have been called, up to where the model is to answer or to
    /// call one of `tools`.
    pub fn render_conversation(&self, messages: &[ChatMessage], tools: &[Tool]) -> Result<String, String> {
        let (messages, tools) = self.manner.put(messages, tools);
        let inputs = TemplateInputs {
            tools,
            ..TemplateInputs::default()
        };
        self.render_with(&messages, &inputs)
    }

    /// The text of a conversation up to where the model is to answer.
    pub fn render(&self, messages: &[ChatMessage]) -> Result<String, String> {
        self.render_with(messages, &TemplateInputs::default())
    }

    /// The same with tools, documents and whatever else this model's template understands.
    pub fn render_with(&self, messages: &[ChatMessage], inputs: &TemplateInputs) -> Result<String, String> {
        let name = match (&inputs.tools, self.environment.get_template(TOOL_USE)) {
            (Json::Null, _) | (_, Err(_)) => DEFAULT,
            _ => TOOL_USE,
        };
        let mut values: BTreeMap<&str, Value> = self
            .special
            .iter()
            .map(|(name, token)| (*name, Value::from(token.as_str())))
            .collect();
        values.insert("messages", Value::from(Serde(messages)));
        values.insert("tools", Value::from(Serde(&inputs.tools)));
        values.insert("documents", Value::from(Serde(&inputs.documents)));
        values.insert("add_generation_prompt", inputs.add_generation_prompt.into());
        for (name, value) in &inputs.variables {
            values.insert(name, Value::from(Serde(value)));
        }
        let template = self.environment.get_template(name).map_err(|e| e.to_string())?;
        template.render(values).map_err(|e| reason(&e))
    }
}

/// As transformers sets up its Jinja.
fn syntax() -> Result<SyntaxConfig, String> {
    let mut syntax = SyntaxConfig::builder();
    syntax.trim_blocks(true).lstrip_blocks(true);
    syntax.build().map_err(|e| e.to_string())
}

/// The templates by name: one text is the default, a list or an object of several has names of its own.
fn sources(given: &Json) -> Result<Vec<(String, String)>, String> {
    let text = |name: &str, source: &Json| {
        let source = source
            .as_str()
            .ok_or_else(|| format!("its chat_template '{name}' is no text"))?;
        Ok((name.to_owned(), source.to_owned()))
    };
    let named: Vec<(String, String)> = match given {
        Json::String(source) => vec![(DEFAULT.to_owned(), source.clone())],
        Json::Object(map) => map
            .iter()
            .map(|(name, source)| text(name, source))
            .collect::<Result<_, String>>()?,
        Json::Array(items) => items
            .iter()
            .map(|item| text(item["name"].as_str().unwrap_or_default(), &item["template"]))
            .collect::<Result<_, String>>()?,
        _ => return Err("it has no chat_template".to_owned()),
    };
    if named.iter().any(|(name, _)| name == DEFAULT) {
        return Ok(named);
    }
    let names: Vec<&str> = named.iter().map(|(name, _)| name.as_str()).collect();
    Err(format!(
        "none of its chat templates is called default: they are {}",
        names.join(", ")
    ))
}

/// `{% generation %}` tells a training pipeline which text is the model's. Here the block stands for what is in it: a
/// scope of its own, as it is in transformers.
fn without_generation(source: &str) -> String {
    let mut plain = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find("{%") {
        let (before, tag) = rest.split_at(at);
        plain.push_str(before);
        let Some(length) = tag.find("%}").map(|end| end + 2) else {
            break;
        };
        let inside = tag[2..length - 2].trim_matches(['-', '+']).trim();
        let (word, replacement) = match inside {
            "generation" => ("generation", "with"),
            "endgeneration" => ("endgeneration", "endwith"),
            _ => {
                // Only the opening: what looks like an end may stand inside a string.
                plain.push_str("{%");
                rest = &tag[2..];
                continue;
            }
        };
        plain.push_str(&tag[..length].replace(word, replacement));
        rest = &tag[length..];
    }
    plain.push_str(rest);
    plain
}

/// What went wrong and in which line, without the names that only Jinja's users know.
fn reason(error: &Error) -> String {
    let what = error
        .detail()
        .map_or_else(|| error.kind().to_string(), str::to_owned);
    match error.line() {
        // A template's own refusal is for the client, who does not see the template.
        Some(line) if error.kind() != REFUSED => format!("{what} (line {line})"),
        _ => what,
    }
}

/// The kind of error that `raise_exception` raises.
const REFUSED: ErrorKind = ErrorKind::InvalidOperation;

/// A special token, given as a string or as an object with `content`.
fn special(config: &Json, name: &str) -> Option<String> {
    let value = &config[name];
    let text = value.as_str().or_else(|| value["content"].as_str());
    text.map(str::to_owned)
}

#[cfg(test)]
mod tests;
