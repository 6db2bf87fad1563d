//! A streamed answer as server-sent events.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, stream};
use serde_json::Value;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::engine::FinishReason;

use super::desk::{DeskError, Piece};
use super::fault::Fault;
use super::wire::Chunks;

/// Comments flow in this rhythm while nothing else does, so that neither client nor proxy gives up waiting.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
const DONE: &str = "[DONE]";
/// nginx buffers responses unless told not to.
const NO_BUFFERING: (HeaderName, HeaderValue) = (
    HeaderName::from_static("x-accel-buffering"),
    HeaderValue::from_static("no"),
);

/// Turns the pieces of an answer into the events of one door.
pub(super) trait Teller: Send + 'static {
    fn hear(&mut self, piece: Piece) -> impl Future<Output = ()> + Send;

    /// The next event that is ready to go out.
    fn next(&mut self) -> Option<Event>;

    /// Whether nothing follows what is ready.
    fn is_over(&self) -> bool;
}

/// The response that streams an answer. Dropping it cancels the request.
pub(super) fn streamed(teller: impl Teller, pieces: UnboundedReceiver<Piece>) -> Response {
    let events =
        Sse::new(events(teller, pieces)).keep_alive(KeepAlive::new().interval(KEEP_ALIVE).text("keep-alive"));
    ([NO_BUFFERING], events).into_response()
}

fn events(
    teller: impl Teller,
    pieces: UnboundedReceiver<Piece>,
) -> impl Stream<Item = Result<Event, Infallible>> + Send + 'static {
    stream::unfold((teller, pieces), |(mut teller, mut pieces)| async move {
        loop {
            if let Some(event) = teller.next() {
                return Some((Ok(event), (teller, pieces)));
            }
            if teller.is_over() {
                return None;
            }
            // A life that ends without a word has failed; the client must not take silence for an end.
            let piece = pieces.recv().await.unwrap_or(Piece::Failed(DeskError::Lost));
            teller.hear(piece).await;
        }
    })
}

/// Tells an answer in chunks, as chat and completions do.
pub(super) struct ChunkTeller {
    chunks: Chunks,
    open: usize,
    /// The last choice's end waits here for the joules that its chunk carries.
    last: Option<(usize, FinishReason)>,
    ready: VecDeque<String>,
    over: bool,
}

impl Teller for ChunkTeller {
    async fn hear(&mut self, piece: Piece) {
        self.take(piece);
    }

    fn next(&mut self) -> Option<Event> {
        let data = self.ready.pop_front()?;
        Some(Event::default().data(data))
    }

    fn is_over(&self) -> bool {
        self.over
    }
}

impl ChunkTeller {
    pub fn new(chunks: Chunks, choices: usize) -> Self {
        Self {
            chunks,
            open: choices,
            last: None,
            ready: VecDeque::new(),
            over: false,
        }
    }

    fn take(&mut self, piece: Piece) {
        match piece {
            Piece::Text {
                choice,
                text,
                logprobs,
            } => {
                let chunks = self.chunks.text(choice, &text, &logprobs);
                self.tell(chunks);
            }
            Piece::Call {
                choice,
                call,
                id,
                name,
            } => {
                let chunks = self.chunks.call(choice, call, &id, &name);
                self.tell(chunks);
            }
            Piece::Arguments { choice, call, text } => {
                let chunk = self.chunks.arguments(choice, call, &text);
                self.tell(vec![chunk]);
            }
            Piece::Done { choice, finish, .. } => {
                self.open = self.open.saturating_sub(1);
                if self.open == 0 {
                    self.last = Some((choice, finish));
                } else {
                    let chunks = self.chunks.finish(choice, finish, None);
                    self.tell(chunks);
                }
            }
            Piece::Finished(summary) => {
                if let Some((choice, finish)) = self.last.take() {
                    let chunks = self.chunks.finish(choice, finish, Some(&summary.extension));
                    self.tell(chunks);
                }
                if self.chunks.include_usage() {
                    self.tell(vec![self.chunks.usage(&summary.usage, &summary.extension)]);
                }
                self.end();
            }
            Piece::Failed(error) => {
                self.tell(vec![Fault::from(error).object()]);
                self.end();
            }
        }
    }

    fn tell(&mut self, chunks: Vec<Value>) {
        self.ready.extend(chunks.iter().map(Value::to_string));
    }

    fn end(&mut self) {
        self.ready.push_back(DONE.to_owned());
        self.over = true;
    }
}

#[cfg(test)]
#[path = "sse_tests.rs"]
mod tests;
