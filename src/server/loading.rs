//! How far the loading of the models is, for those who ask before anybody can be served.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;

use serde::Serialize;

use crate::energy::{Account, StepRecord};
use crate::units::ModelId;

/// What is loaded of what. Copies share it.
#[derive(Clone)]
pub struct Loading(Arc<Inner>);

struct Inner {
    begun: Instant,
    parts: Vec<Part>,
}

/// Something that is loaded at once: a model, or the router's encoder.
pub struct LoadingPart {
    /// The model it is loaded for.
    pub model: ModelId,
    pub name: String,
    /// Of its weights.
    pub bytes: u64,
}

struct Part {
    what: LoadingPart,
    is_loaded: AtomicBool,
}

/// How things stand at one moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Progress {
    pub models_loaded: usize,
    pub models: usize,
    pub loaded_bytes: u64,
    pub total_bytes: u64,
    /// Since loading began.
    pub seconds: f64,
    /// What is loaded now; `null` when all is.
    pub now: Option<String>,
}

impl Loading {
    /// `parts` in the order in which they are loaded.
    pub fn new(parts: Vec<LoadingPart>) -> Self {
        let part = |what| Part {
            what,
            is_loaded: AtomicBool::new(false),
        };
        Self(Arc::new(Inner {
            begun: Instant::now(),
            parts: parts.into_iter().map(part).collect(),
        }))
    }

    /// Hears of a lane's step: one on the account `load` ends the loading of a part.
    pub(super) fn step(&self, step: &StepRecord) {
        let loads = |account: &Account| matches!(account, Account::Load);
        if !step.rows.first().is_some_and(|row| loads(&row.account)) {
            return;
        }
        let mut open = self.0.parts.iter().filter(|part| !part.is_loaded.load(Relaxed));
        if let Some(part) = open.find(|part| part.what.model == step.model) {
            part.is_loaded.store(true, Relaxed);
        }
    }

    pub(super) fn progress(&self) -> Progress {
        let parts = &self.0.parts;
        let is_loaded = |part: &&Part| part.is_loaded.load(Relaxed);
        let bytes = |part: &Part| part.what.bytes;
        Progress {
            models_loaded: parts.iter().filter(is_loaded).count(),
            models: parts.len(),
            loaded_bytes: parts.iter().filter(is_loaded).map(bytes).sum(),
            total_bytes: parts.iter().map(bytes).sum(),
            seconds: self.0.begun.elapsed().as_secs_f64(),
            now: parts
                .iter()
                .find(|part| !is_loaded(part))
                .map(|part| part.what.name.clone()),
        }
    }
}

impl Progress {
    /// Seconds until all is loaded, if the rest goes as fast as what is loaded went; `None` before anything is.
    pub fn seconds_left(&self) -> Option<f64> {
        let left = self.total_bytes.saturating_sub(self.loaded_bytes) as f64;
        (self.loaded_bytes > 0).then(|| self.seconds * left / self.loaded_bytes as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::energy::StepRow;
    use crate::units::{DeviceId, Moment, RequestId};

    fn step(model: u16, account: Account) -> StepRecord {
        let row = StepRow {
            account,
            prefill_tokens: 0,
            decode_tokens: 0,
            context: 0,
        };
        StepRecord {
            device: DeviceId(0),
            model: ModelId(model),
            start: Moment(0),
            end: Moment(1),
            rows: vec![row],
        }
    }

    #[test]
    fn parts_are_loaded_in_their_order_and_other_steps_load_nothing() {
        let part = |model, name: &str, bytes| LoadingPart {
            model: ModelId(model),
            name: name.into(),
            bytes,
        };
        let loading = Loading::new(vec![
            part(0, "reader", 10),
            part(0, "small", 30),
            part(1, "large", 60),
        ]);
        let seen = || {
            let now = loading.progress();
            (now.models_loaded, now.loaded_bytes, now.now.clone())
        };
        assert_eq!(seen(), (0, 0, Some("reader".into())));
        assert_eq!(loading.progress().seconds_left(), None);
        loading.step(&step(0, Account::Load));
        loading.step(&step(0, Account::Request(RequestId(1))));
        assert_eq!(seen(), (1, 10, Some("small".into())));
        loading.step(&step(0, Account::Load));
        let now = loading.progress();
        assert_eq!((now.loaded_bytes, now.total_bytes, now.models), (40, 100, 3));
        let left = Progress { seconds: 8.0, ..now }.seconds_left();
        assert_eq!(left, Some(12.0));
        loading.step(&step(1, Account::Load));
        loading.step(&step(1, Account::Load));
        assert_eq!(seen(), (3, 100, None));
    }
}
