//! NVIDIA's path through the stand-in library: what the meters show is what the cards drew.

use std::path::Path;

use messplus::energy::{LaneDevice, Meter, MeterChoice, MeterSettings, Source, open_meters};
use messplus::units::{DeviceId, Moment};
use nvml_standin::{BoardConfig, Card, Config, Fault, FaultWindow};

const SECOND: u64 = 1_000_000_000;

fn lanes(count: u16) -> Vec<LaneDevice> {
    let lane = |place| LaneDevice {
        device: DeviceId(place),
        name: format!("lane {place}"),
        cuda_ordinal: None,
        cuda_uuid: None,
    };
    (0..count).map(lane).collect()
}

fn meters(library: &Path, count: u16) -> Result<Vec<Box<dyn Meter>>, String> {
    let settings = MeterSettings {
        meter: MeterChoice::Nvml,
        nvml_library: Some(library.to_owned()),
        ..MeterSettings::default()
    };
    open_meters(&settings, &lanes(count)).map_err(|e| e.to_string())
}

#[test]
fn several_cards_are_several_meters_and_each_shows_its_own_energy() {
    let board = |watts: f64, tick_ms: f64| BoardConfig {
        idle: vec![(0.0, watts)],
        tick_ms,
        ..BoardConfig::default()
    };
    let config = Config {
        boards: vec![board(60.0, 100.0), board(90.0, 20.0), board(120.0, 33.0)],
        ..Config::default()
    };
    let card = Card::new(&config);
    let mut meters = meters(card.path(), 3).unwrap();
    let mut read = |card: &Card, at: u64| -> Vec<u64> {
        card.set_now(at);
        let read = meters.iter_mut().map(|m| m.read(Moment(at)).unwrap().counter.0);
        read.collect()
    };
    let before = read(&card, 0);
    card.spend(0, 0, SECOND, 5_000_000);
    card.spend(2, SECOND / 2, SECOND * 3, 70_000_000);
    let after = read(&card, 10 * SECOND);
    for device in 0..3 {
        let config = &config.boards[device];
        let shown = after[device] - before[device];
        let ticks = (10_000.0 / config.tick_ms).floor() * config.tick_ms * 1e6;
        let truth = card.truth(device as u32, ticks as u64);
        assert!(
            shown.abs_diff(truth) <= 1_000,
            "card {device}: {shown} µJ shown, {truth} µJ drawn"
        );
    }
    assert_eq!(card.truth(0, 10 * SECOND), 605_000_000);
    // Two lanes more than there are cards.
    assert!(
        self::meters(card.path(), 5)
            .err()
            .unwrap()
            .contains("3 devices for 5 lanes")
    );
}

fn one(board: BoardConfig) -> Card {
    Card::new(&Config {
        boards: vec![board],
        ..Config::default()
    })
}

#[test]
fn what_was_drawn_adds_up_in_any_order_of_telling() {
    let card = one(BoardConfig {
        idle: vec![(1.0, 10.0), (3.0, 20.0)],
        ..BoardConfig::default()
    });
    let joules = |seconds: u64| card.truth(0, seconds * SECOND) as f64 * 1e-6;
    assert_eq!([1, 2, 3, 4].map(joules), [10.0, 22.5, 40.0, 60.0]);
    card.spend(0, 2 * SECOND, 4 * SECOND, 8_000_000);
    card.spend(0, 0, SECOND, 3_000_000);
    card.spend(0, 3 * SECOND, 3 * SECOND, 1_000_000);
    assert_eq!([1, 3, 4, 9].map(joules), [13.0, 48.0, 72.0, 172.0]);
}

#[test]
fn a_counter_changes_every_tick_and_late_and_by_what_was_drawn() {
    let card = one(BoardConfig {
        tick_ms: 50.0,
        jitter_ms: 10.0,
        delay_ms: 30.0,
        counter_scale: 1.03,
        ..BoardConfig::default()
    });
    let mut meter = meters(card.path(), 1).unwrap().remove(0);
    card.spend(0, SECOND, 3 * SECOND, 900_000_000);
    let mut read = |at: u64| {
        card.set_now(at);
        meter.read(Moment(at)).unwrap().counter.0
    };
    let begin = read(0);
    let mut changes = vec![(0, begin)];
    for at in (1_000_000..5 * SECOND).step_by(1_000_000) {
        let shown = read(at);
        if shown != changes[changes.len() - 1].1 {
            changes.push((at, shown));
        }
    }
    assert!((99..=101).contains(&changes.len()), "{} changes", changes.len());
    for pair in changes[1..].windows(2) {
        let spacing = (pair[1].0 - pair[0].0) / 1_000_000;
        assert!((39..=61).contains(&spacing), "{spacing} ms between changes");
    }
    for (at, shown) in &changes[1..] {
        let drawn = |at: u64| card.truth(0, at.saturating_sub(30_000_000)) as f64 * 1.03;
        let shown = (shown - begin) as f64;
        // Seen within a millisecond, shown in whole millijoules.
        assert!(
            shown <= drawn(*at) + 1e3 && shown >= drawn(at - 1_000_000) - 2e3,
            "at {at}"
        );
    }
}

#[test]
fn energy_told_late_shows_in_a_later_tick_and_is_not_lost() {
    let card = one(BoardConfig::default());
    let mut meter = meters(card.path(), 1).unwrap().remove(0);
    let mut read = |at: u64| {
        card.set_now(at);
        meter.read(Moment(at)).unwrap().counter.0
    };
    let (zero, before) = (read(0), read(SECOND));
    card.spend(0, 0, SECOND / 2, 40_000_000);
    assert_eq!(read(SECOND + SECOND / 20), before);
    assert_eq!(read(2 * SECOND) - zero, card.truth(0, 2 * SECOND));
}

#[test]
fn reads_fail_by_chance_as_often_as_told() {
    let card = one(BoardConfig {
        failing_share: 0.2,
        failing: Fault::Timeout,
        ..BoardConfig::default()
    });
    let mut meter = loop {
        // Opening reads too.
        if let Ok(mut meters) = meters(card.path(), 1) {
            break meters.remove(0);
        }
    };
    // The trial at the start reads more than the counter.
    let mut at = 0;
    while meter.is_on_trial() {
        at += 1_000_000;
        // Some of these fail too, as told.
        let _ = meter.read(Moment(at));
    }
    let before = card.reads(0);
    let failed = (1..=2_000u64)
        .filter(|ms| meter.read(Moment(at + ms * 1_000_000)).is_err())
        .count();
    assert!((300..500).contains(&failed), "{failed} of 2000 reads failed");
    assert_eq!(card.reads(0) - before, 2_000);
}

#[test]
fn copies_of_the_library_do_not_disturb_each_other() {
    let cards: Vec<Card> = (0..3).map(|_| Card::new(&Config::default())).collect();
    for (place, card) in cards.iter().enumerate() {
        card.spend(0, 0, SECOND, 1_000_000 * place as u64);
    }
    for (place, card) in cards.iter().enumerate() {
        assert_eq!(card.truth(0, SECOND), 75_000_000 + 1_000_000 * place as u64);
    }
}

#[test]
fn a_card_without_a_counter_is_metered_by_its_power() {
    let board = BoardConfig {
        has_counter: false,
        ..BoardConfig::default()
    };
    let with = |board: &BoardConfig| {
        Card::new(&Config {
            boards: vec![board.clone()],
            ..Config::default()
        })
    };
    for (has_instant, has_power) in [(true, true), (false, true)] {
        let card = with(&BoardConfig {
            has_instant,
            has_power,
            ..board.clone()
        });
        let mut meter = meters(card.path(), 1).unwrap().remove(0);
        assert_eq!(meter.source(), Source::Nvml);
        card.spend(0, 2 * SECOND, 4 * SECOND, 400_000_000);
        let mut shown = 0;
        for at in (0..10 * SECOND).step_by(20_000_000) {
            card.set_now(at);
            shown = meter.read(Moment(at)).unwrap().counter.0;
        }
        let truth = card.truth(0, 10 * SECOND);
        assert!(
            shown.abs_diff(truth) < truth / 100,
            "{shown} µJ integrated, {truth} µJ drawn"
        );
    }
    let card = with(&BoardConfig {
        has_instant: false,
        has_power: false,
        ..board
    });
    assert!(meters(card.path(), 1).is_err());
}

#[test]
fn a_driver_that_goes_and_comes_is_a_new_beginning() {
    let away = FaultWindow {
        from: 2.0,
        until: 5.0,
        fault: Fault::DriverNotLoaded,
    };
    let board = BoardConfig {
        faults: vec![away],
        resets: vec![4.0],
        ..BoardConfig::default()
    };
    let card = Card::new(&Config {
        boards: vec![board],
        ..Config::default()
    });
    let mut meter = meters(card.path(), 1).unwrap().remove(0);
    let (mut good, mut failed, mut restarted) = (vec![], 0, 0);
    for at in (0..10 * SECOND).step_by(50_000_000) {
        card.set_now(at);
        match meter.read(Moment(at)) {
            Ok(reading) => good.push((at, reading.counter.0)),
            Err(messplus::energy::MeterError::Failed(_)) => failed += 1,
            Err(messplus::energy::MeterError::Restarted(_)) => restarted += 1,
        }
    }
    assert_eq!(restarted, 1);
    assert!(failed >= 59 && good.iter().all(|(at, _)| !(2 * SECOND..5 * SECOND).contains(at)));
    // The counter began anew while nobody saw it.
    assert!(
        good[0].1 > 123_000_000_000 && good[good.len() - 1].1 < 500_000_000,
        "{good:?}"
    );
}

#[test]
fn a_forbidden_card_is_refused_in_words() {
    let forbidden = FaultWindow {
        from: 0.0,
        until: 9.0,
        fault: Fault::NoPermission,
    };
    let board = BoardConfig {
        faults: vec![forbidden],
        ..BoardConfig::default()
    };
    let card = Card::new(&Config {
        boards: vec![board],
        ..Config::default()
    });
    let error = meters(card.path(), 1).err().unwrap();
    assert!(
        error.contains("no permission") && error.contains("utility"),
        "{error}"
    );
}
