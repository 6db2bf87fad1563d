//! A meter that turns out to be another: nothing of its trial is booked when it fails, everything when it passes, and
//! the joules of two kinds of meter never share an account.

use std::time::Duration;

use super::test_world::block_on;
use super::*;
use crate::units::{Clock, DeviceId, Microjoules, ModelId, Moment, RequestId, Watts};

/// On trial for its first `trial` reads, at 100 W and 200 W more for a step; then as `after` says.
struct Suspect {
    reads: u32,
    worked: f64,
    trial: u32,
    after: After,
}

#[derive(Clone, Copy, PartialEq)]
enum After {
    Passes,
    FailsForGood,
    ReadsPower,
    IsModelled,
    /// Is on trial for good, and away.
    IsAway,
}

impl Suspect {
    fn is_over(&self) -> bool {
        self.reads > self.trial && self.after != After::IsAway
    }
}

impl Meter for Suspect {
    fn source(&self) -> Source {
        match self.after {
            After::IsModelled if self.is_over() => Source::Modelled,
            _ => Source::Nvml,
        }
    }

    fn describe(&self) -> String {
        "on trial".into()
    }

    fn observe(&mut self, step: &StepRecord) {
        self.worked += step.end.seconds_since(step.start);
    }

    fn read(&mut self, now: Moment) -> Result<Reading, MeterError> {
        self.reads += 1;
        match self.after {
            After::IsAway => return Err(MeterError::Failed("away".into())),
            After::FailsForGood if self.is_over() => {
                return Err(MeterError::Failed("not to be believed".into()));
            }
            After::ReadsPower | After::IsModelled if self.reads == self.trial + 1 => {
                return Err(MeterError::Restarted("not to be believed".into()));
            }
            _ => {}
        }
        Ok(Reading {
            counter: Microjoules(now.0 / 10 + (self.worked * 2e8) as u64),
            power: None,
        })
    }

    fn reads_are_instant(&self) -> bool {
        self.is_over() && matches!(self.after, After::ReadsPower | After::IsModelled)
    }

    fn declared_idle(&self) -> Option<Watts> {
        (self.source() == Source::Modelled).then_some(Watts(100.0))
    }

    fn is_on_trial(&self) -> bool {
        !self.is_over()
    }
}

struct Outcome {
    on_trial: DeviceEnergy,
    early: RequestEnergy,
    late: RequestEnergy,
    device: DeviceEnergy,
    totals: Vec<DeviceTotals>,
}

/// Serves one request during the trial and one after it, and checks that the tape tells the same.
fn serve(after: After) -> Outcome {
    let clock = Clock::start();
    let lane = LaneDevice {
        device: DeviceId(0),
        name: "gpu".into(),
        cuda_ordinal: None,
        cuda_uuid: None,
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tape");
    let settings = MeterSettings {
        record: Some(path.clone()),
        ..MeterSettings::default()
    };
    let earlier = DeviceTotals {
        name: "gpu".into(),
        source: Source::Modelled,
        measured: Microjoules(7),
        request: Microjoules(7),
        exploration: Microjoules(0),
        router: Microjoules(0),
        idle: Microjoules(0),
        load: Microjoules(0),
        unattributed: Microjoules(0),
        gap_seconds: 0.0,
    };
    let suspect = Suspect {
        reads: 0,
        worked: 0.0,
        trial: 60,
        after,
    };
    let handle = EnergyHandle::start(
        vec![Box::new(suspect)],
        &[lane],
        &settings,
        clock,
        Some(vec![earlier]),
    );
    let serve = |id: u64| {
        let start = clock.now();
        handle.begin_step(DeviceId(0), start);
        std::thread::sleep(Duration::from_millis(30));
        handle.record(StepRecord {
            device: DeviceId(0),
            model: ModelId(0),
            start,
            end: clock.now(),
            rows: vec![StepRow {
                account: Account::Request(RequestId(id)),
                prefill_tokens: 3,
                decode_tokens: 1,
                context: 4,
            }],
        });
        handle.finished(RequestId(id));
    };
    std::thread::sleep(Duration::from_millis(20));
    serve(1);
    let on_trial = block_on(handle.devices()).remove(0);
    let early = block_on(handle.settled(RequestId(1))).unwrap();
    std::thread::sleep(Duration::from_millis(150));
    serve(2);
    let late = block_on(handle.settled(RequestId(2))).unwrap();
    let device = block_on(handle.devices()).remove(0);
    let totals = block_on(handle.shutdown());
    assert_eq!(device.measured, device.accounted());
    let replay = replay_tape(&path).unwrap();
    assert_eq!(replay.requests[&RequestId(1)], early);
    assert_eq!(replay.requests[&RequestId(2)], late);
    assert!(
        totals[..replay.devices.len()] == replay.devices[..],
        "{totals:?} {:?}",
        replay.devices
    );
    Outcome {
        on_trial,
        early,
        late,
        device,
        totals,
    }
}

#[test]
fn a_trial_that_is_passed_is_booked_whole() {
    let seen = serve(After::Passes);
    assert_eq!(seen.on_trial.measured, Microjoules(0));
    assert!(seen.early.is_final && seen.early.source == Source::Nvml);
    assert!(seen.early.total().0 > 1.0, "{:?}", seen.early);
    assert!(seen.device.alarms.is_empty(), "{:?}", seen.device.alarms);
}

#[test]
fn a_counter_that_gives_way_to_power_leaves_an_estimate_a_gap_and_an_alarm() {
    let seen = serve(After::ReadsPower);
    assert_eq!(seen.early.source, Source::Modelled);
    assert!(seen.early.is_final && seen.late.is_final);
    assert_eq!(seen.late.source, Source::Nvml);
    assert!(seen.late.total().0 > 1.0, "{:?}", seen.late);
    assert_eq!(seen.device.alarm_counts[&AlarmKind::Untrusted], 1);
    assert_eq!(seen.totals.len(), 2, "the stray is still there");
}

#[test]
fn a_meter_that_becomes_the_estimate_changes_its_accounts_too() {
    let seen = serve(After::IsModelled);
    assert_eq!(
        (seen.device.source, seen.late.source),
        (Source::Modelled, Source::Modelled)
    );
    let nvml: Vec<_> = seen.totals.iter().filter(|t| t.source == Source::Nvml).collect();
    assert!(
        matches!(nvml[..], [t] if t.measured == Microjoules(0)),
        "{nvml:?}"
    );
    // The earlier process's estimate goes on in these accounts.
    assert_eq!(seen.totals.len(), 2);
    assert!(seen.device.request.0 > 1_000_000, "{:?}", seen.device);
}

#[test]
fn a_meter_asked_for_by_name_stays_itself_with_a_gap_and_an_alarm() {
    let seen = serve(After::FailsForGood);
    assert_eq!(
        (seen.device.source, seen.device.measured),
        (Source::Nvml, Microjoules(0))
    );
    assert_eq!(
        (seen.early.source, seen.late.source),
        (Source::Modelled, Source::Modelled)
    );
    assert!(seen.device.gap_seconds > 2.0, "{}", seen.device.gap_seconds);
    assert!(seen.device.alarms[0].contains("not to be believed"));
}

#[test]
fn a_meter_that_is_away_during_its_trial_is_told_of() {
    let seen = serve(After::IsAway);
    assert_eq!(
        (seen.early.source, seen.late.source),
        (Source::Modelled, Source::Modelled)
    );
    assert_eq!(seen.device.alarm_counts[&AlarmKind::Unreadable], 1);
}
