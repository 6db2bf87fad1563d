//! What chat templates expect of Python: methods of strings and dicts, `tojson` as `json.dumps`, the time.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Kwargs;
use minijinja::{Environment, Error, ErrorKind, Value};
use serde_json::Value as Json;

/// An environment in which templates written for transformers work.
pub fn environment(syntax: SyntaxConfig) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_syntax(syntax);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_function("raise_exception", |reason: String| -> Result<String, Error> {
        Err(Error::new(super::REFUSED, reason))
    });
    environment.add_function("strftime_now", |format: &str| {
        strftime(format, &jiff::Zoned::now()).map_err(|e| Error::new(ErrorKind::BadSerialization, e))
    });
    environment.add_filter("tojson", tojson);
    environment
}

/// The time in Python's codes and the C locale's words.
fn strftime(format: &str, now: &jiff::Zoned) -> Result<String, String> {
    use jiff::fmt::strtime::{BrokenDownTime, Config, PosixCustom};
    let config = Config::new().custom(PosixCustom::new()).lenient(true);
    BrokenDownTime::from(now)
        .to_string_with_config(&config, with_microseconds(format))
        .map_err(|e| format!("strftime_now does not understand {format:?}: {e}"))
}

/// Python's `%f` is always six digits.
fn with_microseconds(format: &str) -> String {
    let mut out = String::with_capacity(format.len());
    let mut chars = format.chars();
    while let Some(character) = chars.next() {
        out.push(character);
        if character == '%'
            && let Some(code) = chars.next()
        {
            if code == 'f' {
                out.push('6');
            }
            out.push(code);
        }
    }
    out
}

/// `json.dumps` with transformers' defaults and keyword arguments.
fn tojson(
    value: &Value,
    ensure_ascii: Option<Value>,
    indent: Option<Value>,
    named: Kwargs,
) -> Result<Value, Error> {
    let argument = |place: Option<Value>, name: &str| -> Result<Option<Value>, Error> {
        let given = match place {
            Some(value) => Some(value),
            None => named.get::<Option<Value>>(name)?,
        };
        Ok(given.filter(|value| !value.is_none() && !value.is_undefined()))
    };
    let refuse = |what: String| Error::new(ErrorKind::BadSerialization, what);
    let indent = argument(indent, "indent")?
        .map(|indent| match indent.as_str() {
            Some(text) => Ok(text.to_owned()),
            None => usize::try_from(indent.clone()).map(|width| " ".repeat(width)),
        })
        .transpose()?;
    let separators = argument(None, "separators")?
        .map(|pair| {
            let pair: Vec<String> = pair
                .try_iter()?
                .filter_map(|s| s.as_str().map(str::to_owned))
                .collect();
            <[String; 2]>::try_from(pair)
                .map_err(|_| refuse("tojson's separators are two strings".to_owned()))
        })
        .transpose()?;
    let dump = Dump {
        ensure_ascii: argument(ensure_ascii, "ensure_ascii")?.is_some_and(|v| v.is_true()),
        sort_keys: argument(None, "sort_keys")?.is_some_and(|v| v.is_true()),
        separators: separators.unwrap_or_else(|| {
            let item = if indent.is_some() { "," } else { ", " };
            [item.to_owned(), ": ".to_owned()]
        }),
        indent,
    };
    named.assert_all_used()?;
    if value.is_undefined() {
        return Err(refuse("tojson was given something undefined".to_owned()));
    }
    let json = serde_json::to_value(value).map_err(|e| refuse(e.to_string()))?;
    let mut out = String::new();
    dump.value(&json, 0, &mut out);
    Ok(out.into())
}

/// How `json.dumps` writes.
struct Dump {
    ensure_ascii: bool,
    sort_keys: bool,
    /// Between items, and between a key and its value.
    separators: [String; 2],
    indent: Option<String>,
}

impl Dump {
    fn value(&self, value: &Json, depth: usize, out: &mut String) {
        match value {
            Json::Null => out.push_str("null"),
            Json::Bool(truth) => out.push_str(if *truth { "true" } else { "false" }),
            Json::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
                Some(float) => out.push_str(&python_float(float)),
                None => out.push_str(&number.to_string()),
            },
            Json::String(text) => self.text(text, out),
            Json::Array(items) => {
                self.list(['[', ']'], items, depth, out, |item, out| {
                    self.value(item, depth + 1, out)
                });
            }
            Json::Object(map) => {
                let mut entries: Vec<_> = map.iter().collect();
                if self.sort_keys {
                    entries.sort_unstable_by_key(|(key, _)| *key);
                }
                self.list(['{', '}'], &entries, depth, out, |(key, value), out| {
                    self.text(key, out);
                    out.push_str(&self.separators[1]);
                    self.value(value, depth + 1, out);
                });
            }
        }
    }

    fn list<T>(
        &self,
        brackets: [char; 2],
        items: &[T],
        depth: usize,
        out: &mut String,
        write: impl Fn(&T, &mut String),
    ) {
        out.push(brackets[0]);
        for (at, item) in items.iter().enumerate() {
            if at > 0 {
                out.push_str(&self.separators[0]);
            }
            self.line(depth + 1, out);
            write(item, out);
        }
        if !items.is_empty() {
            self.line(depth, out);
        }
        out.push(brackets[1]);
    }

    fn line(&self, depth: usize, out: &mut String) {
        if let Some(indent) = &self.indent {
            out.push('\n');
            (0..depth).for_each(|_| out.push_str(indent));
        }
    }

    fn text(&self, text: &str, out: &mut String) {
        out.push('"');
        for character in text.chars() {
            match character {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{8}' => out.push_str("\\b"),
                '\u{C}' => out.push_str("\\f"),
                plain if plain >= ' ' && (!self.ensure_ascii || (' '..='~').contains(&plain)) => {
                    out.push(plain)
                }
                other => {
                    for unit in other.encode_utf16(&mut [0; 2]) {
                        out.push_str(&format!("\\u{unit:04x}"));
                    }
                }
            }
        }
        out.push('"');
    }
}

/// A finite float as Python's `repr` writes it: plain from 1e-4 up to 1e16, else with a signed exponent of two digits
/// or more.
fn python_float(float: f64) -> String {
    if float == 0.0 || (1e-4..1e16).contains(&float.abs()) {
        return format!("{float:?}");
    }
    let scientific = format!("{float:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let (sign, digits) = match exponent.strip_prefix('-') {
        Some(digits) => ('-', digits),
        None => ('+', exponent),
    };
    format!("{mantissa}e{sign}{digits:0>2}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_pythons() {
        let cases = [
            (0.1, "0.1"),
            (1.0, "1.0"),
            (-2.5, "-2.5"),
            (1e16, "1e+16"),
            (123456789012345680.0, "1.2345678901234568e+17"),
            (1e15, "1000000000000000.0"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (2.5e-10, "2.5e-10"),
            (1e300, "1e+300"),
            (0.0, "0.0"),
        ];
        for (float, text) in cases {
            assert_eq!(python_float(float), text);
        }
    }

    #[test]
    fn the_time_is_written_in_pythons_codes() {
        let now: jiff::Zoned = "2026-03-07T14:05:09.000456+01:00[Europe/Berlin]"
            .parse()
            .or_else(|_| "2026-03-07T14:05:09.000456+01:00[+01:00]".parse())
            .unwrap();
        for (format, text) in [
            ("%d %b %Y", "07 Mar 2026"),
            ("%A, %B %-d", "Saturday, March 7"),
            ("%Y-%m-%dT%H:%M:%S.%f", "2026-03-07T14:05:09.000456"),
            ("%I:%M %p %j %U %w %y", "02:05 PM 066 09 6 26"),
            ("100%% %%f", "100% %f"),
            ("%c|%x|%X", "Sat Mar  7 14:05:09 2026|03/07/26|14:05:09"),
            ("%z", "+0100"),
            ("", ""),
        ] {
            assert_eq!(strftime(format, &now).unwrap(), text, "{format}");
        }
    }
}
