//! Typed reading of a config's fields: a field of the wrong type is told, never taken for missing.

use serde_json::Value;

use crate::model::ModelError;

/// No size in a config passes this: what does is a damaged file, and must not become an allocation.
const LARGEST: u64 = 1 << 31;

#[derive(Clone, Copy)]
pub struct Fields<'a> {
    place: &'a str,
    value: &'a Value,
}

impl<'a> Fields<'a> {
    pub fn new(place: &'a str, value: &'a Value) -> Self {
        Self { place, value }
    }

    /// The fields inside `key`, where that is an object.
    pub fn inside(&self, key: &str) -> Option<Self> {
        let value = self.value.get(key)?;
        value.is_object().then_some(Self {
            place: self.place,
            value,
        })
    }

    pub fn bad(&self, reason: String) -> ModelError {
        ModelError::BadFile {
            place: self.place.to_owned(),
            file: "config.json".to_owned(),
            reason,
        }
    }

    pub fn unsupported(&self, reason: String) -> ModelError {
        ModelError::Unsupported {
            place: self.place.to_owned(),
            reason,
            supported: super::SUPPORTED,
        }
    }

    /// The field, unless it is missing or null.
    pub fn get(&self, key: &str) -> Option<&'a Value> {
        self.value.get(key).filter(|v| !v.is_null())
    }

    pub fn has(&self, key: &str) -> bool {
        self.value.get(key).is_some()
    }

    /// A whole number from 1 to 2³¹.
    pub fn size(&self, key: &str) -> Result<usize, ModelError> {
        self.optional_size(key)?
            .ok_or_else(|| self.bad(format!("{key} is missing")))
    }

    pub fn size_or(&self, key: &str, default: usize) -> Result<usize, ModelError> {
        Ok(self.optional_size(key)?.unwrap_or(default))
    }

    pub fn optional_size(&self, key: &str) -> Result<Option<usize>, ModelError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        match value.as_u64() {
            Some(n @ 1..=LARGEST) => Ok(Some(n as usize)),
            _ => Err(self.bad(format!("{key} is {value} where a size is wanted"))),
        }
    }

    pub fn optional_number(&self, key: &str) -> Result<Option<f64>, ModelError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        match value.as_f64() {
            Some(number) if number.is_finite() => Ok(Some(number)),
            _ => Err(self.bad(format!("{key} is {value} where a number is wanted"))),
        }
    }

    pub fn number_or(&self, key: &str, default: f64) -> Result<f64, ModelError> {
        Ok(self.optional_number(key)?.unwrap_or(default))
    }

    pub fn flag(&self, key: &str) -> Result<Option<bool>, ModelError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        match value {
            Value::Bool(flag) => Ok(Some(*flag)),
            _ => Err(self.bad(format!("{key} is {value} where true or false is wanted"))),
        }
    }

    pub fn text(&self, key: &str) -> Result<Option<&'a str>, ModelError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        match value.as_str() {
            Some(text) => Ok(Some(text)),
            None => Err(self.bad(format!("{key} is {value} where a name is wanted"))),
        }
    }

    pub fn list(&self, key: &str) -> Result<Option<&'a [Value]>, ModelError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        match value.as_array() {
            Some(list) => Ok(Some(list)),
            None => Err(self.bad(format!("{key} is {value} where a list is wanted"))),
        }
    }

    /// A list of as many finite numbers as there are.
    pub fn numbers(&self, key: &str) -> Result<Option<Vec<f64>>, ModelError> {
        let Some(list) = self.list(key)? else {
            return Ok(None);
        };
        let numbers: Option<Vec<f64>> = list
            .iter()
            .map(|v| v.as_f64().filter(|n| n.is_finite()))
            .collect();
        match numbers {
            Some(numbers) => Ok(Some(numbers)),
            None => Err(self.bad(format!("{key} holds something that is no number"))),
        }
    }

    /// One id or a list of ids.
    pub fn token_ids(&self, key: &str) -> Option<Vec<u32>> {
        match self.get(key)? {
            Value::Array(ids) => Some(ids.iter().filter_map(id).collect()),
            one => id(one).map(|id| vec![id]),
        }
    }
}

fn id(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|id| u32::try_from(id).ok())
}
