//! Functions that a model may call: how they are described, in which form it writes a call, and how a call is read out
//! of its answer as it comes.

mod form;
mod head;
mod parser;

pub use form::CallForm;
pub use parser::{CallParser, Said};

use serde_json::{Map, Value, json};

/// A function that a model may call.
#[derive(Clone, Debug, PartialEq)]
pub struct Tool {
    pub name: String,
    pub description: Option<String>,
    /// The JSON Schema of its arguments; `None` for a function without any.
    pub parameters: Option<Value>,
    /// Whether arguments must be valid under the schema even where the model calls of its own accord.
    pub strict: bool,
}

impl Tool {
    /// The schema of its arguments: always an object's.
    pub fn schema(&self) -> Value {
        let none = || json!({"type": "object", "properties": {}, "additionalProperties": false});
        self.parameters.clone().unwrap_or_else(none)
    }

    /// As chat templates expect it: OpenAI's form.
    pub fn described(&self) -> Value {
        let mut function = Map::new();
        function.insert("name".to_owned(), json!(self.name));
        if let Some(description) = &self.description {
            function.insert("description".to_owned(), json!(description));
        }
        let none = || json!({"type": "object", "properties": {}});
        let parameters = self.parameters.clone().unwrap_or_else(none);
        function.insert("parameters".to_owned(), parameters);
        json!({"type": "function", "function": function})
    }
}

#[cfg(test)]
mod tests;
