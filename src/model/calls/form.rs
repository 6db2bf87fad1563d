//! The forms in which families of models write calls.

use super::parser::{CallParser, Said};

/// How a call looks in an answer: `open`, one call or a list of them, `close`. A call is a JSON object with `name` and
/// [`CallForm::arguments`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallForm {
    /// What announces a call; without it an answer that begins with a call is one.
    pub open: Option<&'static str>,
    pub close: Option<&'static str>,
    /// Whether calls stand in a JSON list.
    pub list: bool,
    /// The key of the arguments.
    pub arguments: &'static str,
}

impl CallForm {
    /// `<tool_call>\n{"name": …, "arguments": …}\n</tool_call>`: Hermes, Qwen, and whoever has no form of its own.
    pub const TAGGED: Self = Self {
        open: Some("<tool_call>"),
        close: Some("</tool_call>"),
        list: false,
        arguments: "arguments",
    };
    /// `[TOOL_CALLS] [{"name": …, "arguments": …}]`: Mistral up to its third tokenizer.
    pub const MISTRAL: Self = Self {
        open: Some("[TOOL_CALLS]"),
        close: None,
        list: true,
        arguments: "arguments",
    };
    /// `<|tool_call|>[{"name": …, "arguments": …}]`: Granite 3.
    pub const GRANITE: Self = Self {
        open: Some("<|tool_call|>"),
        close: None,
        list: true,
        arguments: "arguments",
    };
    /// `{"name": …, "parameters": …}` and nothing else: Llama 3.
    pub const BARE: Self = Self {
        open: None,
        close: None,
        list: false,
        arguments: "parameters",
    };

    /// The form of the call of `name` that stands somewhere in a text with `argument` among its arguments.
    pub fn of_call(text: &str, name: &str, argument: &str) -> Option<Self> {
        let marked = [Self::MISTRAL, Self::TAGGED, Self::GRANITE];
        let marked = marked.into_iter().find(|form| form.reads(text, name, argument));
        let bare = || {
            let mut objects = text.match_indices('{').map(|(at, _)| &text[at..]);
            let call = objects.find(|rest| Self::BARE.reads(rest, name, argument))?;
            let arguments = if call.contains("\"arguments\"") {
                "arguments"
            } else {
                "parameters"
            };
            Some(Self {
                arguments,
                ..Self::BARE
            })
        };
        marked.or_else(bare)
    }

    /// The form whose mark stands in a model's configuration, where the template shows no calls.
    pub fn of_source(source: &str) -> Option<Self> {
        let marked = [Self::MISTRAL, Self::TAGGED, Self::GRANITE];
        marked
            .into_iter()
            .find(|form| form.open.is_some_and(|open| source.contains(open)))
    }

    fn reads(&self, text: &str, name: &str, argument: &str) -> bool {
        let mut parser = CallParser::new(self.clone(), vec![name.to_owned()], usize::MAX);
        let said = parser.push(text);
        said.iter()
            .any(|said| matches!(said, Said::Arguments(arguments) if arguments.contains(argument)))
    }

    /// Whether an answer holds one call at most: Llama's templates refuse a conversation with more.
    pub fn one_at_a_time(&self) -> bool {
        self.open.is_none()
    }

    /// What announces and ends a call.
    pub fn marks(&self) -> impl Iterator<Item = &'static str> {
        self.open.into_iter().chain(self.close)
    }
}
