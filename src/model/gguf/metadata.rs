//! The key-value part of a GGUF header.

use std::collections::HashMap;

/// The scalar types of the format that have a fixed size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scalar {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    U64,
    I64,
    F64,
}

impl Scalar {
    pub fn of_code(code: u32) -> Option<Self> {
        Some(match code {
            0 => Self::U8,
            1 => Self::I8,
            2 => Self::U16,
            3 => Self::I16,
            4 => Self::U32,
            5 => Self::I32,
            6 => Self::F32,
            7 => Self::Bool,
            10 => Self::U64,
            11 => Self::I64,
            12 => Self::F64,
            _ => return None,
        })
    }

    /// Bytes of one value.
    pub fn size(self) -> usize {
        match self {
            Self::U8 | Self::I8 | Self::Bool => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
        }
    }

    /// Reads one value out of exactly `size` little-endian bytes.
    pub fn decode(self, bytes: &[u8]) -> Number {
        let mut wide = [0; 8];
        wide[..bytes.len()].copy_from_slice(bytes);
        let bits = u64::from_le_bytes(wide);
        match self {
            Self::U8 | Self::U16 | Self::U32 | Self::U64 => Number::Integer(i128::from(bits)),
            Self::Bool => Number::Flag(bits != 0),
            Self::I8 => Number::Integer(i128::from(bits as u8 as i8)),
            Self::I16 => Number::Integer(i128::from(bits as u16 as i16)),
            Self::I32 => Number::Integer(i128::from(bits as u32 as i32)),
            Self::I64 => Number::Integer(i128::from(bits as i64)),
            Self::F32 => Number::Float(decimal(f32::from_bits(bits as u32))),
            Self::F64 => Number::Float(f64::from_bits(bits)),
        }
    }
}

/// The number that was meant: `1e-6` went through an `f32` on its way into the file and should come out as `1e-6`.
pub fn decimal(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    Integer(i128),
    Float(f64),
    Flag(bool),
}

impl Number {
    pub fn float(self) -> Option<f64> {
        match self {
            Self::Integer(value) => Some(value as f64),
            Self::Float(value) => Some(value),
            Self::Flag(_) => None,
        }
    }

    pub fn is_true(self) -> bool {
        !matches!(self, Self::Integer(0) | Self::Flag(false))
    }

    pub fn count(self) -> Option<usize> {
        match self {
            Self::Integer(value) => usize::try_from(value).ok(),
            _ => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Number(Number),
    Text(String),
    Texts(Vec<String>),
    /// Kept as the file has them, so that an array costs no more memory than file.
    Numbers(Scalar, Vec<u8>),
}

/// Keys and values. Getters tell an absent key (`Ok(None)`) from one of the wrong type (`Err`, one sentence).
#[derive(Debug, Default)]
pub struct Metadata(pub(super) HashMap<String, Value>);

impl Metadata {
    pub fn count(&self, key: &str) -> Result<Option<usize>, String> {
        self.get(key, "a whole number that is not negative", |value| match value {
            Value::Number(number) => number.count(),
            // A value by layer; one number speaks for all only when all agree.
            Value::Numbers(scalar, bytes) => {
                let mut all = numbers(*scalar, bytes).map(Number::count);
                let first = all.next()??;
                all.all(|other| other == Some(first)).then_some(first)
            }
            _ => None,
        })
    }

    pub fn float(&self, key: &str) -> Result<Option<f64>, String> {
        self.get(key, "a finite number", |value| match value {
            Value::Number(number) => number.float().filter(|value| value.is_finite()),
            _ => None,
        })
    }

    pub fn flag(&self, key: &str) -> Result<Option<bool>, String> {
        self.get(key, "true or false", |value| match value {
            Value::Number(Number::Flag(flag)) => Some(*flag),
            _ => None,
        })
    }

    pub fn text(&self, key: &str) -> Result<Option<&str>, String> {
        self.get(key, "a text", |value| match value {
            Value::Text(text) => Some(text.as_str()),
            _ => None,
        })
    }

    pub fn texts(&self, key: &str) -> Result<Option<&[String]>, String> {
        self.get(key, "an array of texts", |value| match value {
            Value::Texts(texts) => Some(texts.as_slice()),
            _ => None,
        })
    }

    /// One by one: a list of them would take many times the file's memory.
    pub fn numbers(&self, key: &str) -> Result<Option<impl ExactSizeIterator<Item = Number> + '_>, String> {
        self.get(key, "an array of numbers", |value| match value {
            Value::Numbers(scalar, bytes) => Some(numbers(*scalar, bytes)),
            _ => None,
        })
    }

    pub fn is_array(&self, key: &str) -> bool {
        matches!(self.0.get(key), Some(Value::Numbers(..) | Value::Texts(_)))
    }

    fn get<'a, T>(
        &'a self,
        key: &str,
        wanted: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, String> {
        match self.0.get(key) {
            None => Ok(None),
            Some(value) => read(value)
                .map(Some)
                .ok_or_else(|| format!("its {key} is not {wanted}")),
        }
    }
}

fn numbers(scalar: Scalar, bytes: &[u8]) -> impl ExactSizeIterator<Item = Number> + '_ {
    bytes
        .chunks_exact(scalar.size())
        .map(move |one| scalar.decode(one))
}
