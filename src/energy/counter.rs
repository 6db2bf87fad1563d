//! From readings to intervals: what the counter's changes, failures and jumps mean.

use super::alarms::{AlarmKind, Alarms};
use super::events::{Event, Look, Pace};
use super::meter::{MeterError, Reading};
use super::sampling::Edge;
use crate::units::{Microjoules, Moment};

/// No reading that could be placed for this long is a gap: requests are settled by estimate instead of waiting on.
const STALL_SECONDS: f64 = 3.0;
/// Two readings further apart than this do not tell when the counter changed between them.
const ADJACENT_SECONDS: f64 = 0.25;
/// Power read some fifty times a second is a sample of what steps of milliseconds drew; so much of it makes an interval.
const INTEGRATED_SECONDS: f64 = 0.1;
/// More than any device draws; a jump above it is a broken counter, not energy.
const MOST_WATTS: f64 = 20_000.0;
/// A failure is worth a word once it lasts this long; single failed reads are only counted.
const PATIENCE_SECONDS: f64 = 0.5;

#[derive(Clone, Copy)]
struct Mark {
    at: Moment,
    counter: u64,
}

pub(super) struct CounterFollower {
    pace: Pace,
    /// The last change that began an interval.
    base: Option<Mark>,
    /// The last good reading.
    last: Option<Mark>,
    /// The time up to which events were given.
    placed: Option<Moment>,
    /// The latest time seen, of good readings and failed ones.
    now: Moment,
    failing_since: Option<Moment>,
    restarted: bool,
    stalled: bool,
    /// The running interval lost a moment of sight: true energy, too coarse a time to learn from.
    rough: bool,
    /// The running interval began in a time that is already settled.
    displaced: bool,
    gap_seconds: f64,
    /// Whether the present failure has been told.
    told: bool,
    failed_reads: u64,
    alarms: Alarms,
}

impl CounterFollower {
    /// `device` is what people call it, for the log.
    pub(super) fn new(pace: Pace, device: &str) -> Self {
        Self {
            pace,
            base: None,
            last: None,
            placed: None,
            now: Moment(0),
            failing_since: None,
            restarted: false,
            stalled: false,
            rough: false,
            displaced: false,
            gap_seconds: 0.0,
            told: false,
            failed_reads: 0,
            alarms: Alarms::new(device),
        }
    }

    pub(super) fn gap_seconds(&self) -> f64 {
        self.gap_seconds
    }

    pub(super) fn alarms(&self) -> &Alarms {
        &self.alarms
    }

    /// Takes over from `old`, the follower of another meter that gave way at `at`: what was told and how often it
    /// failed. Gives the seconds that `old` lost, those included that it had not placed.
    pub(super) fn inherit(&mut self, old: &mut Self, at: Moment, why: &str) -> f64 {
        old.alarms.raise(at, AlarmKind::Untrusted, why);
        std::mem::swap(&mut self.alarms, &mut old.alarms);
        self.failed_reads = old.failed_reads;
        old.gap_seconds + old.placed.map_or(0.0, |placed| at.seconds_since(placed))
    }

    pub(super) fn failed_reads(&self) -> u64 {
        self.failed_reads
    }

    /// Takes in one reading.
    pub(super) fn sample(
        &mut self,
        at: Moment,
        reading: Result<Reading, MeterError>,
        look: Look,
    ) -> Vec<Event> {
        let mut events = Vec::new();
        if at < self.now {
            self.rewind(at, &mut events);
        }
        self.now = at;
        match reading {
            Ok(reading) => self.good(at, reading.counter.0, look, &mut events),
            Err(error) => {
                self.failed_reads += 1;
                let since = *self
                    .failing_since
                    .get_or_insert(self.last.map_or(at, |last| last.at));
                if !self.told && at.seconds_since(since) > PATIENCE_SECONDS {
                    self.told = true;
                    let text = format!("the meter gives no reading: {error}");
                    self.alarms.raise(at, AlarmKind::Unreadable, &text);
                }
                self.restarted |= matches!(error, MeterError::Restarted(_));
                self.placed.get_or_insert(at);
            }
        }
        self.watch_stall(at, &mut events);
        events
    }

    fn good(&mut self, at: Moment, counter: u64, look: Look, events: &mut Vec<Event>) {
        let failed_for = self.failing_since.take().map(|since| at.seconds_since(since));
        if let (Some(seconds), true) = (failed_for, std::mem::take(&mut self.told)) {
            let text = format!("the meter reads again after {seconds:.1} s");
            self.alarms.raise(at, AlarmKind::Returned, &text);
        }
        let Some(last) = self.last.replace(Mark { at, counter }) else {
            let placed = *self.placed.get_or_insert(at);
            if self.pace != Pace::Ticking {
                self.base = Some(Mark { at, counter });
            }
            if placed < at {
                self.gap(at, events);
            }
            return;
        };
        if let Some((kind, why)) = self.broken(last, at, counter) {
            self.alarms.raise(at, kind, &why);
            self.gap(at, events);
            self.base = (self.pace != Pace::Ticking).then_some(Mark { at, counter });
            (self.restarted, self.rough, self.displaced, self.stalled) = (false, false, false, false);
            return;
        }
        if let (Some(seconds), false, Some(placed)) = (failed_for, self.stalled, self.placed) {
            self.gap_seconds += seconds.min(at.seconds_since(placed));
        }
        let ends = match self.pace {
            Pace::Ticking => look.edge != Edge::None,
            Pace::Instant => counter != last.counter,
            Pace::Integrated => {
                self.rough |= at.seconds_since(last.at) > ADJACENT_SECONDS || failed_for.is_some();
                let whole = |base: Mark| at.seconds_since(base.at) >= INTEGRATED_SECONDS;
                counter != last.counter && self.base.is_none_or(whole)
            }
            Pace::Exact => true,
        };
        if !ends {
            return;
        }
        let spacing = at.seconds_since(last.at);
        let adjacent = failed_for.is_none() && spacing <= ADJACENT_SECONDS;
        if self.pace == Pace::Ticking && !adjacent {
            self.rough = true;
            return;
        }
        let back = if self.pace == Pace::Ticking {
            spacing.min(look.period) / 2.0
        } else {
            0.0
        };
        let end = Moment(at.0 - (back * 1e9) as u64);
        self.close(
            Mark { at: end, counter },
            adjacent && look.edge != Edge::Blurred,
            events,
        );
    }

    fn broken(&self, last: Mark, at: Moment, counter: u64) -> Option<(AlarmKind, String)> {
        let most = MOST_WATTS * 1e6 * at.seconds_since(last.at).max(1.0);
        let (kind, what) = if self.restarted {
            (AlarmKind::Restarted, "the meter restarted".to_owned())
        } else if counter < last.counter {
            (AlarmKind::Backwards, "the counter went backwards".to_owned())
        } else if (counter - last.counter) as f64 > most {
            let what = format!("the counter jumped by more than {MOST_WATTS} W could");
            (AlarmKind::Jump, what)
        } else {
            return None;
        };
        Some((kind, format!("{what}; its readings begin anew")))
    }

    fn close(&mut self, mark: Mark, adjacent: bool, events: &mut Vec<Event>) {
        match self.base.replace(mark) {
            // The first change ends a tick whose beginning nobody saw.
            None => self.gap(mark.at, events),
            Some(base) => {
                let energy = Microjoules(mark.counter - base.counter);
                if self.displaced {
                    self.gap(mark.at, events);
                    events.push(Event::Unplaced {
                        energy,
                        seconds: mark.at.seconds_since(base.at),
                    });
                } else {
                    let clean = !self.rough && adjacent;
                    events.push(Event::Interval {
                        end: mark.at,
                        energy,
                        clean,
                    });
                    self.placed = Some(mark.at);
                }
            }
        }
        (self.rough, self.displaced, self.stalled) = (false, false, false);
    }

    fn gap(&mut self, until: Moment, events: &mut Vec<Event>) {
        let from = *self.placed.get_or_insert(until);
        if from < until {
            self.gap_seconds += until.seconds_since(from);
            self.placed = Some(until);
            events.push(Event::Gap { until });
        }
    }

    fn watch_stall(&mut self, at: Moment, events: &mut Vec<Event>) {
        let Some(placed) = self.placed else { return };
        if !self.stalled && at.seconds_since(placed) <= STALL_SECONDS {
            return;
        }
        if !self.stalled {
            self.stalled = true;
            let why = if self.failing_since.is_some() {
                "gives no reading"
            } else {
                "stands still"
            };
            let text = format!("the counter {why} for {STALL_SECONDS} s: requests are settled by estimate");
            self.alarms.raise(at, AlarmKind::Stall, &text);
        }
        self.displaced = self.base.is_some();
        self.gap(at, events);
    }

    fn rewind(&mut self, to: Moment, events: &mut Vec<Event>) {
        let seconds = self.now.seconds_since(to);
        let text = format!("the clock went back by {seconds:.3} s");
        self.alarms.raise(to, AlarmKind::Clock, &text);
        if let Some(base) = &mut self.base {
            base.at = to;
            self.displaced = true;
        }
        if let Some(last) = &mut self.last {
            last.at = to;
        }
        self.failing_since = self.failing_since.map(|since| since.min(to));
        self.placed = Some(to);
        events.push(Event::Rewind { to });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn run(pace: Pace, samples: &[(u64, Option<u64>)]) -> (CounterFollower, Vec<Event>) {
        let mut follower = CounterFollower::new(pace, "test");
        let mut before = None;
        let events = samples
            .iter()
            .flat_map(|(ms, counter)| {
                let changed = before.is_some() && before != *counter;
                before = *counter;
                let look = Look {
                    edge: if changed { Edge::Sharp } else { Edge::None },
                    period: 0.002,
                };
                let reading = counter
                    .map(|c| Reading {
                        counter: Microjoules(c),
                        power: None,
                    })
                    .ok_or_else(|| MeterError::Failed("test".into()));
                follower.sample(Moment(ms * MS), reading, look)
            })
            .collect();
        (follower, events)
    }

    #[test]
    fn the_first_tick_only_starts_the_count_and_the_second_closes_an_interval() {
        let samples = [
            (0, Some(5)),
            (98, Some(5)),
            (100, Some(9)),
            (198, Some(9)),
            (200, Some(20)),
        ];
        let (_, events) = run(Pace::Ticking, &samples);
        let end = Moment(199 * MS);
        let interval = Event::Interval {
            end,
            energy: Microjoules(11),
            clean: true,
        };
        assert_eq!(
            events,
            [
                Event::Gap {
                    until: Moment(99 * MS)
                },
                interval
            ]
        );
    }

    #[test]
    fn a_short_failure_loses_sight_but_no_energy() {
        let (follower, events) = run(
            Pace::Instant,
            &[
                (0, Some(0)),
                (20, Some(10)),
                (40, None),
                (60, None),
                (80, Some(50)),
            ],
        );
        let last = Event::Interval {
            end: Moment(80 * MS),
            energy: Microjoules(40),
            clean: false,
        };
        assert_eq!(events.last(), Some(&last));
        assert!((follower.gap_seconds() - 0.06).abs() < 1e-9);
        assert_eq!(
            (follower.failed_reads(), follower.alarms().latest().len()),
            (2, 0)
        );
    }

    #[test]
    fn a_reset_is_a_gap_and_never_energy() {
        let (follower, events) = run(
            Pace::Instant,
            &[(0, Some(100)), (20, Some(150)), (40, Some(3)), (60, Some(4))],
        );
        let energies: Vec<_> = events
            .iter()
            .filter_map(|e| {
                if let Event::Interval { energy, .. } = e {
                    Some(energy.0)
                } else {
                    None
                }
            })
            .collect();
        assert_eq!(energies, [50, 1]);
        assert!(events.contains(&Event::Gap {
            until: Moment(40 * MS)
        }));
        assert!(follower.gap_seconds() > 0.0);
    }

    #[test]
    fn a_long_outage_is_a_gap_and_its_energy_is_found_later() {
        let (_, events) = run(
            Pace::Instant,
            &[
                (0, Some(0)),
                (20, Some(10)),
                (2_000, None),
                (4_000, None),
                (5_000, Some(99)),
            ],
        );
        assert!(events.contains(&Event::Gap {
            until: Moment(4_000 * MS)
        }));
        assert!(events.iter().any(|e| matches!(
            e,
            Event::Unplaced {
                energy: Microjoules(89),
                ..
            }
        )));
    }

    #[test]
    fn an_absurd_jump_is_no_energy() {
        let (_, events) = run(Pace::Instant, &[(0, Some(0)), (20, Some(u64::MAX / 2))]);
        assert!(
            !events
                .iter()
                .any(|e| matches!(e, Event::Interval { .. } | Event::Unplaced { .. }))
        );
    }

    #[test]
    fn a_clock_step_moves_no_energy_into_a_wrong_time() {
        let (_, events) = run(
            Pace::Instant,
            &[
                (1_000, Some(0)),
                (1_020, Some(10)),
                (500, Some(15)),
                (520, Some(20)),
            ],
        );
        assert!(events.contains(&Event::Rewind { to: Moment(500 * MS) }));
        assert!(events.contains(&Event::Unplaced {
            energy: Microjoules(5),
            seconds: 0.0
        }));
        assert_eq!(
            events.last(),
            Some(&Event::Interval {
                end: Moment(520 * MS),
                energy: Microjoules(5),
                clean: true
            })
        );
    }
}
