//! The steps of a measurement as they happen: handed on to the energy room, counted and, when asked, kept.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::energy::{EnergyHandle, StepRecord};
use crate::engine::StepSink;
use crate::units::{DeviceId, Moment};

/// Steps that are kept of one repeat, for the plot of power over time; more than this nobody could tell apart there.
const MOST_KEPT: usize = 4_096;

/// One step, as the plot of power over time marks it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepMark {
    pub start: Moment,
    pub end: Moment,
    pub prefill_tokens: u64,
    pub decode_tokens: u64,
}

/// The steps since the count began.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StepCount {
    pub prefill_tokens: u64,
    pub decode_tokens: u64,
    /// The first of them.
    pub marks: Vec<StepMark>,
}

/// A [`StepSink`] that counts. A measurement has one lane at work at a time, so the lock is never waited for.
pub struct StepWatch {
    energy: EnergyHandle,
    count: Mutex<StepCount>,
}

impl StepWatch {
    pub fn new(energy: EnergyHandle) -> Self {
        Self {
            energy,
            count: Mutex::default(),
        }
    }

    /// What was counted; the count begins anew.
    pub fn take(&self) -> StepCount {
        std::mem::take(&mut *self.count())
    }

    fn count(&self) -> MutexGuard<'_, StepCount> {
        // Counting cannot leave anything half done.
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StepSink for StepWatch {
    fn begin_step(&self, device: DeviceId, at: Moment) {
        self.energy.begin_step(device, at);
    }

    fn record(&self, step: StepRecord) {
        let sum =
            |tokens: fn(&crate::energy::StepRow) -> u32| step.rows.iter().map(|r| u64::from(tokens(r))).sum();
        let mark = StepMark {
            start: step.start,
            end: step.end,
            prefill_tokens: sum(|r| r.prefill_tokens),
            decode_tokens: sum(|r| r.decode_tokens),
        };
        let mut count = self.count();
        count.prefill_tokens += mark.prefill_tokens;
        count.decode_tokens += mark.decode_tokens;
        if count.marks.len() < MOST_KEPT {
            count.marks.push(mark);
        }
        drop(count);
        self.energy.record(step);
    }
}
