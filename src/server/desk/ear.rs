//! What one choice says, told apart into text and calls of functions.

use crate::engine::{CallForm, CallParser, Logprobs, Said};
use crate::server::wire::ToolUse;
use crate::units::RequestId;

use super::piece::Piece;

pub(super) struct Ear {
    request: RequestId,
    choice: usize,
    /// `None` where nothing may be called: then all is text.
    parser: Option<CallParser>,
    calls: usize,
    /// Of tokens whose text is still held back.
    logprobs: Vec<Logprobs>,
}

impl Ear {
    pub fn new(request: RequestId, choice: usize, tools: Option<&ToolUse>, form: &CallForm) -> Self {
        let parser =
            tools.map(|tools| CallParser::new(form.clone(), tools.callable.clone(), tools.most_calls()));
        Self {
            request,
            choice,
            parser,
            calls: 0,
            logprobs: Vec::new(),
        }
    }

    pub fn hear(&mut self, text: String, logprobs: Vec<Logprobs>) -> Vec<Piece> {
        let choice = self.choice;
        let Some(parser) = &mut self.parser else {
            return vec![Piece::Text {
                choice,
                text,
                logprobs,
            }];
        };
        self.logprobs.extend(logprobs);
        let said = parser.push(&text);
        self.told(said)
    }

    /// What was held back, when the choice has ended.
    pub fn end(&mut self) -> Vec<Piece> {
        let said = self.parser.as_mut().map(CallParser::finish).unwrap_or_default();
        let mut pieces = self.told(said);
        if !self.logprobs.is_empty() && self.calls == 0 {
            pieces.push(Piece::Text {
                choice: self.choice,
                text: String::new(),
                logprobs: std::mem::take(&mut self.logprobs),
            });
        }
        pieces
    }

    /// As OpenAI does it, log-probabilities are told of text alone.
    fn told(&mut self, said: Vec<Said>) -> Vec<Piece> {
        let choice = self.choice;
        let mut pieces = Vec::with_capacity(said.len());
        for said in said {
            let logprobs = std::mem::take(&mut self.logprobs);
            pieces.push(match said {
                Said::Text(text) => Piece::Text {
                    choice,
                    text,
                    logprobs,
                },
                Said::Call { name } => {
                    self.calls += 1;
                    let call = self.calls - 1;
                    let id = format!("call_{:016x}{choice:04x}{call:04x}", self.request.0);
                    Piece::Call {
                        choice,
                        call,
                        id,
                        name,
                    }
                }
                Said::Arguments(text) => Piece::Arguments {
                    choice,
                    call: self.calls.saturating_sub(1),
                    text,
                },
            });
        }
        pieces
    }
}
