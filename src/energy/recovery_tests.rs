//! Does the attribution find what each request truly cost? A world with a known law and a counter that ticks like a
//! GPU's goes through the real path: tick clock, counter follower, book, ledger. The naive rules must fail the same
//! bars, or the bars would prove nothing.

use super::book::DeviceBook;
use super::events::Look;
use super::ledger::{Bill, Ledger};
use super::meter::{Meter, MeterError, Reading};
use super::report::Source;
use super::sampling::TickClock;
use super::settings::IdlePolicy;
use super::test_world::{Chance, World};
use crate::units::{DeviceId, Microjoules, Moment, RequestId};

struct Card {
    period: f64,
    lag: f64,
    noise: f64,
    idle: fn(f64) -> f64,
}

impl Card {
    const USUAL: Self = Self {
        period: 0.1,
        lag: 0.0,
        noise: 0.0,
        idle: |t| 75.0 * t,
    };
}

struct CounterMeter;

impl Meter for CounterMeter {
    fn source(&self) -> Source {
        Source::Nvml
    }
    fn describe(&self) -> String {
        "played".into()
    }
    fn read(&mut self, _now: Moment) -> Result<Reading, MeterError> {
        Err(MeterError::Failed("readings are played".into()))
    }
    fn reads_are_instant(&self) -> bool {
        false
    }
}

struct Outcome {
    /// Attributed over true joules, per request that ended after the first 20 s.
    ratios: Vec<f64>,
    bias: f64,
    book: DeviceBook,
}

/// Plays the world before the books.
fn play(world: &World, card: &Card, seed: u64) -> Outcome {
    let mut chance = Chance(seed);
    let count = (world.end.0 as f64 * 1e-9 / card.period) as usize + 1;
    let times: Vec<f64> = (0..count).map(|k| k as f64 * card.period).collect();
    // What the meter counts is the truth that is split, so its errors stay in the count, tick by tick.
    let exact = world.energy_at(&times, card.idle);
    let mut shown = vec![exact[0]];
    for pair in exact.windows(2) {
        let difference = (pair[1] - pair[0]) * (1.0 + card.noise * chance.normal());
        shown.push(shown[shown.len() - 1] + difference);
    }
    let counter = |at: Moment| {
        let tick = ((at.0 as f64 * 1e-9 - card.lag) / card.period).floor().max(0.0) as usize;
        Microjoules((shown[tick.min(count - 1)] * 1e3) as u64 * 1_000)
    };

    let mut book = DeviceBook::new(DeviceId(0), "played", &CounterMeter, IdlePolicy::Separate);
    let mut ledger = Ledger::new(&[Source::Nvml]);
    let mut ticks = TickClock::new(true);
    let (mut at, mut last, mut place, mut begun) = (Moment(0), None, 0, 0);
    while at < world.end {
        while place < world.steps.len() && world.steps[place].end <= at {
            if begun == place {
                book.begin(world.steps[place].start);
                begun += 1;
            }
            book.record(world.steps[place].clone(), &mut ledger);
            place += 1;
        }
        if begun == place && world.steps.get(place).is_some_and(|s| s.start <= at) {
            book.begin(world.steps[place].start);
            begun += 1;
        }
        let now = counter(at);
        let edge = ticks.observed(at, Some(last.is_some_and(|l| l != now)));
        last = Some(now);
        let look = Look {
            edge,
            period: ticks.period().unwrap_or(f64::INFINITY),
        };
        book.sample(
            at,
            Ok(Reading {
                counter: now,
                power: None,
            }),
            look,
        );
        book.settle(&mut ledger);
        at = ticks.next().max(Moment(at.0 + 100_000));
    }
    let late = Moment(0).plus_seconds(20.0);
    let (mut ratios, mut got, mut want) = (vec![], 0.0, 0.0);
    for (id, truth) in world.truth.iter().filter(|(id, _)| world.lives[id].0 > late) {
        let energy = ledger.energy(*id, Bill::default()).unwrap().total().0;
        ratios.push(energy / truth);
        got += energy;
        want += truth;
    }
    assert_eq!(
        ledger.accounts(DeviceId(0)).measured,
        ledger.accounts(DeviceId(0)).sum()
    );
    Outcome {
        ratios,
        bias: got / want - 1.0,
        book,
    }
}

/// Median and 95th percentile of the relative error.
fn errors(ratios: &[f64]) -> (f64, f64) {
    let mut errors: Vec<f64> = ratios.iter().map(|r| (r - 1.0).abs()).collect();
    errors.sort_by(f64::total_cmp);
    (errors[errors.len() / 2], errors[errors.len() * 95 / 100])
}

fn long_requests(seed: u64) -> World {
    World::new(seed, 4.0, 150.0, 4.0, 150, 0.02)
}

#[test]
fn long_requests_are_found_within_a_few_percent() {
    for (seed, period, noise) in [
        (1, 0.02, 0.02),
        (2, 0.1, 0.0),
        (3, 0.1, 0.02),
        (5, 0.1, 0.02),
        (4, 1.0, 0.02),
    ] {
        let outcome = play(
            &long_requests(seed),
            &Card {
                period,
                noise,
                ..Card::USUAL
            },
            seed,
        );
        let (median, p95) = errors(&outcome.ratios);
        println!(
            "period {period} s, noise {noise}: median {median:.4}, p95 {p95:.4}, bias {:.4}",
            outcome.bias
        );
        assert!(
            median <= if period < 0.5 { 0.03 } else { 0.06 },
            "period {period}: median error {median}"
        );
        assert!(
            p95 <= if period < 0.5 { 0.10 } else { 0.50 },
            "period {period}: p95 {p95}"
        );
        assert!(
            outcome.bias.abs() <= 0.02,
            "period {period}: bias {}",
            outcome.bias
        );
    }
}

/// Three models in strict turn from the first moment on can hardly be told apart, and the guess from durations is far
/// off for the small one; still the bulk must be right.
#[test]
fn without_a_warm_up_the_bulk_is_still_right() {
    let world = World::new(2, 0.0, 150.0, 4.0, 150, 0.02);
    let outcome = play(
        &world,
        &Card {
            noise: 0.02,
            ..Card::USUAL
        },
        2,
    );
    let (median, p95) = errors(&outcome.ratios);
    println!(
        "no warm-up: median {median:.4}, p95 {p95:.4}, bias {:.4}",
        outcome.bias
    );
    assert!(
        median <= 0.05 && outcome.bias.abs() <= 0.02,
        "median {median}, bias {}",
        outcome.bias
    );
}

#[test]
fn short_requests_are_unbiased() {
    let world = World::new(7, 0.0, 160.0, 9.0, 12, 0.02);
    let outcome = play(
        &world,
        &Card {
            noise: 0.02,
            ..Card::USUAL
        },
        7,
    );
    let mean = outcome.ratios.iter().sum::<f64>() / outcome.ratios.len() as f64 - 1.0;
    println!(
        "short: {} requests, mean error {mean:.4}, bias {:.4}, {:?}",
        outcome.ratios.len(),
        outcome.bias,
        errors(&outcome.ratios)
    );
    assert!(outcome.ratios.len() > 1_000);
    assert!(mean.abs() <= 0.02, "mean error {mean}");
    assert!(outcome.bias.abs() <= 0.02, "bias {}", outcome.bias);
}

#[test]
fn a_late_meter_is_found_out() {
    let outcome = play(
        &long_requests(11),
        &Card {
            lag: 0.06,
            noise: 0.01,
            ..Card::USUAL
        },
        11,
    );
    let (median, p95) = errors(&outcome.ratios);
    println!(
        "lag: found {} s, median {median:.4}, p95 {p95:.4}",
        outcome.book.lag_seconds()
    );
    assert!(
        (outcome.book.lag_seconds() - 0.06).abs() <= 0.011,
        "{}",
        outcome.book.lag_seconds()
    );
    assert!(median <= 0.03, "median error {median}");
}

#[test]
fn a_drifting_idle_power_biases_nobody() {
    // 20 % in an hour is 0.7 % over this run; take it twelve times faster.
    let card = Card {
        idle: |t| 75.0 * (t + 0.2 * t * t / 600.0),
        ..Card::USUAL
    };
    let outcome = play(&World::new(13, 0.0, 300.0, 1.5, 60, 0.02), &card, 13);
    println!(
        "drift: bias {:.4}, idle {:.2} W",
        outcome.bias,
        outcome.book.law().idle_watts()
    );
    assert!(outcome.bias.abs() <= 0.02, "bias {}", outcome.bias);
}

#[test]
fn naive_rules_fail_the_same_bars() {
    let world = long_requests(2);
    let moments: Vec<f64> = (0..world.end.0 / 1_000_000).map(|ms| ms as f64 * 1e-3).collect();
    let energy = world.energy_at(&moments, Card::USUAL.idle);
    let at = |m: Moment| energy[((m.0 / 1_000_000) as usize).min(energy.len() - 1)];
    let tokens: f64 = world.tokens.values().sum();
    let busy: f64 = world.joules.iter().sum();
    let life = |id: &RequestId| at(world.lives[id].1) - at(world.lives[id].0);
    let by_tokens = |id: &RequestId| busy * world.tokens[id] / tokens;
    let check = |name: &str, rule: &dyn Fn(&RequestId) -> f64| {
        let ratios: Vec<f64> = world.truth.iter().map(|(id, truth)| rule(id) / truth).collect();
        let (median, _) = errors(&ratios);
        println!("naive rule {name}: median {median:.2}");
        assert!(median > 0.3, "{name} passes with {median}");
    };
    check("delta over the request's life", &life);
    check("by tokens", &by_tokens);
}
