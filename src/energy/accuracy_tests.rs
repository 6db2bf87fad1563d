//! Are the joules of a request those that were spent on it? Three models share a played lane, a stand-in card spends
//! what their laws say, and the bills are held against the truth. The naive rules are given the very same readings and
//! must fail the very same bars, or the bars would prove nothing.

use nvml_standin::BoardConfig;

use super::bars::{Bars, Bills, billed};
use super::played_lane::{PlayedLane, Traffic};
use super::records::Account;
use super::report::Source;
use super::stage::{Outcome, play};
use crate::units::{Moment, RequestId};

const SEEDS: [u64; 4] = [1, 2, 3, 5];

/// A card as the books see it in the data centre.
fn card() -> BoardConfig {
    BoardConfig {
        tick_ms: 100.0,
        ..BoardConfig::default()
    }
}

/// The stand-in's, where nothing else is said.
const IDLE: f64 = 75.0;

/// 1: requests of a second and more.
const LONG: Bars = Bars {
    life: (1.0, f64::INFINITY),
    fewest: 150,
    median: 0.03,
    p95: 0.10,
    bias: 0.02,
};
/// 2: requests of a few ticks at most cannot be right one by one, but must be on average.
const SHORT: Bars = Bars {
    life: (0.1, 0.3),
    fewest: 1_000,
    median: f64::INFINITY,
    p95: f64::INFINITY,
    bias: 0.02,
};

fn long(seed: u64) -> PlayedLane {
    PlayedLane::new(&Traffic {
        seed,
        ..Traffic::LONG
    })
}

fn short(seed: u64) -> PlayedLane {
    PlayedLane::new(&Traffic {
        seed,
        seconds: 300.0,
        rate: 6.0,
        answer: 9,
        prompt: 300,
        ..Traffic::LONG
    })
}

#[test]
fn requests_of_a_second_and_more_are_billed_what_they_spent() {
    for seed in SEEDS {
        let lane = long(seed);
        let outcome = play(&lane, card(), seed);
        LONG.hold(&format!("law, seed {seed}"), &lane, &billed(&outcome))
            .unwrap();
    }
}

/// Three models in turn from the first moment on are hard to tell apart. Twenty seconds of it do for all but the few
/// whose worst is then a little worse.
#[test]
fn no_model_need_ever_be_alone() {
    let bars = Bars { p95: 0.15, ..LONG };
    for seed in SEEDS {
        let lane = PlayedLane::new(&Traffic {
            seed,
            alone: 0.0,
            ..Traffic::LONG
        });
        let outcome = play(&lane, card(), seed);
        bars.hold(
            &format!("law, never alone, seed {seed}"),
            &lane,
            &billed(&outcome),
        )
        .unwrap();
    }
}

#[test]
fn requests_shorter_than_the_ticks_are_right_on_average() {
    for seed in SEEDS {
        let lane = short(seed);
        let outcome = play(&lane, card(), seed);
        SHORT
            .hold(&format!("law, seed {seed}"), &lane, &billed(&outcome))
            .unwrap();
    }
}

/// A board is tested for two seconds, and serves meanwhile. Its readings are kept back, not thrown away.
#[test]
fn what_is_spent_during_the_meters_trial_is_booked_once_it_passes() {
    for seed in SEEDS {
        let lane = long(seed);
        let outcome = play(&lane, card(), seed);
        let (mut got, mut want) = (0.0, 0.0);
        let trial = Moment(0).plus_seconds(2.0);
        for (id, _) in lane.lives.iter().filter(|(_, life)| life.1 < trial) {
            assert_eq!(outcome.bills[id].source, Source::Nvml);
            got += outcome.bills[id].total().0;
            want += lane.truth[id];
        }
        println!("during the trial, seed {seed}: {got:.1} J billed of {want:.1} J");
        assert!(
            want > 50.0 && (got / want - 1.0).abs() < 0.05,
            "{got} J billed of {want} J"
        );
        // The whole of it is the meter's to the tick: the stage checks that from the first change to the last.
        let missed = outcome.drawn - outcome.totals().measured.joules().0;
        assert!((0.0..60.0).contains(&missed), "{missed} J missed");
    }
}

/// What the counter read when a request began and ended.
fn by_life(lane: &PlayedLane, outcome: &Outcome) -> Bills {
    let at = |moment: Moment| {
        let read = outcome.readings.partition_point(|r| r.0 <= moment);
        outcome.readings[read.saturating_sub(1)].1.joules().0
    };
    let lives = lane.lives.iter();
    lives
        .map(|(id, (start, end))| (*id, at(*end) - at(*start)))
        .collect()
}

/// Every tick's joules, less what an exactly known idle power took, over the tick's rows by their `size`.
fn by_share(lane: &PlayedLane, outcome: &Outcome, size: impl Fn(f64, f64) -> f64) -> Bills {
    let mut bills: Bills = lane.truth.keys().map(|id| (*id, 0.0)).collect();
    let mut changes = vec![outcome.readings[0]];
    changes.extend(
        outcome
            .readings
            .windows(2)
            .filter(|p| p[0].1 != p[1].1)
            .map(|p| p[1]),
    );
    let mut first = 0;
    for tick in changes.windows(2) {
        let ((from, before), (to, after)) = (tick[0], tick[1]);
        while lane.steps.get(first).is_some_and(|s| s.end <= from) {
            first += 1;
        }
        let mut shares: Vec<(RequestId, f64)> = vec![];
        for step in lane.steps[first..].iter().take_while(|s| s.start < to) {
            let seconds = step.end.seconds_since(step.start);
            let part = step.end.min(to).seconds_since(step.start.max(from)) / seconds;
            for row in &step.rows {
                let Account::Request(id) = row.account else {
                    continue;
                };
                let tokens = f64::from(row.prefill_tokens + row.decode_tokens);
                shares.push((id, part * size(tokens, seconds / step.rows.len() as f64)));
            }
        }
        let sum: f64 = shares.iter().map(|(_, size)| size).sum();
        let joules = ((after - before).joules().0 - IDLE * to.seconds_since(from)).max(0.0);
        for (id, size) in shares {
            *bills.entry(id).or_default() += joules * size / sum;
        }
    }
    bills
}

#[test]
fn naive_rules_fail_the_same_bars() {
    for seed in SEEDS {
        for (lane, bars) in [(long(seed), LONG), (short(seed), SHORT)] {
            let outcome = play(&lane, card(), seed);
            let rules = [
                ("the counter over the request's life", by_life(&lane, &outcome)),
                ("by tokens", by_share(&lane, &outcome, |tokens, _| tokens)),
                ("by time", by_share(&lane, &outcome, |_, seconds| seconds)),
            ];
            for (name, bills) in rules {
                assert!(bars.hold(name, &lane, &bills).is_err(), "{name} passes");
            }
        }
    }
}
