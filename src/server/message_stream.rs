//! A streamed message on Anthropic's door.

use std::collections::VecDeque;

use axum::response::sse::Event;

use super::desk::Piece;
use super::fault::Fault;
use super::sse::Teller;
use super::wire::{MessageBuilder, MessageEvent, to_value};

pub(super) struct MessageTeller {
    builder: MessageBuilder,
    ready: VecDeque<MessageEvent>,
    over: bool,
}

impl MessageTeller {
    pub fn new(builder: MessageBuilder, prompt_tokens: u32) -> Self {
        Self {
            ready: VecDeque::from([builder.begin(prompt_tokens)]),
            builder,
            over: false,
        }
    }
}

impl Teller for MessageTeller {
    async fn hear(&mut self, piece: Piece) {
        let events = match piece {
            Piece::Text { text, .. } => self.builder.text(&text),
            Piece::Call { id, name, .. } => self.builder.call(&id, &name),
            Piece::Arguments { text, .. } => self.builder.arguments(&text),
            Piece::Done {
                finish, stopped_by, ..
            } => self.builder.done(finish, stopped_by),
            Piece::Finished(summary) => {
                self.over = true;
                self.builder.end(&summary.usage, summary.extension).into()
            }
            Piece::Failed(error) => {
                self.over = true;
                let error = Fault::from(error).anthropic();
                vec![MessageEvent::Error { error }]
            }
        };
        self.ready.extend(events);
    }

    fn next(&mut self) -> Option<Event> {
        let data = to_value(&self.ready.pop_front()?);
        let name = data["type"].as_str().unwrap_or_default().to_owned();
        Some(Event::default().event(name).data(data.to_string()))
    }

    fn is_over(&self) -> bool {
        self.over
    }
}
