//! A tape gives back what the energy thread said, to the microjoule, and never stands in the way of serving.

use std::collections::BTreeMap;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::accounting::{Accounting, Entry, Opening};
use super::sampling::Edge;
use super::tape::{Header, Tape};
use super::test_world::{FakeMeter, block_on};
use super::*;
use crate::units::{Clock, DeviceId, Microjoules, ModelId, Moment, RequestId};

fn lane(device: u16) -> LaneDevice {
    LaneDevice {
        device: DeviceId(device),
        name: format!("lane {device}"),
        cuda_ordinal: None,
        cuda_uuid: None,
    }
}

fn recording(path: &Path) -> MeterSettings {
    MeterSettings {
        record: Some(path.to_owned()),
        models: vec!["small".into(), "large".into()],
        ..MeterSettings::default()
    }
}

/// A step of one row on the device, by the real clock.
fn work(handle: &EnergyHandle, clock: &Clock, device: u16, account: Account, millis: u64) {
    let (device, start) = (DeviceId(device), clock.now());
    handle.begin_step(device, start);
    std::thread::sleep(Duration::from_millis(millis));
    let row = StepRow {
        account,
        prefill_tokens: 5,
        decode_tokens: 1,
        context: 6,
    };
    handle.record(StepRecord {
        device,
        model: ModelId(0),
        start,
        end: clock.now(),
        rows: vec![row],
    });
}

/// Starts a thread with three kinds of meter that writes to `path`.
fn start(path: &Path, clock: Clock, restored: Option<Vec<DeviceTotals>>) -> EnergyHandle {
    let modelled = MeterSettings {
        meter: MeterChoice::Modelled,
        ..MeterSettings::default()
    };
    let mut meters = open_meters(&modelled, &[lane(2)]).unwrap();
    meters.push(Box::new(FakeMeter::instant(40.0, clock)));
    meters.push(Box::new(FakeMeter::ticking(70.0, 0.03, clock)));
    let lanes = [lane(2), lane(5), lane(3)];
    EnergyHandle::start(meters, &lanes, &recording(path), clock, restored)
}

/// Serves some requests; gives their final energies and the last totals.
fn serve(
    handle: &EnergyHandle,
    clock: &Clock,
    ids: std::ops::Range<u64>,
) -> (BTreeMap<RequestId, RequestEnergy>, Vec<DeviceTotals>) {
    let mut finals = handle.subscribe();
    std::thread::sleep(Duration::from_millis(100));
    work(handle, clock, 5, Account::Router, 2);
    for id in ids.clone().map(RequestId) {
        for device in [2, 5, 3] {
            work(handle, clock, device, Account::Request(id), 1 + id.0 % 7);
        }
        work(handle, clock, 3, Account::Exploration(id), 3);
        handle.finished(id);
    }
    let last = block_on(handle.settled(RequestId(ids.end - 1))).unwrap();
    assert!(last.is_final);
    let totals = block_on(handle.shutdown());
    let mut said = BTreeMap::new();
    while let Ok((id, energy)) = finals.try_recv() {
        said.insert(id, energy);
    }
    assert_eq!(said.len() as u64, ids.end - ids.start);
    (said, totals)
}

#[test]
fn a_replayed_tape_says_what_the_thread_said() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tape.jsonl");
    let clock = Clock::start();
    let (mut said, totals) = serve(&start(&path, clock, None), &clock, 0..20);
    // A thread held up between looking at the clock and telling of its step gets nothing for it; not all are.
    assert!(said.values().any(|energy| energy.exploration.0 > 0.0));
    assert_eq!(
        replay_tape(&path).unwrap(),
        TapeReplay {
            devices: totals.clone(),
            requests: said.clone()
        }
    );
    // Another process goes on in the same file, with what the first one counted.
    let (more, totals) = serve(&start(&path, clock, Some(totals)), &clock, 20..30);
    said.extend(more);
    let replay = replay_tape(&path).unwrap();
    assert_eq!(
        replay,
        TapeReplay {
            devices: totals,
            requests: said
        }
    );
    assert!(replay.devices.iter().all(|d| d.measured.0 > 0 && d.request.0 > 0));

    // What a killed process leaves is replayed up to where it ends.
    let text = std::fs::read_to_string(&path).unwrap();
    let cut = folder.path().join("cut.jsonl");
    std::fs::write(&cut, &text[..text.len() - 5]).unwrap();
    assert!(!replay_tape(&cut).unwrap().requests.is_empty());
}

#[test]
fn what_is_no_tape_is_refused_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tape.jsonl");
    let clock = Clock::start();
    serve(&start(&path, clock, None), &clock, 0..1);
    let text = std::fs::read_to_string(&path).unwrap();
    let refusal = |text: &str| {
        let path = folder.path().join("other.jsonl");
        std::fs::write(&path, text).unwrap();
        replay_tape(&path).unwrap_err().to_string()
    };
    assert!(refusal(&text.replacen("settle", "sattle", 1)).contains("is no line of a tape"));
    assert!(
        refusal(&text.replacen("\"version\":1", "\"version\":7", 1))
            .contains("line 1 begins a tape of version 7")
    );
    let (_, headless) = text.split_once('\n').unwrap();
    assert!(refusal(headless).contains("line 1 is no line of a tape: no header"));
    assert!(
        replay_tape(Path::new("/nowhere/tape"))
            .unwrap_err()
            .to_string()
            .contains("/nowhere/tape cannot be read")
    );
}

#[test]
fn a_record_that_cannot_be_written_is_refused_before_anything_is_loaded() {
    let error = check_record(&recording(Path::new("/nowhere/tape")))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("record = \"/nowhere/tape\" cannot be written"),
        "{error}"
    );
    assert!(check_record(&MeterSettings::default()).is_ok());
}

/// A pipe whose reader goes away is a disk that fails in the middle.
#[test]
fn a_record_that_fails_later_ends_with_one_alarm_and_serving_goes_on() {
    let (reader, writer) = std::io::pipe().unwrap();
    let path = format!("/proc/self/fd/{}", writer.as_raw_fd());
    let clock = Clock::start();
    let handle = start(Path::new(&path), clock, None);
    let alarms = || block_on(handle.devices()).remove(0);
    assert_eq!(alarms().alarm_counts.get(&AlarmKind::Record), None);
    drop((reader, writer));
    for id in 0..5 {
        work(&handle, &clock, 2, Account::Request(RequestId(id)), 5);
        handle.finished(RequestId(id));
        assert!(block_on(handle.settled(RequestId(id))).unwrap().is_final);
    }
    let device = alarms();
    assert_eq!(device.alarm_counts.get(&AlarmKind::Record), Some(&1));
    assert!(
        device
            .alarms
            .iter()
            .any(|a| a.contains("the record cannot be written")),
        "{:?}",
        device.alarms
    );
    assert_eq!(device.measured, device.accounted());
}

fn kinds(clock: Clock) -> [Box<dyn Meter>; 3] {
    let modelled = MeterSettings {
        meter: MeterChoice::Modelled,
        ..MeterSettings::default()
    };
    [
        Box::new(FakeMeter::instant(1.0, clock)),
        Box::new(FakeMeter::ticking(1.0, 0.1, clock)),
        open_meters(&modelled, &[lane(2)]).unwrap().remove(0),
    ]
}

fn entry() -> impl Strategy<Value = (u64, Entry)> {
    let account = prop_oneof![
        6 => (0u64..6).prop_map(|id| Account::Request(RequestId(id))),
        2 => (0u64..6).prop_map(|id| Account::Exploration(RequestId(id))),
        1 => Just(Account::Router),
        1 => Just(Account::Load),
    ];
    let row = (account, 0u32..300, 0u32..2, 0u32..2_000).prop_map(
        |(account, prefill_tokens, decode_tokens, context)| StepRow {
            account,
            prefill_tokens,
            decode_tokens,
            context,
        },
    );
    let device = || (0u16..3).prop_map(DeviceId);
    let step = (device(), 0u16..3, prop::collection::vec(row, 0..5)).prop_map(|(device, model, rows)| {
        Entry::Step(StepRecord {
            device,
            model: ModelId(model),
            start: Moment(0),
            end: Moment(0),
            rows,
        })
    });
    let read = prop_oneof![
        8 => (0u64..9_000_000, prop::option::of(0.0..500.0f64))
            .prop_map(|(counter, watts)| Ok(Reading { counter: Microjoules(counter), power: watts.map(crate::units::Watts) })),
        1 => Just(Err(MeterError::Failed("away \"again\"\n".into()))),
        1 => Just(Err(MeterError::Restarted("anew".into()))),
    ];
    let edge = prop_oneof![Just(Edge::None), Just(Edge::Sharp), Just(Edge::Blurred)];
    let reading =
        (device(), read, edge, prop::option::of(0.01..0.2f64)).prop_map(|(device, read, edge, period)| {
            Entry::Reading {
                device,
                at: Moment(0),
                read,
                edge,
                period,
            }
        });
    let change = (device(), 0usize..3).prop_map(|(device, kind)| {
        let opening = Opening::new(
            device,
            &format!("lane {}", device.0),
            kinds(Clock::start())[kind].as_ref(),
            None,
        );
        let why = "played".to_owned();
        Entry::Meter {
            at: Moment(0),
            why,
            opening,
        }
    });
    let entry = prop_oneof![
        8 => step,
        8 => reading,
        1 => change,
        2 => device().prop_map(|device| Entry::Begin { device, at: Moment(0) }),
        2 => (0u64..6).prop_map(|id| Entry::Finished(RequestId(id))),
        4 => Just(Entry::Settle),
    ];
    (
        prop_oneof![20 => 0u64..90_000_000, 1 => Just(5_000_000_000)],
        entry,
    )
}

/// Gives the entries their times. Counters rise by what was drawn, but for one in nine that goes back.
fn timed(drawn: Vec<(u64, Entry)>) -> Vec<Entry> {
    let (mut now, mut counters) = (Moment(1_000_000_000), [0u64; 3]);
    drawn
        .into_iter()
        .map(|(pause, mut entry)| {
            let before = now;
            now = Moment(now.0 + pause);
            match &mut entry {
                Entry::Begin { at, .. } | Entry::Meter { at, .. } => *at = now,
                Entry::Step(step) => (step.start, step.end) = (before, now),
                Entry::Reading { at, read, device, .. } => {
                    *at = now;
                    if let Ok(reading) = read {
                        let counter = &mut counters[device.index()];
                        *counter = match reading.counter.0 {
                            0..1_000_000 => *counter / 2,
                            rise => *counter + rise,
                        };
                        reading.counter = Microjoules(*counter);
                    }
                }
                Entry::Finished(_) | Entry::Settle => {}
            }
            entry
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_stream_of_entries_survives_the_tape(drawn in prop::collection::vec(entry(), 0..150), shared: bool) {
        let clock = Clock::start();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tape");
        let settings = MeterSettings {
            idle: if shared { IdlePolicy::Shared } else { IdlePolicy::Separate },
            ..recording(&path)
        };
        let kinds = kinds(clock);
        let openings: Vec<Opening> = (0..3)
            .map(|d| Opening::new(DeviceId(d), &format!("lane {d}"), kinds[usize::from(d)].as_ref(), None))
            .collect();
        let header = Header::new(&settings, openings.clone(), &clock);
        let mut tape = Tape::begin(&path, &header).unwrap();
        let mut books = Accounting::new(openings, settings.idle);
        let mut requests = BTreeMap::new();
        for entry in timed(drawn) {
            tape.write(&entry).unwrap();
            requests.extend(books.apply(entry));
        }
        tape.flush().unwrap();
        for totals in books.totals().iter().chain(books.former()) {
            let t = totals;
            prop_assert_eq!(t.measured, t.request + t.exploration + t.router + t.idle + t.load + t.unattributed);
        }
        let devices = [books.totals(), books.former().to_vec()].concat();
        prop_assert_eq!(replay_tape(&path).unwrap(), TapeReplay { devices, requests });
    }
}
