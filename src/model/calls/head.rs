//! The beginning of a call, up to its arguments, while the text still comes in.

use serde_json::Value;

/// What is known of a text that may begin a call.
#[derive(Debug, PartialEq)]
pub enum Head {
    /// It goes on like a call so far.
    Unfinished,
    NotACall,
    /// A call whose arguments are an object that begins at this byte.
    Begun {
        name: String,
        at: usize,
        list: bool,
    },
    /// A call that ends before this byte. Its arguments were no object, or came before its name.
    Whole {
        name: String,
        arguments: String,
        end: usize,
        list: bool,
    },
}

/// The keys that a call may have. Any other shows that an object is something else.
const KEYS: [&str; 5] = ["name", "arguments", "parameters", "id", "type"];

/// Reads `text` as the beginning of a call to one of `known`. `list`: whether a list may open before it.
pub fn read(text: &str, known: &[String], list: bool) -> Head {
    try_read(text, known, list).unwrap_or_else(|stop| match stop {
        Stop::Unfinished => Head::Unfinished,
        Stop::Wrong => Head::NotACall,
    })
}

/// Why reading came to no end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    Unfinished,
    Wrong,
}

fn try_read(text: &str, known: &[String], list: bool) -> Result<Head, Stop> {
    let mut at = spaces(text, 0);
    let listed = list && next(text, at)? == b'[';
    if listed {
        at = spaces(text, at + 1);
    }
    at = expect(text, at, b'{')?;
    let mut name: Option<String> = None;
    let mut arguments: Option<String> = None;
    loop {
        at = spaces(text, at);
        if next(text, at)? == b'}' && name.is_some() {
            break;
        }
        let end = value(text, at)?;
        let key = serde_json::from_str::<String>(&text[at..end]).map_err(|_| Stop::Wrong)?;
        if !KEYS.contains(&key.as_str()) {
            return Err(Stop::Wrong);
        }
        at = spaces(text, expect(text, spaces(text, end), b':')?);
        let is_arguments = matches!(key.as_str(), "arguments" | "parameters");
        match name {
            Some(name) if is_arguments && next(text, at)? == b'{' => {
                return Ok(Head::Begun {
                    name,
                    at,
                    list: listed,
                });
            }
            _ => {}
        }
        let end = value(text, at)?;
        let raw = &text[at..end];
        if key == "name" {
            let given = serde_json::from_str(raw).map_err(|_| Stop::Wrong)?;
            if !known.contains(&given) {
                return Err(Stop::Wrong);
            }
            name = Some(given);
        } else if is_arguments {
            arguments = Some(plain(raw).ok_or(Stop::Wrong)?);
        }
        at = spaces(text, end);
        match next(text, at)? {
            b',' => at += 1,
            b'}' => break,
            _ => return Err(Stop::Wrong),
        }
    }
    Ok(Head::Whole {
        name: name.ok_or(Stop::Wrong)?,
        arguments: arguments.unwrap_or_else(|| "{}".to_owned()),
        end: at + 1,
        list: listed,
    })
}

/// Arguments as the text of an object: some models write that text as a string, and null for none.
fn plain(raw: &str) -> Option<String> {
    match serde_json::from_str::<Value>(raw).ok()? {
        Value::Null => Some("{}".to_owned()),
        Value::String(text) => serde_json::from_str::<Value>(&text)
            .is_ok_and(|inner| inner.is_object())
            .then_some(text),
        _ => Some(raw.to_owned()),
    }
}

fn next(text: &str, at: usize) -> Result<u8, Stop> {
    text.as_bytes().get(at).copied().ok_or(Stop::Unfinished)
}

fn expect(text: &str, at: usize, wanted: u8) -> Result<usize, Stop> {
    if next(text, at)? == wanted {
        Ok(at + 1)
    } else {
        Err(Stop::Wrong)
    }
}

/// Where the white space that begins at `at` ends.
pub fn spaces(text: &str, at: usize) -> usize {
    let space = |byte: &&u8| matches!(byte, b' ' | b'\n' | b'\r' | b'\t');
    at + text.as_bytes()[at..].iter().take_while(space).count()
}

/// Where the JSON value that begins at `at` ends, as far as brackets and quotes tell.
fn value(text: &str, at: usize) -> Result<usize, Stop> {
    match next(text, at)? {
        b'"' | b'{' | b'[' => {
            let mut depth = Depth::default();
            for (offset, byte) in text.as_bytes()[at..].iter().enumerate() {
                if depth.take(*byte) {
                    return Ok(at + offset + 1);
                }
            }
            Err(Stop::Unfinished)
        }
        _ => {
            let word = |byte: &&u8| !matches!(byte, b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t');
            let end = at + text.as_bytes()[at..].iter().take_while(word).count();
            if end == text.len() {
                return Err(Stop::Unfinished);
            }
            let known = serde_json::from_str::<Value>(&text[at..end]).is_ok();
            if known { Ok(end) } else { Err(Stop::Wrong) }
        }
    }
}

/// How deep in brackets a JSON text is, and whether in a string.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    brackets: usize,
    in_string: bool,
    escaped: bool,
}

impl Depth {
    /// Takes one byte in; true when it ends the value that began with the first.
    pub fn take(&mut self, byte: u8) -> bool {
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => {
                    self.in_string = false;
                    return self.brackets == 0;
                }
                _ => {}
            }
            return false;
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' => self.brackets += 1,
            b'}' | b']' => {
                self.brackets = self.brackets.saturating_sub(1);
                return self.brackets == 0;
            }
            _ => {}
        }
        false
    }

    /// Whether a string or a bracket is open.
    pub fn is_inside(self) -> bool {
        self.in_string || self.brackets > 0
    }
}
