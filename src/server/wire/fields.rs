//! Reading typed fields out of a JSON object. Every field may be `null`, which means absent, as OpenAI clients
//! expect; every complaint names the field by its path.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::WireError;

/// A JSON object and where it stands in the request.
pub(super) struct Fields<'a> {
    map: &'a Map<String, Value>,
    path: String,
}

impl<'a> Fields<'a> {
    /// The whole request body, which must be an object.
    pub fn body(value: &'a Value) -> Result<Self, WireError> {
        match value {
            Value::Object(map) => Ok(Self {
                map,
                path: String::new(),
            }),
            other => Err(WireError::Body(format!(
                "the body must be a JSON object, but it is {}",
                kind(other)
            ))),
        }
    }

    /// An object somewhere inside the body.
    pub fn at(value: &'a Value, path: String) -> Result<Self, WireError> {
        match value {
            Value::Object(map) => Ok(Self { map, path }),
            other => Err(WireError::wrong_type(path, "an object", other)),
        }
    }

    /// A field's path from the top of the body: what `param` names.
    pub fn path(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }

    /// The field's value; `null` is absent.
    pub fn get(&self, name: &str) -> Option<&'a Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    pub fn text(&self, name: &str) -> Result<Option<&'a str>, WireError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(WireError::wrong_type(self.path(name), "a string", other)),
        }
    }

    pub fn boolean(&self, name: &str) -> Result<Option<bool>, WireError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Bool(truth)) => Ok(Some(*truth)),
            Some(other) => Err(WireError::wrong_type(self.path(name), "true or false", other)),
        }
    }

    pub fn number(&self, name: &str, range: RangeInclusive<f64>) -> Result<Option<f64>, WireError> {
        self.get(name)
            .map(|value| number_in(value, &self.path(name), range))
            .transpose()
    }

    pub fn integer(&self, name: &str, range: RangeInclusive<i64>) -> Result<Option<i64>, WireError> {
        self.get(name)
            .map(|value| integer_in(value, &self.path(name), range))
            .transpose()
    }

    pub fn list(&self, name: &str) -> Result<Option<&'a [Value]>, WireError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Array(items)) => Ok(Some(items)),
            Some(other) => Err(WireError::wrong_type(self.path(name), "a list", other)),
        }
    }

    pub fn object(&self, name: &str) -> Result<Option<Fields<'a>>, WireError> {
        self.get(name)
            .map(|value| Fields::at(value, self.path(name)))
            .transpose()
    }

    pub fn entries(&self) -> impl Iterator<Item = (&'a String, &'a Value)> {
        self.map.iter()
    }

    /// A field that the request cannot do without.
    pub fn required(&self, name: &str) -> Result<&'a Value, WireError> {
        self.get(name).ok_or_else(|| WireError::Missing {
            param: self.path(name),
        })
    }
}

/// A finite number within `range`.
pub(super) fn number_in(value: &Value, path: &str, range: RangeInclusive<f64>) -> Result<f64, WireError> {
    let number = value
        .as_f64()
        .filter(|number| number.is_finite())
        .ok_or_else(|| WireError::wrong_type(path.to_owned(), "a number", value))?;
    if range.contains(&number) {
        return Ok(number);
    }
    let wanted = format!("a number from {} to {}", range.start(), range.end());
    Err(WireError::out_of_range(path.to_owned(), &wanted, value))
}

/// A whole number within `range`. JSON has one kind of number, so `16.0` is the integer 16.
pub(super) fn integer_in(value: &Value, path: &str, range: RangeInclusive<i64>) -> Result<i64, WireError> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let whole = |number: f64| number.fract() == 0.0 && number.abs() <= EXACT;
    let integer = value
        .as_i64()
        .or_else(|| {
            value
                .as_f64()
                .filter(|number| whole(*number))
                .map(|number| number as i64)
        })
        .ok_or_else(|| WireError::wrong_type(path.to_owned(), "an integer", value))?;
    if range.contains(&integer) {
        return Ok(integer);
    }
    let wanted = match *range.end() {
        i64::MAX => format!("an integer of at least {}", range.start()),
        end => format!("an integer from {} to {end}", range.start()),
    };
    Err(WireError::out_of_range(path.to_owned(), &wanted, value))
}

/// What a JSON value is, in words.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.is_f64() => "a number with a fraction",
        Value::Number(_) => "an integer",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn null_is_absent_and_paths_name_the_field() {
        let body = json!({"temperature": null, "messplus": {"sla": 3}});
        let fields = Fields::body(&body).unwrap();
        assert_eq!(fields.number("temperature", 0.0..=2.0), Ok(None));
        let inner = fields.object("messplus").unwrap().unwrap();
        assert_eq!(inner.text("sla").unwrap_err().param(), Some("messplus.sla"));
    }

    #[test]
    fn integers_accept_whole_floats_and_refuse_the_rest() {
        assert_eq!(integer_in(&json!(16.0), "n", 1..=20), Ok(16));
        for bad in [json!(1.5), json!("1"), json!(1e300), json!(true)] {
            assert!(integer_in(&bad, "n", 1..=20).is_err(), "{bad}");
        }
        assert!(integer_in(&json!(21), "n", 1..=20).is_err());
    }
}
