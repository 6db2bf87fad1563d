//! Answers that call functions, as a grammar: the form's own text word by word, the arguments by their JSON Schema.

use serde_json::{Value, json};

use super::{Constraint, JSON_SPACE};
use crate::model::CallForm;

/// What an answer that may call functions has to be.
#[derive(Clone, Debug, PartialEq)]
pub struct CallRule {
    pub form: CallForm,
    pub functions: Vec<Callable>,
    /// More than one call in an answer.
    pub parallel: bool,
    pub instead: Instead,
}

/// A function that may be called.
#[derive(Clone, Debug, PartialEq)]
pub struct Callable {
    pub name: String,
    /// JSON Schema of an object.
    pub arguments: Value,
    /// Whether a schema that cannot be kept to the letter is refused; else it is kept as far as it can be.
    pub strict: bool,
}

/// What an answer may be that calls nothing.
#[derive(Clone, Debug, PartialEq)]
pub enum Instead {
    /// There is none: it must call.
    Nothing,
    /// Any text, and calls only as they have to be.
    Text,
    /// What this says; not another grammar.
    Only(Box<Constraint>),
}

impl CallRule {
    /// In Lark's notation.
    pub fn lark(&self) -> Result<String, String> {
        let mut rules = vec![self.start()?];
        let each = self.functions.iter().enumerate();
        rules.push(format!(
            "function: {}",
            each.clone()
                .map(|(at, _)| format!("f{at}"))
                .collect::<Vec<_>>()
                .join(" | ")
        ));
        for (at, function) in each {
            let head = format!(
                "{{\"name\": {}, \"{}\": ",
                Value::from(function.name.as_str()),
                self.form.arguments
            );
            rules.push(format!("f{at}: {} a{at} \"}}\"", literal(&head)));
            rules.push(format!("a{at}: %json {}", function.schema()?));
        }
        Ok(rules.join("\n"))
    }

    fn start(&self) -> Result<String, String> {
        let (open, behind) = (self.form.open.map(literal), self.behind_the_mark());
        let calls = match (&open, self.parallel && !self.form.list) {
            (Some(open), true) => format!("{open} {behind} (\"\\n\" {open} {behind})*"),
            (Some(open), false) => format!("{open} {behind}"),
            (None, _) => behind.clone(),
        };
        Ok(match (&self.instead, &open) {
            (Instead::Nothing, _) => format!("start: {calls}"),
            (Instead::Only(other), _) => format!("start: {calls} | {}", other.inline()?),
            (Instead::Text, Some(open)) => {
                let start = if self.parallel {
                    format!("start: (lead {behind})* TEXT")
                } else {
                    format!("start: lead {behind} | TEXT")
                };
                format!("{start}\nlead[lazy]: TEXT {open}\nTEXT: /(.|\\n)*/")
            }
            // What begins like a call is one.
            (Instead::Text, None) => format!("start: {calls} | TEXT | \"\"\nTEXT: /[^{{\\s](.|\\n)*/"),
        })
    }

    /// One call, or a list of them, without what announces it.
    fn behind_the_mark(&self) -> String {
        let calls = match (self.form.list, self.parallel) {
            (false, _) => "function".to_owned(),
            (true, false) => "\" \"? \"[\" function \"]\"".to_owned(),
            (true, true) => "\" \"? \"[\" function (\", \" function)* \"]\"".to_owned(),
        };
        match self.form.close {
            Some(close) => format!("\"\\n\" {calls} {}", literal(&format!("\n{close}"))),
            None => calls,
        }
    }
}

impl Callable {
    fn schema(&self) -> Result<String, String> {
        let Value::Object(mut schema) = self.arguments.clone() else {
            return Err(format!("the parameters of '{}' are no object", self.name));
        };
        // Arguments are an object whatever else the schema says.
        schema.entry("type").or_insert_with(|| json!("object"));
        let settings = json!({"whitespace_pattern": JSON_SPACE, "lenient": !self.strict});
        schema.insert("x-guidance".to_owned(), settings);
        Ok(Value::Object(schema).to_string())
    }
}

impl Constraint {
    /// As a part of a grammar in Lark's notation.
    fn inline(&self) -> Result<String, String> {
        let json = |schema: &Value| {
            let mut schema = schema.clone();
            if let Value::Object(map) = &mut schema {
                map.insert("x-guidance".to_owned(), json!({"whitespace_pattern": JSON_SPACE}));
            }
            format!("%json {schema}")
        };
        match self {
            Self::JsonObject => Ok(json(&json!({"type": "object"}))),
            Self::JsonSchema(schema @ Value::Object(_)) => Ok(json(schema)),
            Self::Regex(pattern) => Ok(format!("/{}/", pattern.replace('/', "\\/"))),
            _ => Err("functions go together with a JSON Schema or a pattern, not with a grammar".to_owned()),
        }
    }
}

/// A text as a terminal.
fn literal(text: &str) -> String {
    Value::from(text).to_string()
}
