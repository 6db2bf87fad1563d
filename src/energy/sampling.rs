//! When to read a meter next. A counter that ticks every 100 ms says nothing new in between, but the moment of its
//! change must be known to about a millisecond, or the steps near it land in the wrong interval. So the reader learns
//! the period first, then sleeps until shortly before the next change and polls closely across it.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::units::Moment;

/// Between two reads when there is nothing better to go by: 50 Hz.
const STEADY: f64 = 0.020;
/// Between two reads while the period is being learnt, and for how many reads.
const LEARNING: f64 = 0.002;
const LEARNING_READS: u32 = 600;
/// Between two reads across an expected change.
const CLOSE: f64 = 0.0005;
/// Changes from which the period is taken.
const REMEMBERED: usize = 31;
/// A counter that ticks faster than this is followed on every second or third change.
const SHORTEST_CYCLE: f64 = 0.060;
/// Two reads this close, or this part of the period, give the change between them a moment.
const SHARP: f64 = 0.004;
const SHARP_PART: f64 = 0.08;
/// Without a sharp change for this many cycles a blurred one must do: the machine is too busy to wake in time.
const PATIENCE_CYCLES: f64 = 2.5;

/// What a read saw of the counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Edge {
    /// Nothing that ends an interval: no change, or one at an unknown time with a better one due soon.
    None,
    /// A change whose moment is known well.
    Sharp,
    /// A change somewhere since the last read.
    Blurred,
}

pub(super) struct TickClock {
    ticking: bool,
    reads: u32,
    last_read: Option<Moment>,
    /// The last change that ended an interval.
    last_change: Option<Moment>,
    distances: VecDeque<f64>,
    period: Option<f64>,
    /// How long before the expected change polling begins.
    slack: f64,
}

impl TickClock {
    /// `ticking`: whether the meter has a period at all; otherwise reads are steady.
    pub(super) fn new(ticking: bool) -> Self {
        Self {
            ticking,
            reads: 0,
            last_read: None,
            last_change: None,
            distances: VecDeque::new(),
            period: None,
            slack: 0.003,
        }
    }

    /// Seconds between two changes, once known.
    pub(super) fn period(&self) -> Option<f64> {
        self.period
    }

    /// Takes in a read: whether the counter had changed since the read before it (`None`: the read failed).
    pub(super) fn observed(&mut self, at: Moment, changed: Option<bool>) -> Edge {
        let spacing = self
            .last_read
            .replace(at)
            .map_or(0.0, |last| at.seconds_since(last));
        self.reads = self.reads.saturating_add(1);
        if !self.ticking || changed != Some(true) {
            return if changed == Some(true) {
                Edge::Sharp
            } else {
                Edge::None
            };
        }
        let waited = self
            .last_change
            .map_or(f64::INFINITY, |change| at.seconds_since(change));
        let interval = self
            .period
            .unwrap_or(if waited.is_finite() { waited } else { 0.0 });
        let sharp = spacing <= SHARP.max(SHARP_PART * interval);
        if let Some(period) = self.period {
            if sharp {
                self.slack = (self.slack * 0.98).max(0.0015);
            }
            if !sharp && waited < PATIENCE_CYCLES * cycle(period) {
                // Arriving late means the change was missed by an unknown time: begin earlier. With a short period the
                // first read after a sleep always finds a change, and says nothing.
                if period >= SHORTEST_CYCLE {
                    self.slack = (self.slack * 2.0).min(period / 8.0);
                }
                return Edge::None;
            }
        }
        let change = Moment(at.0 - (spacing.min(self.period.unwrap_or(spacing)) * 0.5e9) as u64);
        if let Some(before) = self.last_change.replace(change) {
            self.learn(change.seconds_since(before), sharp);
        }
        if sharp { Edge::Sharp } else { Edge::Blurred }
    }

    fn learn(&mut self, distance: f64, sharp: bool) {
        // A distance over several ticks counts as one of them, or a missed change would double the period.
        let single = match self.period {
            Some(period) => distance / (distance / period).round().max(1.0),
            None => distance,
        };
        if distance < 2.5 && (sharp || self.period.is_none()) {
            self.distances.push_back(single);
        }
        if self.distances.len() > REMEMBERED {
            self.distances.pop_front();
        }
        if self.distances.len() >= 8 || (self.distances.len() >= 4 && self.reads >= LEARNING_READS) {
            let mut sorted: Vec<f64> = self.distances.iter().copied().collect();
            sorted.sort_by(f64::total_cmp);
            self.period = Some(sorted[sorted.len() / 2]);
        }
    }

    /// The moment of the next read; a moment in the past means at once.
    pub(super) fn next(&self) -> Moment {
        let Some(last_read) = self.last_read else {
            return Moment(0);
        };
        if !self.ticking {
            return last_read.plus_seconds(STEADY);
        }
        match (self.period, self.last_change) {
            (Some(period), Some(change)) if period > 2.0 * CLOSE => {
                let cycle = cycle(period);
                let overdue = last_read.seconds_since(change) > cycle * 1.5 + 0.02;
                if overdue {
                    return last_read.plus_seconds(STEADY);
                }
                let wake = change.plus_seconds((cycle - self.slack).max(0.0));
                wake.max(last_read.plus_seconds(CLOSE))
            }
            (Some(_), _) => last_read.plus_seconds(STEADY),
            _ if self.reads < LEARNING_READS => last_read.plus_seconds(LEARNING),
            _ => last_read.plus_seconds(STEADY),
        }
    }
}

/// Seconds between two changes that are worth following closely.
fn cycle(period: f64) -> f64 {
    period * (SHORTEST_CYCLE / period).ceil().max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a counter with the given period for `seconds`; gives reads a second and the mean error of the moments
    /// at which changes were seen, both over the second half.
    fn follow(period_ms: f64, seconds: f64) -> (f64, f64, Option<f64>) {
        let mut clock = TickClock::new(true);
        let ticks_at = |at: Moment| (at.0 as f64 / (period_ms * 1e6)) as u64;
        let (mut now, mut before, mut reads) = (Moment(1), 0, 0u32);
        let (mut error, mut changes) = (0.0, 0u32);
        let mut last = now;
        while now.seconds_since(Moment(0)) < seconds {
            let ticks = ticks_at(now);
            let edge = clock.observed(now, Some(ticks != before));
            if now.seconds_since(Moment(0)) > seconds / 2.0 {
                reads += 1;
                if edge != Edge::None {
                    let seen = (now.0 + last.0) as f64 / 2e6;
                    error += (seen - ticks as f64 * period_ms).abs();
                    changes += 1;
                }
            }
            (before, last) = (ticks, now);
            now = clock.next().max(Moment(now.0 + 60_000));
        }
        (
            f64::from(reads) * 2.0 / seconds,
            error / f64::from(changes.max(1)),
            clock.period(),
        )
    }

    #[test]
    fn finds_the_changes_to_a_millisecond_with_few_reads() {
        for period in [20.0, 33.3, 100.0, 1000.0] {
            let (rate, error, found) = follow(period, 40.0);
            assert!(rate < 140.0, "{period} ms: {rate} reads a second");
            assert!(error < 0.6, "{period} ms: changes seen {error} ms off");
            assert!(
                found.is_some_and(|f| (f * 1e3 / period - 1.0).abs() < 0.05),
                "{period} ms: {found:?}"
            );
        }
    }

    #[test]
    fn a_meter_without_ticks_is_read_at_fifty_hertz() {
        let mut clock = TickClock::new(false);
        clock.observed(Moment(5), Some(true));
        assert_eq!(clock.next(), Moment(20_000_005));
    }
}
