//! Texts on their way to the encoder, which the first lane computes between two steps: one thread owns the device, so
//! whatever a text costs is told apart from the steps beside it.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::Sender;
use std::time::Duration;

use tokio::sync::oneshot;

use super::StepSink;
use super::lane::Command;
use super::request::EngineError;
use crate::energy::{Account, StepRecord, StepRow};
use crate::model::Encoder;
use crate::units::{Clock, DeviceId, ModelId};

/// A text that wants its vector.
pub struct Errand {
    text: String,
    reply: oneshot::Sender<Vec<f32>>,
    _place: Place,
}

/// A place among the waiting texts; dropping it frees the place.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// The outside's end.
pub struct Reception {
    lane: Sender<Command>,
    waiting: Arc<AtomicUsize>,
}

impl Reception {
    pub fn new(lane: Sender<Command>) -> Self {
        Self {
            lane,
            waiting: Arc::default(),
        }
    }

    pub fn enter(&self, text: String, limit: usize) -> Result<oneshot::Receiver<Vec<f32>>, EngineError> {
        let place = self
            .waiting
            .fetch_update(Relaxed, Relaxed, |n| (n < limit).then_some(n + 1));
        place.map_err(|waiting| EngineError::QueueFull {
            waiting,
            retry_after: Duration::from_secs(1),
        })?;
        let (reply, vector) = oneshot::channel();
        let errand = Errand {
            text,
            reply,
            _place: Place(self.waiting.clone()),
        };
        self.lane
            .send(Command::Encode(errand))
            .map_err(|_| EngineError::ShuttingDown)?;
        Ok(vector)
    }
}

/// The lane's end: the encoder and who waits for it.
#[derive(Default)]
pub struct Study {
    encoder: Option<Encoder>,
    waiting: VecDeque<Errand>,
}

impl Study {
    pub fn of(encoder: Encoder) -> Self {
        Self {
            encoder: Some(encoder),
            waiting: VecDeque::new(),
        }
    }

    pub fn enter(&mut self, errand: Errand) {
        // Without an encoder the reply is dropped here, which tells the asker.
        if self.encoder.is_some() {
            self.waiting.push_back(errand);
        }
    }

    pub fn has_work(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Encodes the text that has waited longest, as a step on the router's account. `model` names the step only.
    pub fn encode_one(&mut self, device: DeviceId, model: ModelId, sink: &dyn StepSink, clock: &Clock) {
        while self
            .waiting
            .front()
            .is_some_and(|errand| errand.reply.is_closed())
        {
            self.waiting.pop_front();
        }
        let (Some(encoder), Some(errand)) = (&self.encoder, self.waiting.pop_front()) else {
            return;
        };
        let start = clock.now();
        sink.begin_step(device, start);
        let computed = catch_unwind(AssertUnwindSafe(|| encoder.encode(&errand.text)));
        let row = StepRow {
            account: Account::Router,
            prefill_tokens: 0,
            decode_tokens: 0,
            context: 0,
        };
        sink.record(StepRecord {
            device,
            model,
            start,
            end: clock.now(),
            rows: vec![row],
        });
        match computed {
            // Whoever asked may have gone.
            Ok(Ok(vector)) => drop(errand.reply.send(vector)),
            Ok(Err(error)) => tracing::warn!(%error, "a text could not be encoded"),
            Err(_) => tracing::error!("the encoder panicked; the text is routed by its words"),
        }
    }
}
