//! Listening to a request's jobs until they end, its client goes, or the lane fails.

use std::time::Instant;

use futures_util::stream::{SelectAll, StreamExt, select_all};
use tokio::sync::mpsc::UnboundedSender;
use tokio_stream::wrappers::UnboundedReceiverStream;

use crate::engine::{Event, JobStream, Outcome};
use crate::server::metrics::Metrics;
use crate::units::ModelId;

use super::DeskError;
use super::ear::Ear;
use super::piece::Piece;

/// What one job has said so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Spoken {
    pub text: String,
    /// Pieces of text, nearly one a token: all that is known of an answer that was broken off.
    pub pieces: u32,
    pub outcome: Option<Outcome>,
}

/// How listening ended.
#[derive(Debug)]
pub(super) enum Heard {
    All,
    ClientGone,
    Failed(DeskError),
}

/// Events of several jobs, each with its choice's number. `None` as event: the job's stream ended.
type Events = SelectAll<futures_util::stream::BoxStream<'static, (usize, Option<Event>)>>;

fn merged(streams: Vec<JobStream>) -> Events {
    select_all(streams.into_iter().enumerate().map(|(choice, stream)| {
        let events = UnboundedReceiverStream::new(stream).map(Some);
        let ended = futures_util::stream::iter([None]);
        events.chain(ended).map(move |event| (choice, event)).boxed()
    }))
}

/// Forwards what the jobs say to the client. Returning drops the jobs, which cancels those that still run.
pub(super) async fn pump(
    streams: Vec<JobStream>,
    client: &UnboundedSender<Piece>,
    model: ModelId,
    metrics: &Metrics,
    ears: &mut [Ear],
    spoken: &mut [Spoken],
) -> Heard {
    let mut last_token: Vec<Option<Instant>> = vec![None; spoken.len()];
    let mut open = spoken.len();
    let mut events = merged(streams);
    while open > 0 {
        let next = tokio::select! {
            biased;
            () = client.closed() => return Heard::ClientGone,
            next = events.next() => next,
        };
        let Some((choice, event)) = next else { break };
        let (Some(said), Some(ear)) = (spoken.get_mut(choice), ears.get_mut(choice)) else {
            continue;
        };
        match event {
            Some(Event::Text { text, logprobs }) => {
                let now = Instant::now();
                if let Some(before) = last_token[choice].replace(now) {
                    metrics.between_tokens(model, now - before);
                }
                said.text.push_str(&text);
                said.pieces += 1;
                tell(client, ear.hear(text, logprobs));
            }
            Some(Event::Done(outcome)) => {
                let done = Piece::Done {
                    choice,
                    finish: outcome.finish,
                    stopped_by: outcome.stopped_by.clone(),
                };
                tell(client, ear.end().into_iter().chain([done]));
                said.outcome = Some(outcome);
                open -= 1;
            }
            Some(Event::Failed(error)) => return Heard::Failed(error.into()),
            None if said.outcome.is_none() => return Heard::Failed(DeskError::Lost),
            None => {}
        }
    }
    Heard::All
}

fn tell(client: &UnboundedSender<Piece>, pieces: impl IntoIterator<Item = Piece>) {
    for piece in pieces {
        // A failed send means that the client has gone, which the pump's next turn sees.
        let _ = client.send(piece);
    }
}

/// Listens to jobs that no client sees. `None` when one of them fails: there is nothing to learn from it.
pub(super) async fn listen(streams: Vec<JobStream>) -> Option<Vec<Spoken>> {
    let mut all = Vec::with_capacity(streams.len());
    for mut stream in streams {
        let mut said = Spoken::default();
        while let Some(event) = stream.recv().await {
            match event {
                Event::Text { text, .. } => said.text.push_str(&text),
                Event::Done(outcome) => said.outcome = Some(outcome),
                Event::Failed(_) => return None,
            }
        }
        said.outcome.as_ref()?;
        all.push(said);
    }
    Some(all)
}
