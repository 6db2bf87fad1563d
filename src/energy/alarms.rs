//! A device's troubles, told once to the log, kept for people to read and counted for their monitors.

use std::collections::{BTreeMap, VecDeque};

use crate::units::Moment;

/// Alarms kept.
const MOST: usize = 8;

/// What the trouble is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AlarmKind {
    /// The meter gives no reading.
    Unreadable,
    /// It reads again.
    Returned,
    /// The meter began anew.
    Restarted,
    /// The counter went backwards.
    Backwards,
    /// The counter rose by more than any device draws.
    Jump,
    /// The meter's readings cannot be believed; another quantity, or the estimate, took their place.
    Untrusted,
    /// Requests are settled by estimate, because nothing could be placed for seconds.
    Stall,
    /// The clock went back.
    Clock,
    /// The record of steps and readings cannot be written.
    Record,
}

impl AlarmKind {
    pub const ALL: [Self; 9] = [
        Self::Unreadable,
        Self::Returned,
        Self::Restarted,
        Self::Backwards,
        Self::Jump,
        Self::Untrusted,
        Self::Stall,
        Self::Clock,
        Self::Record,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::Returned => "returned",
            Self::Restarted => "restarted",
            Self::Backwards => "backwards",
            Self::Jump => "jump",
            Self::Untrusted => "untrusted",
            Self::Stall => "stall",
            Self::Clock => "clock",
            Self::Record => "record",
        }
    }
}

pub(super) struct Alarms {
    device: String,
    latest: VecDeque<String>,
    counts: BTreeMap<AlarmKind, u64>,
}

impl Alarms {
    pub(super) fn new(device: &str) -> Self {
        Self {
            device: device.to_owned(),
            latest: VecDeque::new(),
            counts: BTreeMap::new(),
        }
    }

    pub(super) fn raise(&mut self, at: Moment, kind: AlarmKind, text: &str) {
        tracing::warn!("energy of {}: {text}", self.device);
        *self.counts.entry(kind).or_default() += 1;
        if self.latest.len() == MOST {
            self.latest.pop_front();
        }
        self.latest
            .push_back(format!("at {:.1} s: {text}", at.0 as f64 * 1e-9));
    }

    /// The latest alarms, oldest first, each with the seconds since the process's origin of time.
    pub(super) fn latest(&self) -> Vec<String> {
        self.latest.iter().cloned().collect()
    }

    /// How often each kind was raised.
    pub(super) fn counts(&self) -> &BTreeMap<AlarmKind, u64> {
        &self.counts
    }
}
