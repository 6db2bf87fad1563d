//! `response_format`: what the answer has to be.

use serde_json::Value;

use crate::engine::Constraint;

use super::WireError;
use super::fields::{Fields, kind};

/// Longest pattern or grammar that is compiled, in bytes.
const LONGEST_PATTERN: usize = 16 << 10;

/// Reads OpenAI's three kinds of format and two of our own: `{"type": "regex", "pattern": …}` and
/// `{"type": "grammar", "grammar": …}` in Lark's notation. Whether a model can keep to it is seen later.
pub(super) fn constraint(body: &Fields<'_>) -> Result<Option<Constraint>, WireError> {
    match body.object("response_format")? {
        Some(format) => constraint_of(&format, true),
        None => Ok(None),
    }
}

/// The same of the format itself. `nested`: whether a schema has its name and more around it, as in a chat.
pub(super) fn constraint_of(format: &Fields<'_>, nested: bool) -> Result<Option<Constraint>, WireError> {
    format.required("type")?;
    match format.text("type")?.unwrap_or_default() {
        "text" => Ok(None),
        "json_object" => Ok(Some(Constraint::JsonObject)),
        "json_schema" if nested => {
            format.required("json_schema")?;
            let named = format.object("json_schema")?;
            named
                .as_ref()
                .map_or(Ok(Constraint::JsonObject), schema)
                .map(Some)
        }
        "json_schema" => {
            format.required("schema")?;
            schema(format).map(Some)
        }
        "regex" => Ok(Some(Constraint::Regex(source(format, "pattern")?))),
        "grammar" => Ok(Some(Constraint::Lark(source(format, "grammar")?))),
        other => {
            let param = format.path("type");
            let message = format!(
                "'{param}' must be text, json_object, json_schema, regex or grammar, but it is '{other}'"
            );
            Err(WireError::invalid(param, message))
        }
    }
}

/// Every schema is kept to strictly, whatever `strict` says; without one any object will do.
fn schema(named: &Fields<'_>) -> Result<Constraint, WireError> {
    named.text("name")?;
    named.boolean("strict")?;
    match named.get("schema") {
        None => Ok(Constraint::JsonObject),
        Some(schema @ (Value::Object(_) | Value::Bool(_))) => Ok(Constraint::JsonSchema(schema.clone())),
        Some(other) => {
            let path = named.path("schema");
            let message = format!("'{path}' must be a JSON Schema, but it is {}", kind(other));
            Err(WireError::invalid(path, message))
        }
    }
}

fn source(format: &Fields<'_>, name: &str) -> Result<String, WireError> {
    format.required(name)?;
    let source = format.text(name)?.unwrap_or_default();
    let wrong = |what: &str| {
        let path = format.path(name);
        let message = format!("'{path}' {what}");
        Err(WireError::invalid(path, message))
    };
    match source.len() {
        0 => wrong("is empty: leave out 'response_format' for a free answer"),
        1..=LONGEST_PATTERN => Ok(source.to_owned()),
        _ => wrong("is longer than 16 KiB: shorten it"),
    }
}
