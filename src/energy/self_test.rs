//! Whether an energy counter can be believed: it must rise, at a rate that the board can draw, in step with the power
//! that the board itself reports. Some drivers' counters stand still, count in another unit or contradict the power.

use crate::units::Moment;

/// The test lasts this long, and up to `LONGEST_SECONDS` where fewer than `FEWEST_CHANGES` were seen.
const SECONDS: f64 = 2.0;
const LONGEST_SECONDS: f64 = 3.0;
const FEWEST_CHANGES: usize = 3;
/// A counter that goes back is given another chance, for the driver may just have been reloaded; so many times.
const MOST_RESTARTS: u32 = 2;
/// Fewer readings than this tell nothing, however long they took.
const FEWEST_READINGS: usize = 20;
/// Between two readings of power beside a counter: they cost as much as the counter's own.
const POWER_EVERY: f64 = 0.020;
/// Two readings this close give the change between them a moment that counts for the update period.
const SHARP_SECONDS: f64 = 0.005;
/// Power readings further apart say nothing about what lay between them.
const INTEGRABLE_SECONDS: f64 = 0.25;
/// No board that works draws less.
const LEAST_WATTS: f64 = 1.0;
/// Of the enforced limit: boards pass it for moments.
const MOST_OF_LIMIT: f64 = 1.5;
/// Where the board does not tell its limit: more than any single board draws.
const MOST_WATTS: f64 = 3_000.0;
/// Counter over integrated power: outside, one of the two is in another unit. Idle boards were seen at 0.57 (Zeus
/// issue 181), so the bounds are wide; outside the inner ones the disagreement is worth a word.
const POSSIBLE_RATIO: std::ops::RangeInclusive<f64> = 0.25..=4.0;
const GOOD_RATIO: std::ops::RangeInclusive<f64> = 0.8..=1.25;

/// One reading: the counter in joules and the power in watts, each where it was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timed {
    pub(super) at: Moment,
    pub(super) joules: Option<f64>,
    pub(super) watts: Option<f64>,
}

/// What the readings say.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Findings {
    /// Seconds between two changes of the counter, or of the power where there is no counter.
    pub(super) period: Option<f64>,
    pub(super) implied_watts: Option<f64>,
    pub(super) ratio: Option<f64>,
    /// The mean of the power readings, and the last one.
    pub(super) mean_watts: Option<f64>,
    pub(super) last_watts: Option<f64>,
    /// Why the counter cannot be believed.
    pub(super) counter_fault: Option<String>,
    /// Why the power cannot.
    pub(super) power_fault: Option<String>,
    /// A disagreement that condemns neither.
    pub(super) doubt: Option<String>,
}

/// Judges a list of readings in the order of their times. `limit` is the board's enforced power limit in watts.
pub(super) fn judge(readings: &[Timed], limit: Option<f64>) -> Findings {
    let most = limit.map_or(MOST_WATTS, |limit| limit * MOST_OF_LIMIT);
    let counter: Vec<(Moment, f64)> = readings.iter().filter_map(|r| Some((r.at, r.joules?))).collect();
    let power: Vec<(Moment, f64)> = readings.iter().filter_map(|r| Some((r.at, r.watts?))).collect();
    let mut findings = Findings {
        last_watts: power.last().map(|(_, watts)| *watts),
        ..Findings::default()
    };
    judge_power(&power, most, &mut findings);
    if counter.is_empty() {
        findings.period = period(&changes(&power));
        findings.counter_fault = Some("the counter cannot be read".to_owned());
    } else {
        judge_counter(&counter, &power, most, &mut findings);
    }
    findings
}

fn judge_power(power: &[(Moment, f64)], most: f64, findings: &mut Findings) {
    if power.is_empty() {
        findings.power_fault = Some("the power cannot be read".to_owned());
        return;
    }
    let mean = power.iter().map(|(_, watts)| watts).sum::<f64>() / power.len() as f64;
    findings.mean_watts = Some(mean);
    if !(LEAST_WATTS..=most).contains(&mean) {
        findings.power_fault = Some(format!(
            "the power reads {mean:.1} W, where {LEAST_WATTS} to {most:.0} W are possible"
        ));
    }
}

fn judge_counter(counter: &[(Moment, f64)], power: &[(Moment, f64)], most: f64, findings: &mut Findings) {
    if let Some(pair) = counter.windows(2).find(|pair| pair[1].1 < pair[0].1) {
        let fall = pair[0].1 - pair[1].1;
        findings.counter_fault = Some(format!("the counter went back by {fall:.3} J"));
        return;
    }
    let changes = changes(counter);
    findings.period = period(&changes);
    let seconds = counter[counter.len() - 1].0.seconds_since(counter[0].0);
    let (Some(first), Some(last)) = (changes.first(), changes.last()) else {
        findings.counter_fault = Some(format!("the counter stood still for {seconds:.1} s"));
        return;
    };
    let span = last.at.seconds_since(first.at);
    if changes.len() < 2 || span <= 0.0 {
        findings.counter_fault = Some(format!("the counter changed only once in {seconds:.1} s"));
        return;
    }
    let implied = (last.value - first.value) / span;
    findings.implied_watts = Some(implied);
    if !(LEAST_WATTS..=most).contains(&implied) {
        findings.counter_fault = Some(format!(
            "the counter says {implied:.3} W, where {LEAST_WATTS} to {most:.0} W are possible"
        ));
        return;
    }
    let mean = mean_between(power, first.at, last.at).filter(|_| findings.power_fault.is_none());
    let Some(ratio) = mean.map(|mean| implied / mean) else {
        return;
    };
    findings.ratio = Some(ratio);
    let said = format!("the counter shows {ratio:.2} times the energy of the integrated power");
    if !POSSIBLE_RATIO.contains(&ratio) {
        findings.counter_fault = Some(said);
    } else if !GOOD_RATIO.contains(&ratio) {
        findings.doubt = Some(said);
    }
}

struct Change {
    at: Moment,
    value: f64,
    sharp: bool,
}

/// Where a series of readings changes; each change lies halfway between the two readings beside it.
fn changes(series: &[(Moment, f64)]) -> Vec<Change> {
    let changed = series.windows(2).filter(|pair| pair[1].1 != pair[0].1);
    changed
        .map(|pair| Change {
            at: Moment(pair[0].0.0 + (pair[1].0.0 - pair[0].0.0) / 2),
            value: pair[1].1,
            sharp: pair[1].0.seconds_since(pair[0].0) <= SHARP_SECONDS,
        })
        .collect()
}

/// The median distance of neighbouring changes whose moments are known well.
fn period(changes: &[Change]) -> Option<f64> {
    let sharp = changes.windows(2).filter(|pair| pair[0].sharp && pair[1].sharp);
    let mut distances: Vec<f64> = sharp.map(|pair| pair[1].at.seconds_since(pair[0].at)).collect();
    distances.sort_by(f64::total_cmp);
    distances.get(distances.len() / 2).copied()
}

/// Mean power by the trapezoid rule over the readings between two moments; `None` where a hole is too wide.
fn mean_between(power: &[(Moment, f64)], from: Moment, until: Moment) -> Option<f64> {
    let within: Vec<_> = power
        .iter()
        .filter(|(at, _)| (from..=until).contains(at))
        .collect();
    let mut joules = 0.0;
    for pair in within.windows(2) {
        let seconds = pair[1].0.seconds_since(pair[0].0);
        if seconds > INTEGRABLE_SECONDS {
            return None;
        }
        joules += seconds * (pair[0].1 + pair[1].1) / 2.0;
    }
    let seconds = within.last()?.0.seconds_since(within.first()?.0);
    (seconds > 0.5 * until.seconds_since(from)).then(|| joules / seconds)
}

/// Gathers readings as they come until there are enough to judge.
pub(super) struct SelfTest {
    readings: Vec<Timed>,
    limit: Option<f64>,
    last_power: Option<Moment>,
    changes: usize,
    restarts: u32,
    has_counter: bool,
}

impl SelfTest {
    /// `limit`: see [`judge`]. `has_counter`: whether there is a counter to test, or only power.
    pub(super) fn new(limit: Option<f64>, has_counter: bool) -> Self {
        Self {
            readings: Vec::new(),
            limit,
            last_power: None,
            changes: 0,
            restarts: 0,
            has_counter,
        }
    }

    /// Whether the power should be read along with the counter now.
    pub(super) fn wants_power(&self, now: Moment) -> bool {
        !self.has_counter
            || self
                .last_power
                .is_none_or(|last| now.seconds_since(last) >= POWER_EVERY || now < last)
    }

    /// Takes in a reading; gives the findings once there are enough.
    pub(super) fn take(&mut self, reading: Timed) -> Option<Findings> {
        let back = |last: &Timed| reading.at < last.at || reading.joules < last.joules;
        if self.restarts < MOST_RESTARTS && self.readings.last().is_some_and(back) {
            // Nothing gathered fits what follows.
            self.readings.clear();
            (self.changes, self.last_power) = (0, None);
            self.restarts += 1;
        }
        let value = |r: &Timed| if self.has_counter { r.joules } else { r.watts };
        if reading.watts.is_some() {
            self.last_power = Some(reading.at);
        }
        let changed = self
            .readings
            .last()
            .is_some_and(|last| value(last) != value(&reading));
        self.changes += usize::from(changed);
        self.readings.push(reading);
        let seconds = reading.at.seconds_since(self.readings[0].at);
        // Power may well be steady, a counter may not.
        let enough = !self.has_counter || self.changes >= FEWEST_CHANGES || seconds >= LONGEST_SECONDS;
        (seconds >= SECONDS && enough && self.readings.len() >= FEWEST_READINGS)
            .then(|| judge(&self.readings, self.limit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A board of `watts` whose counter changes every `tick_ms`, each value put through `shown`; read every 2 ms.
    fn card(watts: f64, tick_ms: f64, shown: impl Fn(f64) -> f64) -> Vec<Timed> {
        let read = |n: u64| {
            let at = Moment(5_000_000_000 + n * 2_000_000);
            let seconds = at.0 as f64 * 1e-9;
            let tick = tick_ms * 1e-3;
            let joules = (((seconds / tick).floor() * tick * watts) * 1e3).floor() * 1e-3;
            Timed {
                at,
                joules: Some(shown(joules)),
                watts: n.is_multiple_of(10).then_some(watts),
            }
        };
        (0..1_000).map(read).collect()
    }

    #[test]
    fn a_good_counter_passes_with_its_period_and_watts() {
        for (watts, tick) in [(3.0, 100.0), (70.0, 20.0), (650.0, 100.0), (400.0, 700.0)] {
            let found = judge(&card(watts, tick, |j| j), Some(700.0));
            assert_eq!((&found.counter_fault, &found.power_fault), (&None, &None));
            assert!(
                (found.period.unwrap() * 1e3 - tick).abs() <= 2.0,
                "{tick}: {found:?}"
            );
            assert!(
                (found.implied_watts.unwrap() / watts - 1.0).abs() < 0.02,
                "{found:?}"
            );
            assert!((found.ratio.unwrap() - 1.0).abs() < 0.02, "{found:?}");
            assert_eq!(found.doubt, None);
        }
    }

    #[test]
    fn broken_counters_are_told_from_good_power() {
        type Shown = fn(f64) -> f64;
        let cases: [(Shown, &str); 6] = [
            (|_| 77.0, "stood still"),
            (|j| j * 1e-3, "the counter says 0.300 W"),
            (|j| j * 1e3, "the counter says 300000"),
            (|j| j * 0.2, "0.20 times"),
            (|j| 1e6 - j, "went back"),
            (|j| if j > 1_800.0 { 1.0 } else { 0.0 }, "changed only once"),
        ];
        for (shown, words) in cases {
            let found = judge(&card(300.0, 100.0, shown), Some(700.0));
            let fault = found.counter_fault.unwrap();
            assert!(fault.contains(words), "{fault}");
            assert_eq!(found.power_fault, None);
        }
    }

    #[test]
    fn a_disagreement_within_reason_is_a_doubt_only() {
        let found = judge(&card(100.0, 100.0, |j| j * 0.57), Some(700.0));
        assert_eq!(found.counter_fault, None);
        assert!(found.doubt.unwrap().contains("0.57 times"));
    }

    #[test]
    fn power_is_judged_by_itself_where_there_is_no_counter() {
        let mut readings = card(80.0, 100.0, |j| j);
        for reading in &mut readings {
            reading.joules = None;
            reading.watts = Some(80.0 + (reading.at.0 / 50_000_000 % 2) as f64);
        }
        let found = judge(&readings, Some(300.0));
        assert_eq!(found.power_fault, None);
        assert!((found.period.unwrap() - 0.05).abs() < 0.003, "{found:?}");
        for absurd in [0.0, 80_000.0] {
            readings.iter_mut().for_each(|r| r.watts = Some(absurd));
            assert!(judge(&readings, Some(300.0)).power_fault.is_some());
        }
    }

    #[test]
    fn without_a_limit_only_absurd_watts_fail() {
        assert_eq!(judge(&card(1_200.0, 100.0, |j| j), None).counter_fault, None);
        assert!(judge(&card(9_000.0, 100.0, |j| j), None).counter_fault.is_some());
    }

    #[test]
    fn one_reset_begins_the_test_anew_and_many_fail_it() {
        let verdict = |resets: &[usize]| {
            let mut readings = card(300.0, 100.0, |j| j);
            let more = readings.clone().into_iter().map(|r| Timed {
                at: r.at.plus_seconds(2.0),
                joules: r.joules.map(|j| j + 600.0),
                ..r
            });
            readings.extend(more);
            for reset in resets {
                readings[*reset..]
                    .iter_mut()
                    .for_each(|r| r.joules = r.joules.map(|j| j - 300.0));
            }
            let mut test = SelfTest::new(Some(700.0), true);
            readings.iter().find_map(|r| test.take(*r)).unwrap().counter_fault
        };
        assert_eq!(verdict(&[400]), None);
        assert!(verdict(&[100, 200, 300, 400]).unwrap().contains("went back"));
    }

    #[test]
    fn the_verdict_comes_after_two_seconds_and_later_for_a_slow_counter() {
        let verdict_at = |readings: &[Timed]| {
            let mut test = SelfTest::new(Some(700.0), true);
            readings
                .iter()
                .find_map(|r| test.take(*r).map(|_| r.at.seconds_since(readings[0].at)))
        };
        let mut slow = card(300.0, 100.0, |_| 5.0);
        let more = slow.clone().into_iter().map(|r| Timed {
            at: r.at.plus_seconds(2.0),
            ..r
        });
        slow.extend(more);
        assert_eq!(verdict_at(&card(300.0, 100.0, |j| j)), None);
        let mut good = card(300.0, 100.0, |j| j);
        good.push(Timed {
            at: good[0].at.plus_seconds(2.0),
            ..good[999]
        });
        assert_eq!(verdict_at(&good), Some(2.0));
        assert_eq!(verdict_at(&slow), Some(3.0));
    }
}
