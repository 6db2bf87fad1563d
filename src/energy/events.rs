//! The words between a counter and the books: how a reading was taken, and what it says about time.

use super::sampling::Edge;
use crate::units::{Microjoules, Moment};

/// How a meter's readings relate to time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// The counter changes every so often; only its changes tell a time.
    Ticking,
    /// Every changed reading is as of now.
    Instant,
    /// Every reading is as of now, but so coarse a sample that only several of them together say anything.
    Integrated,
    /// Every reading is as of now, changed or not.
    Exact,
}

/// How a reading was taken: what it saw of the counter's change, and the counter's period in seconds, infinite while
/// unknown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    pub(super) edge: Edge,
    pub(super) period: f64,
}

/// What a reading says about the time since the last event. Events follow each other without a hole in time.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Event {
    /// From the last event to `end` the meter counted `energy`. `clean` when both ends are known well enough to learn
    /// from.
    Interval {
        end: Moment,
        energy: Microjoules,
        clean: bool,
    },
    /// Up to `until` nothing is known.
    Gap { until: Moment },
    /// Counted over `seconds` that are already settled as gaps, or cannot be placed in time at all.
    Unplaced { energy: Microjoules, seconds: f64 },
    /// The clock went back to `to`: everything before belongs to another time.
    Rewind { to: Moment },
}
