//! A valid request in plain words, whatever door it came through.

use crate::engine::{CallForm, CallRule, Callable, ChatMessage, Constraint, Instead, Sampling, Tool};
use crate::units::TokenId;

use super::reference::Reference;

/// What a client wants, checked as far as it can be without knowing the zoo.
#[derive(Clone, Debug)]
pub struct Ask {
    pub target: Target,
    /// At least one.
    pub prompts: Vec<Prompt>,
    /// Answers to each prompt, at least one.
    pub n: u32,
    /// `None`: as many as the context leaves.
    pub max_tokens: Option<u32>,
    pub sampling: SamplingWish,
    pub stop: Vec<String>,
    pub logprobs: Option<u8>,
    /// What every answer has to be.
    pub constraint: Option<Constraint>,
    /// What the model may call; `None` for nothing.
    pub tools: Option<ToolUse>,
    pub delivery: Delivery,
    /// With it the server judges every answer itself.
    pub reference: Option<Reference>,
}

impl Ask {
    /// How much there is to read, in bytes, roughly.
    pub fn length(&self) -> usize {
        let of = |prompt: &Prompt| match prompt {
            Prompt::Chat(messages) => messages.iter().map(|message| message.content.len()).sum(),
            Prompt::Text(text) => text.len(),
            Prompt::Tokens(tokens) => tokens.len(),
        };
        let described: usize = self
            .offered()
            .iter()
            .map(|tool| tool.described().to_string().len())
            .sum();
        self.prompts.iter().map(of).sum::<usize>() + described
    }

    /// The functions that the model is told of.
    pub fn offered(&self) -> &[Tool] {
        self.tools.as_ref().map_or(&[], |tools| &tools.tools)
    }

    /// What the answer of a model that calls in this form has to be.
    pub fn constraint_in(&self, form: impl FnOnce() -> CallForm) -> Option<Constraint> {
        match &self.tools {
            Some(tools) => tools.constraint(form, self.constraint.as_ref()),
            None => self.constraint.clone(),
        }
    }

    /// How many answers come back in all.
    pub fn choices(&self) -> usize {
        self.prompts.len() * self.n as usize
    }
}

/// Who is to answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The router decides, under this SLA. `param` is the field that named it, for complaints.
    Auto { sla: String, param: &'static str },
    /// This model, whatever the router thinks.
    Named { model: String },
}

/// One prompt in one of the three forms it may come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prompt {
    Chat(Vec<ChatMessage>),
    Text(String),
    Tokens(Vec<TokenId>),
}

impl Prompt {
    /// The words the router looks at: what the user said, without the template around it.
    pub fn words(&self) -> String {
        match self {
            Self::Chat(messages) => {
                let said: Vec<&str> = messages.iter().map(|message| message.content.as_str()).collect();
                said.join("\n")
            }
            Self::Text(text) => text.clone(),
            Self::Tokens(_) => String::new(),
        }
    }
}

/// Functions, and whether the model has to call one.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolUse {
    /// At least one; the model is told of all of them.
    pub tools: Vec<Tool>,
    /// Names of those that it may call.
    pub callable: Vec<String>,
    pub choice: CallChoice,
    /// More than one call in an answer.
    pub parallel: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallChoice {
    /// The model calls if it likes.
    Auto,
    /// It has to call.
    Required,
    /// It has to call the one function that is callable.
    Named,
}

impl ToolUse {
    /// Calls that are let through of one answer.
    pub fn most_calls(&self) -> usize {
        if self.parallel { usize::MAX } else { 1 }
    }

    /// The rule of calling this function and no other.
    pub fn alone(&self, tool: &Tool, form: CallForm) -> Constraint {
        Constraint::Calls(CallRule {
            form,
            functions: vec![callable(tool)],
            parallel: false,
            instead: Instead::Nothing,
        })
    }

    /// A grammar where calls are demanded, promised to be strict, or beside answers of another form; a model that calls
    /// as it likes is read and not led.
    fn constraint(&self, form: impl FnOnce() -> CallForm, other: Option<&Constraint>) -> Option<Constraint> {
        let may_call = |tool: &&Tool| self.callable.contains(&tool.name);
        let functions = self.tools.iter().filter(may_call);
        let instead = match (self.choice, other) {
            (CallChoice::Required | CallChoice::Named, _) => Instead::Nothing,
            (CallChoice::Auto, Some(other)) => Instead::Only(Box::new(other.clone())),
            (CallChoice::Auto, None) if functions.clone().any(|tool| tool.strict) => Instead::Text,
            (CallChoice::Auto, None) => return None,
        };
        Some(Constraint::Calls(CallRule {
            form: form(),
            functions: functions.map(callable).collect(),
            parallel: self.parallel,
            instead,
        }))
    }
}

fn callable(tool: &Tool) -> Callable {
    Callable {
        name: tool.name.clone(),
        arguments: tool.schema(),
        strict: tool.strict,
    }
}

/// Whether the answer comes at once or in pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    Whole,
    Stream { include_usage: bool },
}

/// What the request says about sampling; the rest is the model's own default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SamplingWish {
    pub temperature: Option<f32>,
    pub top_p: Option<f32>,
    pub top_k: Option<u32>,
    pub min_p: Option<f32>,
    pub repetition_penalty: Option<f32>,
    pub presence_penalty: Option<f32>,
    pub frequency_penalty: Option<f32>,
    pub logit_bias: Vec<(TokenId, f32)>,
    pub seed: Option<u64>,
}

impl SamplingWish {
    /// The wish laid over a model's default; `seed` serves when the request names none.
    pub fn over(&self, default: &Sampling, seed: u64) -> Sampling {
        Sampling {
            temperature: self.temperature.unwrap_or(default.temperature),
            top_p: self.top_p.unwrap_or(default.top_p),
            top_k: self.top_k.unwrap_or(default.top_k),
            min_p: self.min_p.unwrap_or(default.min_p),
            repetition_penalty: self.repetition_penalty.unwrap_or(default.repetition_penalty),
            presence_penalty: self.presence_penalty.unwrap_or(default.presence_penalty),
            frequency_penalty: self.frequency_penalty.unwrap_or(default.frequency_penalty),
            logit_bias: self.logit_bias.clone(),
            seed: self.seed.unwrap_or(seed),
        }
    }
}
