//! Reads a TOML tree by key, remembering where each value stands and which keys are known, so that every refusal
//! can name the line and every unknown key is found.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{ConfigError, Refusal, nearest};

/// The text of a zoo file and its name.
pub(super) struct Text<'a> {
    pub file: &'a str,
    pub text: &'a str,
}

impl Text<'_> {
    /// The line, from 1, of a byte offset.
    pub fn line(&self, offset: usize) -> usize {
        1 + self.text.bytes().take(offset).filter(|b| *b == b'\n').count()
    }

    pub fn refuse(&self, offset: usize, key: &str, refusal: Refusal) -> ConfigError {
        ConfigError::Refused {
            file: self.file.into(),
            line: self.line(offset),
            key: key.into(),
            problem: refusal.problem,
            mend: refusal.mend,
        }
    }

    /// What the TOML parser itself refuses: its message, on one line.
    pub fn syntax(&self, error: &toml::de::Error) -> ConfigError {
        let offset = error.span().map_or(0, |span| span.start);
        let message = error
            .message()
            .split('\n')
            .map(str::trim)
            .collect::<Vec<_>>()
            .join("; ");
        ConfigError::Syntax {
            file: self.file.into(),
            line: self.line(offset),
            reason: format!("the file is not TOML here: {message}"),
        }
    }
}

/// One table of the file.
pub(super) struct Section<'a> {
    text: &'a Text<'a>,
    /// How errors name it: `server`, `model`; empty at the top.
    name: &'static str,
    table: &'a DeTable<'a>,
    /// Where its head stands.
    pub offset: usize,
    known: Vec<&'static str>,
}

impl<'a> Section<'a> {
    pub fn new(text: &'a Text<'a>, name: &'static str, table: &'a DeTable<'a>, offset: usize) -> Self {
        Self {
            text,
            name,
            table,
            offset,
            known: Vec::new(),
        }
    }

    fn path(&self, key: &str) -> String {
        if self.name.is_empty() {
            key.into()
        } else {
            format!("{}.{key}", self.name)
        }
    }

    /// The value of a key, which is known from now on.
    pub fn get(&mut self, key: &'static str) -> Option<Value<'a>> {
        self.known.push(key);
        let value = self.table.get(key)?;
        Some(Value {
            text: self.text,
            path: self.path(key),
            value,
        })
    }

    /// What [`Section::get`] found, for a key that must be there. Asked after [`Section::finish`], so that a mistyped
    /// key is called mistyped and not missing.
    pub fn need(&self, found: Option<Value<'a>>, key: &str, mend: &str) -> Result<Value<'a>, ConfigError> {
        found.ok_or_else(|| {
            self.text
                .refuse(self.offset, &self.path(key), Refusal::new("is missing", mend))
        })
    }

    /// A table under a key, as `[key]` makes it.
    pub fn section(&mut self, key: &'static str) -> Result<Option<Section<'a>>, ConfigError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        match value.value.get_ref() {
            DeValue::Table(table) => Ok(Some(Section::new(self.text, key, table, value.offset()))),
            other => Err(value.refuse(wrong_kind(other, &format!("write it as a table, [{key}]")))),
        }
    }

    /// The tables under a key, as `[[key]]` makes them.
    pub fn sections(&mut self, key: &'static str) -> Result<Vec<Section<'a>>, ConfigError> {
        let Some(value) = self.get(key) else {
            return Ok(Vec::new());
        };
        let mend = format!("write each as [[{key}]], with two brackets");
        let DeValue::Array(items) = value.value.get_ref() else {
            return Err(value.refuse(wrong_kind(value.value.get_ref(), &mend)));
        };
        items
            .iter()
            .map(|item| match item.get_ref() {
                DeValue::Table(table) => Ok(Section::new(self.text, key, table, item.span().start)),
                other => Err(self.text.refuse(item.span().start, key, wrong_kind(other, &mend))),
            })
            .collect()
    }

    /// Refuses the first key nobody asked for.
    pub fn finish(&self) -> Result<(), ConfigError> {
        let unknown = self
            .table
            .iter()
            .map(|(key, _)| key)
            .filter(|k| !self.known.contains(&k.get_ref().as_ref()));
        let Some(key) = unknown.min_by_key(|k| k.span().start) else {
            return Ok(());
        };
        let mend = match nearest(key.get_ref(), &self.known) {
            Some(meant) => format!("did you mean `{}`?", self.path(meant)),
            None => format!("the keys here are {}", self.known.join(", ")),
        };
        let refusal = Refusal::new("is not a key of a zoo file", mend);
        Err(self
            .text
            .refuse(key.span().start, &self.path(key.get_ref()), refusal))
    }
}

/// One value of the file and where it stands.
pub(super) struct Value<'a> {
    text: &'a Text<'a>,
    path: String,
    value: &'a Spanned<DeValue<'a>>,
}

impl<'a> Value<'a> {
    fn offset(&self) -> usize {
        self.value.span().start
    }

    pub fn line(&self) -> usize {
        self.text.line(self.offset())
    }

    pub fn refuse(&self, refusal: Refusal) -> ConfigError {
        self.text.refuse(self.offset(), &self.path, refusal)
    }

    pub fn string(&self) -> Result<&'a str, ConfigError> {
        match self.value.get_ref() {
            DeValue::String(text) => Ok(text),
            other => Err(self.refuse(wrong_kind(other, "write text in double quotes"))),
        }
    }

    /// Text that means something else.
    pub fn parse<T: std::str::FromStr<Err = Refusal>>(&self) -> Result<T, ConfigError> {
        self.string()?.parse().map_err(|r| self.refuse(r))
    }

    /// A whole number from 1 to `most`.
    pub fn count(&self, most: u64) -> Result<u64, ConfigError> {
        let mend = format!("write a whole number from 1 to {most}");
        let DeValue::Integer(number) = self.value.get_ref() else {
            return Err(self.refuse(wrong_kind(self.value.get_ref(), &mend)));
        };
        u64::from_str_radix(number.as_str(), number.radix())
            .ok()
            .filter(|n| (1..=most).contains(n))
            .ok_or_else(|| self.refuse(Refusal::new(format!("is {number}"), mend)))
    }

    /// A number, whole or not; it may still be NaN or infinite.
    pub fn number(&self) -> Result<f64, ConfigError> {
        let parsed = match self.value.get_ref() {
            DeValue::Float(number) => number.as_str().parse().ok(),
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                .ok()
                .map(|n| n as f64),
            other => return Err(self.refuse(wrong_kind(other, "write a plain number, without quotes"))),
        };
        parsed.ok_or_else(|| self.refuse(Refusal::new("is out of range", "write a smaller number")))
    }

    pub fn boolean(&self) -> Result<bool, ConfigError> {
        match self.value.get_ref() {
            DeValue::Boolean(value) => Ok(*value),
            other => Err(self.refuse(wrong_kind(other, "write true or false, without quotes"))),
        }
    }

    /// Whether it is written as text, where a number would do too.
    pub fn is_text(&self) -> bool {
        self.value.get_ref().is_str()
    }
}

fn wrong_kind(value: &DeValue<'_>, mend: &str) -> Refusal {
    let article = if matches!(value, DeValue::Integer(_) | DeValue::Array(_)) {
        "an"
    } else {
        "a"
    };
    Refusal::new(format!("is {article} {}", value.type_str()), mend)
}
