//! Meters as they are: late, jittering, failing now and then, averaging over a second, on a card whose idle power drifts.
//! Bills must still be right on average, and the accounts the meter's to the microjoule, which the stage checks.

use nvml_standin::BoardConfig;

use super::bars::{Bars, billed};
use super::played_lane::{PlayedLane, Traffic};
use super::stage::{Outcome, play};

const UNBIASED: Bars = Bars {
    life: (0.0, f64::INFINITY),
    fewest: 300,
    median: 0.05,
    p95: f64::INFINITY,
    bias: 0.03,
};
/// Of an hour's drift.
const DRIFTING: Bars = Bars {
    bias: 0.02,
    ..UNBIASED
};

/// A counter with a noise of one percent a tick.
fn noisy() -> BoardConfig {
    BoardConfig {
        counter_noise: 0.01,
        ..BoardConfig::default()
    }
}

/// Answers long and short from two seeds on the card; what is drawn is what is measured.
fn hold(name: &str, board: &BoardConfig) -> Vec<Outcome> {
    let seeds = [1, 2];
    seeds
        .map(|seed| {
            let lane = PlayedLane::new(&Traffic {
                seed,
                answer: 60,
                ..Traffic::LONG
            });
            let outcome = play(&lane, board.clone(), seed);
            let name = format!("{name}, seed {seed}");
            UNBIASED.hold(&name, &lane, &billed(&outcome)).unwrap();
            let (measured, drawn) = (outcome.totals().measured.joules().0, outcome.drawn);
            assert!(
                (measured / drawn - 1.0).abs() <= 0.005,
                "{name}: {measured} J of {drawn} J"
            );
            outcome
        })
        .into()
}

#[test]
fn a_late_meter_that_jitters_and_fails_now_and_then_biases_nobody() {
    for delay_ms in [0.0, 37.0, 90.0, 130.0, 175.0, 200.0] {
        for (jitter_ms, failing_share) in [(0.0, 0.0), (20.0, 0.0), (0.0, 0.02), (20.0, 0.02)] {
            let board = BoardConfig {
                delay_ms,
                jitter_ms,
                failing_share,
                ..noisy()
            };
            let name = format!("{delay_ms} ms late, {jitter_ms} ms jitter, {failing_share} of reads fail");
            for outcome in hold(&name, &board) {
                let lag = outcome.lag_seconds() * 1e3;
                assert!((lag - delay_ms).abs() < 8.0, "{name}: found {lag} ms");
            }
        }
    }
}

#[test]
fn other_ticks_do_as_well() {
    for tick_ms in [10.0, 20.0, 33.3, 60.0, 200.0] {
        let board = BoardConfig {
            tick_ms,
            delay_ms: 60.0,
            ..noisy()
        };
        hold(&format!("a tick of {tick_ms} ms"), &board);
    }
}

#[test]
fn power_instead_of_a_counter_biases_nobody_even_as_the_mean_of_a_second() {
    for has_instant in [true, false] {
        for (delay_ms, failing_share) in [(0.0, 0.0), (100.0, 0.0), (200.0, 0.02)] {
            let board = BoardConfig {
                has_counter: false,
                has_instant,
                delay_ms,
                failing_share,
                ..BoardConfig::default()
            };
            let kind = if has_instant { "power" } else { "mean power" };
            let name = format!("{kind} {delay_ms} ms late, {failing_share} of reads fail");
            hold(&name, &board);
        }
    }
}

fn drifting(seconds: f64) -> BoardConfig {
    BoardConfig {
        idle: vec![(0.0, 75.0), (seconds, 90.0)],
        ..noisy()
    }
}

fn hold_idle(name: &str, traffic: Traffic) {
    let lane = PlayedLane::new(&traffic);
    let outcome = play(&lane, drifting(traffic.seconds), traffic.seed);
    println!("{name}: {:.2} W idle in the end", outcome.idle_watts());
    DRIFTING.hold(name, &lane, &billed(&outcome)).unwrap();
    let busy: f64 = lane.joules.iter().sum();
    let idle = outcome.drawn - busy;
    let booked = outcome.totals().idle.joules().0;
    assert!((outcome.idle_watts() / 90.0 - 1.0).abs() <= 0.02);
    assert!(
        (booked / idle - 1.0).abs() <= 0.03,
        "{name}: {booked} J of {idle} J idle"
    );
}

#[test]
fn idle_watts_that_rise_by_a_fifth_in_an_hour_bias_nobody() {
    hold_idle(
        "an hour of little work",
        Traffic {
            seconds: 3_600.0,
            rate: 0.15,
            answer: 60,
            ..Traffic::LONG
        },
    );
}

/// Idle power can only be seen while nothing runs; what was seen last must do until then.
#[test]
fn idle_watts_that_rise_while_the_lane_hardly_ever_rests_bias_nobody() {
    hold_idle(
        "a quarter of an hour of work",
        Traffic {
            seconds: 900.0,
            rate: 1.5,
            answer: 150,
            pause: (12.0, 150.0),
            ..Traffic::LONG
        },
    );
}
