//! What one choice says, told apart into text and calls of functions.

use crate::engine::{CallForm, CallParser, Logprobs, Said};
use crate::server::wire::{CallChoice, ToolUse};
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
        let most = |tools: &ToolUse| {
            if form.one_at_a_time() {
                1
            } else {
                tools.most_calls()
            }
        };
        let parser = tools.map(|tools| {
            let parser = CallParser::new(form.clone(), tools.callable.clone(), most(tools));
            match tools.choice {
                CallChoice::Auto => parser,
                CallChoice::Required | CallChoice::Named => parser.of_calls_only(),
            }
        });
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{TokenLogprob, Tool};
    use crate::units::TokenId;

    fn tools() -> ToolUse {
        let tool = Tool {
            name: "add".to_owned(),
            description: None,
            parameters: None,
            strict: false,
        };
        ToolUse {
            callable: vec![tool.name.clone()],
            tools: vec![tool],
            choice: CallChoice::Auto,
            parallel: true,
        }
    }

    fn logprob(text: &str) -> Logprobs {
        Logprobs {
            chosen: TokenLogprob {
                token: TokenId(0),
                text: text.to_owned(),
                bytes: text.into(),
                logprob: -1.0,
            },
            top: Vec::new(),
        }
    }

    /// Pieces as one word each; text with the tokens whose log-probabilities come with it.
    fn heard(tokens: &[&str], tools: Option<&ToolUse>) -> Vec<String> {
        let mut ear = Ear::new(RequestId(7), 1, tools, &CallForm::TAGGED);
        let mut pieces = Vec::new();
        for token in tokens {
            pieces.extend(ear.hear((*token).to_owned(), vec![logprob(token)]));
        }
        pieces.extend(ear.end());
        let word = |piece: &Piece| match piece {
            Piece::Text {
                choice,
                text,
                logprobs,
            } => {
                let tokens: Vec<&str> = logprobs.iter().map(|token| token.chosen.text.as_str()).collect();
                format!("{choice} {text:?} of {tokens:?}")
            }
            Piece::Call {
                choice,
                call,
                id,
                name,
            } => format!("{choice} call {call} {id} {name}"),
            Piece::Arguments { choice, call, text } => format!("{choice} arguments {call} {text}"),
            other => panic!("{other:?}"),
        };
        pieces.iter().map(word).collect()
    }

    #[test]
    fn text_keeps_its_log_probabilities_and_calls_have_none() {
        let call = [
            "Well",
            ".",
            "\n",
            "<tool_call>",
            "{\"name\": \"add\", \"arguments\": ",
            "{}",
            "}",
            "</tool_call>",
        ];
        assert_eq!(
            heard(&call, Some(&tools())),
            [
                r#"1 "Well" of ["Well"]"#,
                r#"1 "." of ["."]"#,
                "1 call 0 call_000000000000000700010000 add",
                "1 arguments 0 {}",
            ]
        );
        assert_eq!(
            heard(&["a", " <", "b", " "], Some(&tools())),
            [
                r#"1 "a" of ["a"]"#,
                r#"1 " <b" of [" <", "b"]"#,
                r#"1 " " of [" "]"#
            ]
        );
        assert_eq!(
            heard(&[" ", "<"], None),
            [r#"1 " " of [" "]"#, r#"1 "<" of ["<"]"#]
        );
    }
}
