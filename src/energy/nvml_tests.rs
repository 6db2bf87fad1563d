//! NVIDIA's meter against cards that behave as cards do, in virtual time: the verdict of its test, and what it makes of
//! a driver that goes and comes.

use nvml_standin::{BoardConfig, Card, Config, Fault, FaultWindow, Jump};

use super::fallback::NvmlOrModelled;
use super::meter::{Meter, MeterError, Reading};
use super::meter_check::{CheckState, Quantity};
use super::nvml::NvmlMeter;
use super::report::Source;
use super::settings::ModelledPower;
use crate::units::Moment;

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;

fn card(board: BoardConfig) -> Card {
    Card::new(&Config {
        boards: vec![board],
        ..Config::default()
    })
}

fn open(card: &Card) -> NvmlMeter {
    NvmlMeter::open(Some(card.path()), 0).unwrap()
}

/// Reads every `every` ms from `from` to `until` seconds.
fn reads(
    card: &Card,
    meter: &mut dyn Meter,
    from: u64,
    until: u64,
    every: u64,
) -> Vec<Result<Reading, MeterError>> {
    (from * SECOND..until * SECOND)
        .step_by((every * MS) as usize)
        .map(|at| {
            card.set_now(at);
            meter.read(Moment(at))
        })
        .collect()
}

#[test]
fn a_good_card_passes_and_is_told_in_figures() {
    for (tick_ms, delay_ms, jitter_ms) in [(100.0, 0.0, 0.0), (33.0, 60.0, 4.0), (20.0, 0.0, 0.0)] {
        let card = card(BoardConfig {
            tick_ms,
            delay_ms,
            jitter_ms,
            ..BoardConfig::default()
        });
        // Steps of 20 ms at 400 W above idle, half of the time.
        for n in 0..100 {
            card.spend(0, n * 40 * MS, (n * 40 + 20) * MS, 8_000_000);
        }
        let mut meter = open(&card);
        assert_eq!(meter.check().state, CheckState::Running);
        assert!(reads(&card, &mut meter, 0, 3, 2).iter().all(Result::is_ok));
        let check = meter.check();
        assert_eq!(
            (check.state, check.quantity),
            (CheckState::Passed, Quantity::Counter),
            "{check:?}"
        );
        let period = check.update_period_ms.unwrap();
        assert!(
            (period - tick_ms).abs() <= jitter_ms / 2.0 + 2.0,
            "{period} ms where {tick_ms} is true"
        );
        assert!(
            (check.implied_watts.unwrap().0 / 275.0 - 1.0).abs() < 0.05,
            "{check:?}"
        );
        assert!((check.power_ratio.unwrap() - 1.0).abs() < 0.06, "{check:?}");
        assert_eq!(check.power_limit_watts.unwrap().0, 700.0);
        assert_eq!(check.board.as_deref(), Some("Stand-in H100"));
        assert!(!meter.reads_are_instant() && meter.averages_over().is_none());
    }
}

#[test]
fn a_counter_that_cannot_be_believed_gives_way_to_power_and_says_so() {
    let frozen = BoardConfig {
        tick_ms: 1e7,
        ..BoardConfig::default()
    };
    let joules_for_millijoules = BoardConfig {
        counter_scale: 1e-3,
        ..BoardConfig::default()
    };
    let microjoules = BoardConfig {
        counter_scale: 1e3,
        ..BoardConfig::default()
    };
    let averaged = BoardConfig {
        has_instant: false,
        ..frozen.clone()
    };
    let cases = [
        (frozen, "stood still", Quantity::PowerIntegrated, None),
        (joules_for_millijoules, "0.075 W", Quantity::PowerIntegrated, None),
        (microjoules, "75000", Quantity::PowerIntegrated, None),
        (averaged, "stood still", Quantity::PowerAveraged, Some(1.0)),
    ];
    for (board, words, quantity, window) in cases {
        let card = card(board);
        let mut meter = open(&card);
        let read = reads(&card, &mut meter, 0, 4, 2);
        let told: Vec<_> = read.iter().filter_map(|r| r.as_ref().err()).collect();
        assert!(
            matches!(told[..], [MeterError::Restarted(text)] if text.contains(words)),
            "{told:?}"
        );
        let check = meter.check();
        assert_eq!((check.state, check.quantity), (CheckState::FellBack, quantity));
        assert_eq!(
            (meter.source(), meter.reads_are_instant(), meter.averages_over()),
            (Source::Nvml, true, window)
        );
        // From here on the integral of the power counts.
        let first = read[1_999].as_ref().unwrap().counter.0;
        let start = card.truth(0, 1_999 * 2 * MS);
        card.spend(0, 5 * SECOND, 6 * SECOND, 200_000_000);
        let last = reads(&card, &mut meter, 4, 8, 20)
            .pop()
            .unwrap()
            .unwrap()
            .counter
            .0;
        let (shown, true_energy) = (last - first, card.truth(0, 7_980 * MS) - start);
        assert!(
            shown.abs_diff(true_energy) < true_energy / 50,
            "{shown} {true_energy}"
        );
    }
}

#[test]
fn a_missing_counter_is_no_failure() {
    let card = card(BoardConfig {
        has_counter: false,
        ..BoardConfig::default()
    });
    let mut meter = open(&card);
    assert!(reads(&card, &mut meter, 0, 3, 20).iter().all(Result::is_ok));
    let check = meter.check();
    assert_eq!(
        (check.state, check.quantity),
        (CheckState::Passed, Quantity::PowerIntegrated)
    );
    assert!(check.notes[0].contains("no energy counter"), "{:?}", check.notes);
    assert!((check.watts_now.unwrap().0 - 75.0).abs() < 1.0);
}

#[test]
fn when_neither_can_be_believed_nvml_fails_for_good_and_auto_turns_to_the_estimate() {
    let board = BoardConfig {
        tick_ms: 1e7,
        idle: vec![(0.0, 0.0)],
        ..BoardConfig::default()
    };
    let cards = [card(board.clone()), card(board)];
    let mut strict = open(&cards[0]);
    let read = reads(&cards[0], &mut strict, 0, 5, 2);
    assert!(strict.has_failed() && strict.source() == Source::Nvml);
    let told = read.last().unwrap().as_ref().unwrap_err().to_string();
    assert!(
        told.contains("stood still for 3.0 s, and the power reads 0.0 W"),
        "{told}"
    );

    let mut auto = NvmlOrModelled::new(open(&cards[1]), ModelledPower::default());
    let read = reads(&cards[1], &mut auto, 0, 5, 2);
    let errors: Vec<_> = read.iter().filter_map(|r| r.as_ref().err()).collect();
    assert!(
        matches!(errors[..], [MeterError::Restarted(text)] if text.contains("modelled, not measured")),
        "{errors:?}"
    );
    assert_eq!(
        (auto.source(), auto.follows_steps(), auto.check().state),
        (Source::Modelled, true, CheckState::Failed)
    );
    assert_eq!(auto.check().quantity, Quantity::Declared);
}

#[test]
fn what_may_not_be_read_is_refused_with_the_mend() {
    let fault = |fault| {
        card(BoardConfig {
            faults: vec![FaultWindow {
                from: 0.0,
                until: 1e6,
                fault,
            }],
            ..BoardConfig::default()
        })
    };
    for (kind, words) in [
        (Fault::NoPermission, "`utility` capability"),
        (Fault::NotReady, "not in ready state"),
        (Fault::NotSupported, "does not support it"),
    ] {
        let card = fault(kind);
        let error = NvmlMeter::open(Some(card.path()), 0).err().unwrap();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn slices_are_told_plainly() {
    let card = card(BoardConfig {
        mig: true,
        ..BoardConfig::default()
    });
    let meter = open(&card);
    assert!(
        meter.describe().contains("the whole board"),
        "{}",
        meter.describe()
    );
    assert!(meter.check().notes[0].contains("cannot be measured by itself"));
}

#[test]
fn a_reset_during_the_test_begins_it_anew() {
    let card = card(BoardConfig {
        resets: vec![1.0],
        ..BoardConfig::default()
    });
    let mut meter = open(&card);
    reads(&card, &mut meter, 0, 4, 2);
    assert_eq!(meter.check().state, CheckState::Passed, "{:?}", meter.check());
}

#[test]
fn a_driver_that_comes_back_is_another_beginning_on_the_same_board() {
    let away = |from, until| FaultWindow {
        from,
        until,
        fault: Fault::DriverNotLoaded,
    };
    let boards = ["GPU-a", "GPU-b"].map(|uuid| BoardConfig {
        uuid: uuid.to_owned(),
        faults: vec![away(3.0, 5.0)],
        ..BoardConfig::default()
    });
    let card = Card::new(&Config {
        boards: boards.to_vec(),
        ..Config::default()
    });
    let mut meter = NvmlMeter::open(Some(card.path()), 1).unwrap();
    let before = reads(&card, &mut meter, 0, 3, 2);
    assert!(before.iter().all(Result::is_ok));
    let gone = reads(&card, &mut meter, 3, 12, 20);
    let restarts = gone
        .iter()
        .filter(|r| matches!(r, Err(MeterError::Restarted(_))))
        .count();
    assert_eq!(restarts, 1);
    assert!(gone.last().unwrap().is_ok());
    assert_eq!(meter.check().uuid.as_deref(), Some("GPU-b"));
    assert!(before.len() > 1_000 && card.reads(1) - before.len() as u64 > 300 && card.reads(0) < 20);
}

#[test]
fn a_board_that_is_gone_for_good_is_asked_for_ever_more_rarely() {
    let card = card(BoardConfig::default());
    let mut meter = open(&card);
    reads(&card, &mut meter, 0, 3, 2);
    card.vanish(0, Fault::GpuLost);
    let told = reads(&card, &mut meter, 3, 300, 20);
    assert!(told.iter().all(Result::is_err));
    let asked = told
        .iter()
        .filter(|r| !matches!(r, Err(MeterError::Failed(text)) if text.contains("away")))
        .count();
    assert!(asked < 60, "asked {asked} times in 300 s");
}

#[test]
fn a_counter_that_jumps_back_is_read_on() {
    let card = card(BoardConfig {
        jumps: vec![Jump {
            at: 3.0,
            millijoules: -50_000,
        }],
        ..BoardConfig::default()
    });
    let mut meter = open(&card);
    assert!(reads(&card, &mut meter, 0, 5, 2).iter().all(Result::is_ok));
    assert_eq!(meter.check().state, CheckState::Passed);
}
