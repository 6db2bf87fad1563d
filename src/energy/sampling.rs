//! When to read a meter next. A counter that ticks every 100 ms says nothing new in between, but the moment of its
//! change must be known to about a millisecond, or the steps near it land in the wrong interval. So the reader learns
//! the period first, then follows the ticks' phase: it sleeps until shortly before the next expected change and polls
//! across it. A read costs tens of microseconds in the driver, so some thirty a second must do.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::units::Moment;

/// Between two reads when there is nothing better to go by: 50 Hz.
const STEADY: f64 = 0.020;
/// Between two reads while the period is being learnt, and for how many reads.
const LEARNING: f64 = 0.002;
const LEARNING_READS: u32 = 600;
/// Between two reads across an expected change.
const CLOSE: f64 = 0.001;
/// How long before an expected change the polling begins: at least, at first, and its growth by a change found too late
/// and by one found in time.
const LEAST_SLACK: f64 = 0.0008;
const FIRST_SLACK: f64 = 0.003;
const SLACK_LATE: f64 = 2.0;
const SLACK_IN_TIME: f64 = 0.99;
/// Of the difference between a change and its prediction, the part that moves the next prediction: a change is known
/// to half a read's spacing only, and cards jitter.
const PHASE_GAIN: f64 = 0.4;
/// Changes found too late in a row, after which the phase is looked for by polling until the next one.
const MISSES: u32 = 2;
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
    /// The last read that saw any change.
    last_seen: Moment,
    distances: VecDeque<f64>,
    period: Option<f64>,
    /// The last change as the prediction has it, from which the next one is expected.
    phase: Option<Moment>,
    slack: f64,
    misses: u32,
}

impl TickClock {
    /// `ticking`: whether the meter has a period at all; otherwise reads are steady.
    pub(super) fn new(ticking: bool) -> Self {
        Self {
            ticking,
            reads: 0,
            last_read: None,
            last_change: None,
            last_seen: Moment(0),
            distances: VecDeque::new(),
            period: None,
            phase: None,
            slack: FIRST_SLACK,
            misses: 0,
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
        if changed != Some(true) {
            return Edge::None;
        }
        if !self.ticking {
            return Edge::Sharp;
        }
        self.last_seen = at;
        let waited = self
            .last_change
            .map_or(f64::INFINITY, |change| at.seconds_since(change));
        let interval = self
            .period
            .unwrap_or(if waited.is_finite() { waited } else { 0.0 });
        let sharp = spacing <= SHARP.max(SHARP_PART * interval);
        let change = Moment(at.0 - (spacing.min(self.period.unwrap_or(spacing)) * 0.5e9) as u64);
        if let Some(period) = self.period {
            if !sharp && waited < PATIENCE_CYCLES * cycle(period) {
                self.came_late(at, period);
                return Edge::None;
            }
            self.follow(change, period, sharp);
        } else {
            self.phase = Some(change);
        }
        if let Some(before) = self.last_change.replace(change) {
            self.learn(change.seconds_since(before), sharp);
        }
        if sharp { Edge::Sharp } else { Edge::Blurred }
    }

    /// The read after a sleep found the change done, at an unknown time.
    fn came_late(&mut self, at: Moment, period: f64) {
        // With a short period such a read always finds a change of the ticks slept through, and says nothing.
        if period < SHORTEST_CYCLE {
            return;
        }
        self.slack = (self.slack * SLACK_LATE).min(period / 8.0);
        self.misses += 1;
        self.phase = self.phase.map(|phase| nearest(phase, period, at));
    }

    /// Moves the prediction towards a change that was seen.
    fn follow(&mut self, change: Moment, period: f64, sharp: bool) {
        let skipped = |phase: Moment| change.seconds_since(phase) > cycle(period) + period / 2.0;
        if sharp && period < SHORTEST_CYCLE && self.phase.is_some_and(skipped) {
            // The expected change was missed, and polling went on to the next.
            self.slack = (self.slack * SLACK_LATE).min(period / 8.0);
        }
        let predicted = self.phase.map(|phase| nearest(phase, period, change));
        let ahead = |predicted: Moment| change.seconds_since(predicted) - predicted.seconds_since(change);
        self.phase = Some(match predicted {
            Some(predicted) if sharp && ahead(predicted).abs() < period / 8.0 => {
                Moment((predicted.0 as f64 + ahead(predicted) * PHASE_GAIN * 1e9) as u64)
            }
            _ => change,
        });
        if sharp {
            self.slack = (self.slack * SLACK_IN_TIME).max(LEAST_SLACK);
        }
        self.misses = 0;
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
        match (self.period, self.phase) {
            (Some(period), Some(phase)) if period > 2.0 * CLOSE => {
                let cycle = cycle(period);
                if last_read.seconds_since(self.last_seen) > cycle * 1.5 + 0.02 {
                    return last_read.plus_seconds(STEADY);
                }
                let soon = last_read.plus_seconds(CLOSE);
                if self.misses >= MISSES {
                    return soon;
                }
                phase.plus_seconds((cycle - self.slack).max(0.0)).max(soon)
            }
            (Some(_), _) => last_read.plus_seconds(STEADY),
            _ if self.reads < LEARNING_READS => last_read.plus_seconds(LEARNING),
            _ => last_read.plus_seconds(STEADY),
        }
    }
}

/// The expected change nearest to `at`, by whole periods from an earlier one.
fn nearest(phase: Moment, period: f64, at: Moment) -> Moment {
    let periods = (at.seconds_since(phase) / period).round();
    phase.plus_seconds(periods * period)
}

/// Seconds between two changes that are worth following closely.
fn cycle(period: f64) -> f64 {
    // The tenth keeps a period known to a few percent from flickering between two whole numbers.
    period * (SHORTEST_CYCLE / period - 0.1).ceil().max(1.0)
}

#[cfg(test)]
mod tests {
    use super::super::test_world::Chance;
    use super::*;

    struct Followed {
        reads_a_second: f64,
        /// Mean milliseconds between the moment at which a change is put and the true one.
        error: f64,
        /// Of the cycles, those with a change whose moment is known.
        sharp: f64,
        period: Option<f64>,
    }

    /// Reads a counter whose changes come up to `jitter_ms` early or late, for `seconds`, by a thread that wakes up to
    /// `late_ms` late; the figures are of the second half.
    fn follow(period_ms: f64, jitter_ms: f64, late_ms: f64, seconds: f64) -> Followed {
        let mut clock = TickClock::new(true);
        let mut chance = Chance(7);
        let shifts: Vec<f64> = (0..(seconds * 1e3 / period_ms) as usize + 2)
            .map(|_| (2.0 * chance.unit() - 1.0) * jitter_ms)
            .collect();
        let change_at = |tick: usize| tick as f64 * period_ms + shifts[tick];
        let ticks_at = |at: Moment| {
            let near = (at.0 as f64 / (period_ms * 1e6)) as usize;
            (near.saturating_sub(1)..near + 2)
                .rev()
                .find(|tick| change_at(*tick) <= at.0 as f64 * 1e-6)
                .unwrap_or(0)
        };
        let (mut now, mut before, mut reads) = (Moment(1), 0, 0u32);
        let (mut error, mut sharp) = (0.0, 0u32);
        let mut last = now;
        while now.seconds_since(Moment(0)) < seconds {
            let ticks = ticks_at(now);
            let edge = clock.observed(now, Some(ticks != before));
            if now.seconds_since(Moment(0)) > seconds / 2.0 {
                reads += 1;
                if edge == Edge::Sharp {
                    let seen = (now.0 + last.0) as f64 / 2e6;
                    error += (seen - change_at(ticks)).abs();
                    sharp += 1;
                }
            }
            (before, last) = (ticks, now);
            now = clock
                .next()
                .max(Moment(now.0 + 20_000))
                .plus_seconds(6e-5 + chance.unit() * late_ms * 1e-3);
        }
        Followed {
            reads_a_second: f64::from(reads) * 2.0 / seconds,
            error: error / f64::from(sharp.max(1)),
            sharp: f64::from(sharp) / (seconds / 2.0 / cycle(period_ms * 1e-3)),
            period: clock.period(),
        }
    }

    #[test]
    fn finds_the_changes_to_a_millisecond_with_few_reads() {
        for (period, jitter, late) in [
            (20.0, 0.0, 0.1),
            (33.3, 0.0, 0.1),
            (50.0, 0.5, 0.1),
            (100.0, 0.0, 0.1),
            (100.0, 0.0, 0.7),
            (100.0, 1.0, 0.2),
            (1000.0, 0.0, 0.1),
        ] {
            let seen = follow(period, jitter, late, 80.0);
            let Followed {
                reads_a_second,
                error,
                sharp,
                ..
            } = seen;
            println!(
                "{period} ms, jitter {jitter}, late {late}: {reads_a_second:.1} reads/s, {error:.2} ms off, {sharp:.3}"
            );
            assert!(
                reads_a_second <= 50.0,
                "{period} ms: {reads_a_second} reads a second"
            );
            assert!(error < 0.6, "{period} ms: changes seen {error} ms off");
            assert!(sharp > 0.93, "{period} ms: {sharp} of the changes");
            assert!(
                seen.period.is_some_and(|f| (f * 1e3 / period - 1.0).abs() < 0.05),
                "{period} ms: {:?}",
                seen.period
            );
        }
    }

    #[test]
    fn a_lost_phase_is_found_again() {
        let mut clock = TickClock::new(true);
        let mut now = Moment(1);
        let mut before = 0;
        let mut sharp_after = 0;
        while now.0 < 40_000_000_000 {
            // After 20 s the counter ticks 40 ms later than before.
            let shift = if now.0 > 20_000_000_000 { 40_000_000 } else { 0 };
            let ticks = (now.0 - 1).saturating_sub(shift) / 100_000_000;
            let edge = clock.observed(now, Some(ticks != before));
            sharp_after += u32::from(edge == Edge::Sharp && now.0 > 21_000_000_000);
            before = ticks;
            now = clock.next().max(Moment(now.0 + 60_000));
        }
        assert!(sharp_after > 180, "{sharp_after} of 190");
    }

    #[test]
    fn a_meter_without_ticks_is_read_at_fifty_hertz() {
        let mut clock = TickClock::new(false);
        clock.observed(Moment(5), Some(true));
        assert_eq!(clock.next(), Moment(20_000_005));
    }
}
