//! The forms in which families of models write calls.

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

    /// The form that a chat template speaks of; `None` for one that is not known here.
    pub fn of_template(source: &str) -> Option<Self> {
        // Other forms under the same marks: Qwen3-Coder's tags and Mistral's of the later tokenizers.
        if source.contains("<function=") || source.contains("[ARGS]") {
            return None;
        }
        let marked = [Self::MISTRAL, Self::TAGGED, Self::GRANITE];
        marked
            .into_iter()
            .find(|form| form.open.is_some_and(|open| source.contains(open)))
            .or_else(|| source.contains("\"parameters\": ").then_some(Self::BARE))
    }

    /// What announces and ends a call.
    pub fn marks(&self) -> impl Iterator<Item = &'static str> {
        self.open.into_iter().chain(self.close)
    }
}
