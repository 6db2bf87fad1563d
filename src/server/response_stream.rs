//! A streamed response: typed events, numbered, and the last of them only when the response is durable.

use std::collections::VecDeque;

use axum::response::sse::Event;
use serde_json::Value;

use crate::units::RequestId;

use super::desk::{Desk, DeskError, Kept, Piece};
use super::fault::Fault;
use super::sse::Teller;
use super::wire::{Item, ResponseBuilder, ResponseEvent, to_value};

/// A response that is to be kept, and for whom.
pub(super) struct Keeping {
    pub desk: Desk,
    pub request: RequestId,
    pub owner: Option<String>,
    pub previous: Option<String>,
    pub input: Vec<Item>,
}

impl Keeping {
    /// Returns once it is durable.
    pub async fn keep(self, response: Value) -> Result<(), DeskError> {
        let kept = Kept {
            input: self.input,
            response,
        };
        let previous = self.previous.as_deref();
        self.desk
            .keep(self.request, self.owner.as_deref(), previous, &kept)
            .await
    }
}

pub(super) struct ResponseTeller {
    builder: ResponseBuilder,
    keeping: Option<Keeping>,
    ready: VecDeque<ResponseEvent>,
    sequence: u64,
    over: bool,
}

impl ResponseTeller {
    pub fn new(builder: ResponseBuilder, keeping: Option<Keeping>) -> Self {
        Self {
            ready: builder.begin().into(),
            builder,
            keeping,
            sequence: 0,
            over: false,
        }
    }

    fn fail(&mut self, error: DeskError) {
        let message = Fault::from(error).message().to_owned();
        self.ready.push_back(self.builder.fail(message));
        self.over = true;
    }
}

impl Teller for ResponseTeller {
    async fn hear(&mut self, piece: Piece) {
        let events = match piece {
            Piece::Text { text, logprobs, .. } => self.builder.text(&text, &logprobs),
            Piece::Call { id, name, .. } => self.builder.call(&id, &name),
            Piece::Arguments { text, .. } => self.builder.arguments(&text),
            Piece::Done { finish, .. } => self.builder.done(finish),
            Piece::Finished(summary) => {
                let object = to_value(self.builder.settle(&summary.usage, summary.extension));
                if let Some(keeping) = self.keeping.take()
                    && let Err(error) = keeping.keep(object).await
                {
                    return self.fail(error);
                }
                self.over = true;
                vec![self.builder.end()]
            }
            Piece::Failed(error) => return self.fail(error),
        };
        self.ready.extend(events);
    }

    fn next(&mut self) -> Option<Event> {
        let mut data = to_value(&self.ready.pop_front()?);
        data["sequence_number"] = self.sequence.into();
        self.sequence += 1;
        let name = data["type"].as_str().unwrap_or_default().to_owned();
        Some(Event::default().event(name).data(data.to_string()))
    }

    fn is_over(&self) -> bool {
        self.over
    }
}
