//! Reading an answer as it comes: what of it is text and what calls a function.

use super::form::CallForm;
use super::head::{self, Depth, Head};

/// A part of an answer. The fragments of a call's arguments follow it and make one JSON text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    Text(String),
    Call { name: String },
    Arguments(String),
}

/// Splits an answer into text and calls. However the answer is cut into pieces, the same comes out of it. White space
/// around calls belongs to neither, and what only looks like a call stays text.
#[derive(Clone, Debug)]
pub struct CallParser {
    form: CallForm,
    known: Vec<String>,
    /// Calls that may still come.
    left: usize,
    /// Whether the answer can be nothing but calls, so that what is left of one is no text.
    only_calls: bool,
    /// Whether a list of calls is open.
    list: bool,
    state: State,
    /// What is not decided yet.
    held: String,
    said: Vec<Said>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before anything but white space.
    Start,
    Text,
    /// Where a call may begin, after the first `mark` bytes that are held: white space and the opening mark.
    Head {
        mark: usize,
    },
    Arguments(Depth),
    /// After the arguments, before the end of the call's object.
    Rest(Depth),
    /// After a call.
    Between,
    /// All the calls that may come have come.
    Over,
}

impl CallParser {
    /// `known` are the functions that may be called, `most` how many calls are let through; later ones are left out.
    pub fn new(form: CallForm, known: Vec<String>, most: usize) -> Self {
        Self {
            form,
            known,
            left: most,
            only_calls: false,
            list: false,
            state: State::Start,
            held: String::new(),
            said: Vec::new(),
        }
    }

    /// The same for an answer that is held to calls: one that is cut short before its name is known says nothing.
    pub fn of_calls_only(self) -> Self {
        Self {
            only_calls: true,
            ..self
        }
    }

    /// Takes in more of the answer.
    pub fn push(&mut self, text: &str) -> Vec<Said> {
        self.held.push_str(text);
        while self.step() {}
        std::mem::take(&mut self.said)
    }

    /// The answer has ended: what was held back is text after all.
    pub fn finish(&mut self) -> Vec<Said> {
        let held = std::mem::take(&mut self.held);
        if !self.only_calls && matches!(self.state, State::Start | State::Text | State::Head { .. }) {
            self.say_text(&held);
        }
        self.state = State::Over;
        std::mem::take(&mut self.said)
    }

    /// Goes on by one decision; false when more text is needed for the next.
    fn step(&mut self) -> bool {
        match self.state {
            State::Start => self.start(),
            State::Text => self.text(),
            State::Head { mark } => self.head(mark),
            State::Arguments(depth) => self.arguments(depth),
            State::Rest(depth) => self.rest(depth),
            State::Between => self.between(),
            State::Over => {
                self.held.clear();
                false
            }
        }
    }

    /// An answer in a form without marks is a call from its first character on or not at all.
    fn start(&mut self) -> bool {
        let first = self.held[head::spaces(&self.held, 0)..].chars().next();
        self.state = match (self.form.open, first) {
            (_, None) => return false,
            (None, Some('{')) => State::Head { mark: 0 },
            _ => State::Text,
        };
        true
    }

    fn text(&mut self) -> bool {
        let Some(open) = self.form.open else {
            let all = self.take(self.held.len());
            self.say_text(&all);
            return false;
        };
        // White space before a mark, or before what may be the beginning of one, waits with it: a call swallows it.
        let found = self.held.find(open);
        let mark = found.unwrap_or_else(|| self.held.len() - beginning(&self.held, open));
        let sure = self.held[..mark].trim_end().len();
        let text = self.take(sure);
        self.say_text(&text);
        if found.is_some() {
            self.state = State::Head {
                mark: mark - sure + open.len(),
            };
        }
        found.is_some()
    }

    fn head(&mut self, mark: usize) -> bool {
        let list = self.form.open.is_some() && !self.list;
        match head::read(&self.held[mark..], &self.known, list) {
            Head::Unfinished => return false,
            Head::NotACall => {
                // The mark itself is said, so that it is not found again.
                let said = self.take(mark);
                self.say_text(&said);
                self.state = State::Text;
            }
            Head::Begun { name, at, list } => {
                self.list |= list;
                self.take(mark + at);
                self.call(name, None);
            }
            Head::Whole {
                name,
                arguments,
                end,
                list,
            } => {
                self.list |= list;
                self.take(mark + end);
                self.call(name, Some(arguments));
            }
        }
        true
    }

    /// Begins a call if one more is let through.
    fn call(&mut self, name: String, arguments: Option<String>) {
        if self.left == 0 {
            self.state = State::Over;
            return;
        }
        self.left -= 1;
        self.said.push(Said::Call { name });
        self.state = match arguments {
            None => State::Arguments(Depth::default()),
            Some(arguments) => {
                self.said.push(Said::Arguments(arguments));
                State::Between
            }
        };
    }

    fn arguments(&mut self, mut depth: Depth) -> bool {
        let end = self.held.bytes().position(|byte| depth.take(byte));
        let fragment = self.take(end.map_or(self.held.len(), |last| last + 1));
        if !fragment.is_empty() {
            self.said.push(Said::Arguments(fragment));
        }
        self.state = match end {
            Some(_) => State::Rest(Depth::default()),
            None => State::Arguments(depth),
        };
        end.is_some()
    }

    /// What stands behind the arguments is of no account. Small models forget the last brace, so the closing mark ends
    /// a call as well.
    fn rest(&mut self, mut depth: Depth) -> bool {
        let close = self.form.close.unwrap_or_default().as_bytes();
        let held = self.held.as_bytes();
        let (mut used, mut ended) = (held.len(), false);
        for (at, &byte) in held.iter().enumerate() {
            let begun = &held[at..][..close.len().min(held.len() - at)];
            if !depth.is_inside() && byte == b'}' {
                (used, ended) = (at + 1, true);
                break;
            }
            if !depth.is_inside() && !close.is_empty() && close.starts_with(begun) {
                (used, ended) = (at, begun.len() == close.len());
                break;
            }
            depth.take(byte);
        }
        self.take(used);
        self.state = if ended { State::Between } else { State::Rest(depth) };
        ended
    }

    fn between(&mut self) -> bool {
        self.take(head::spaces(&self.held, 0));
        let Some(first) = self.held.chars().next() else {
            return false;
        };
        let (open, close) = (self.form.open, self.form.close);
        let comes = |mark: Option<&'static str>| mark.filter(|mark| self.held.starts_with(mark));
        let may_come = |mark: Option<&'static str>| mark.is_some_and(|mark| mark.starts_with(&self.held));
        if let Some(mark) = comes(close) {
            self.list = false;
            self.take(mark.len());
        } else if let Some(mark) = comes(open) {
            self.list = false;
            self.state = State::Head { mark: mark.len() };
        } else if may_come(open) || may_come(close) {
            return false;
        } else if self.list && matches!(first, ',' | ']') {
            self.list = first == ',';
            self.take(1);
        } else if open.is_none() && first == ';' {
            // Llama's way of calling twice.
            self.take(1);
        } else if first == '{' && (self.list || open.is_none()) {
            self.state = State::Head { mark: 0 };
        } else {
            self.state = State::Text;
        }
        true
    }

    /// The first `length` bytes of what is held.
    fn take(&mut self, length: usize) -> String {
        let rest = self.held.split_off(length);
        std::mem::replace(&mut self.held, rest)
    }

    fn say_text(&mut self, text: &str) {
        if !text.is_empty() {
            self.said.push(Said::Text(text.to_owned()));
        }
    }
}

/// Bytes of the longest proper beginning of `mark` that `text` ends with.
fn beginning(text: &str, mark: &str) -> usize {
    (1..mark.len())
        .rev()
        .find(|&n| mark.is_char_boundary(n) && text.ends_with(&mark[..n]))
        .unwrap_or(0)
}
