//! The law of the house on a card that is treated badly: random traffic of three models, ticks of any length, reads that
//! fail, faults that last, counters that begin anew or jump, power in place of a counter. Whatever NVML says, what was
//! counted is what is booked, nobody's share is negative, and every request gets its bill.

use std::sync::LazyLock;

use nvml_standin::{BoardConfig, Card, Config, Fault, FaultWindow, Jump};
use proptest::prelude::*;

use super::played_lane::{PlayedLane, Traffic};
use super::report::Source;
use super::settings::IdlePolicy;
use super::stage::{accounted, play_on};
use crate::units::Microjoules;

/// The loader keeps a copy of the library until the process ends, so all cases share one.
static CARD: LazyLock<Card> = LazyLock::new(|| Card::new(&Config::default()));

const SECONDS: f64 = 12.0;

fn traffic() -> impl Strategy<Value = Traffic> {
    (any::<u64>(), 0.2..4.0f64, 1u64..5, 1u64..60, 1u64..900).prop_map(
        |(seed, rate, burst, answer, prompt)| Traffic {
            seed,
            alone: 0.0,
            seconds: SECONDS,
            rate,
            burst,
            pause: (2.0, 6.0),
            answer,
            prompt,
            ..Traffic::LONG
        },
    )
}

fn fault() -> impl Strategy<Value = FaultWindow> {
    let kinds = prop_oneof![
        Just(Fault::Unknown),
        Just(Fault::Timeout),
        Just(Fault::GpuLost),
        Just(Fault::DriverNotLoaded),
        Just(Fault::NotReady),
    ];
    (0.1..SECONDS, 0.01..5.0f64, kinds).prop_map(|(from, long, fault)| FaultWindow {
        from,
        until: from + long,
        fault,
    })
}

fn board() -> impl Strategy<Value = BoardConfig> {
    let jump = (0.1..SECONDS, -200_000_000..200_000_000i64);
    let jump = jump.prop_map(|(at, millijoules)| Jump { at, millijoules });
    let events = (
        prop::collection::vec(fault(), 0..3),
        prop::collection::vec(0.1..SECONDS, 0..3),
        prop::collection::vec(jump, 0..2),
    );
    let ticks = (5.0..400.0f64, 0.0..0.9f64, 0.0..250.0f64, 0.0..0.1f64);
    let share = prop_oneof![Just(0.0), 0.0..0.3f64];
    (ticks, share, 0.0..0.2f64, (0u8..4, 0u8..2), events).prop_map(
        |((tick_ms, jitter, delay_ms, _), failing_share, counter_noise, (counter, instant), events)| {
            BoardConfig {
                tick_ms,
                jitter_ms: tick_ms * jitter,
                delay_ms,
                counter_noise,
                failing_share,
                has_counter: counter > 0,
                has_instant: instant > 0,
                faults: events.0,
                resets: events.1,
                jumps: events.2,
                ..BoardConfig::default()
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn whatever_befalls_the_card_the_books_balance(traffic in traffic(), board in board(), seed: u64, shared: bool) {
        let idle = if shared { IdlePolicy::Shared } else { IdlePolicy::Separate };
        let lane = PlayedLane::new(&traffic);
        let config = Config { seed, boards: vec![board], ..Config::default() };
        let outcome = play_on(&CARD, &config, &lane, idle);
        let totals = outcome.totals();
        prop_assert_eq!(totals.measured, accounted(&totals));
        let rises = outcome.readings.windows(2).map(|pair| pair[1].1.0.saturating_sub(pair[0].1.0));
        let risen = Microjoules(rises.sum());
        prop_assert!(totals.measured <= risen, "{:?} booked of {risen:?} counted", totals.measured);
        prop_assert!(lane.truth.keys().all(|id| outcome.bills.contains_key(id)), "a request has no bill");
        let mut billed = 0.0;
        for bill in outcome.bills.values() {
            prop_assert!(bill.is_final);
            for part in [bill.prefill.0, bill.decode.0, bill.exploration.0] {
                prop_assert!(part >= 0.0, "{bill:?}");
            }
            billed += bill.total().0;
        }
        let account = totals.request.joules().0;
        let guessed = outcome.bills.values().any(|bill| bill.source != Source::Nvml);
        prop_assert!(billed >= account * (1.0 - 1e-9) - 1e-9, "{billed} J billed, {account} J in the account");
        prop_assert!(guessed || billed <= account * (1.0 + 1e-9) + 1e-9, "{billed} J billed, {account} J in the account");
    }
}
