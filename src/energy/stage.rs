//! The stage on which accounts are held against the truth: a played lane's joules are spent on a stand-in card, NVML's
//! meter reads that card in virtual time, and the very code of the energy thread books what it reads.

use std::collections::BTreeMap;

use nvml_standin::{BoardConfig, Card, Config};

use super::accounting::{Accounting, Entry, Opening};
use super::nvml::NvmlMeter;
use super::played_lane::PlayedLane;
use super::report::{DeviceTotals, RequestEnergy, Source};
use super::settings::{IdlePolicy, LaneDevice};
use super::station::Station;
use crate::units::{DeviceId, Microjoules, Moment, RequestId};

/// What came out.
pub(super) struct Outcome {
    /// Settled bills, as the thread gives them to its subscribers.
    pub(super) bills: BTreeMap<RequestId, RequestEnergy>,
    pub(super) books: Accounting,
    /// Every good reading of the counter.
    pub(super) readings: Vec<(Moment, Microjoules)>,
    /// What the card truly drew from the first good reading to the last, in joules.
    pub(super) drawn: f64,
}

impl Outcome {
    pub(super) fn totals(&self) -> DeviceTotals {
        self.books.totals().remove(0)
    }

    pub(super) fn lag_seconds(&self) -> f64 {
        self.books.book(0).lag_seconds()
    }

    pub(super) fn idle_watts(&self) -> f64 {
        self.books.book(0).law().idle_watts()
    }
}

/// Plays the lane on a card of its own, whose counter never falls.
pub(super) fn play(lane: &PlayedLane, board: BoardConfig, seed: u64) -> Outcome {
    let config = Config {
        seed,
        boards: vec![board],
        ..Config::default()
    };
    let outcome = play_on(&Card::new(&config), &config, lane, IdlePolicy::Separate);
    check(&outcome);
    outcome
}

/// Plays the lane on the card, which is configured anew.
pub(super) fn play_on(card: &Card, config: &Config, lane: &PlayedLane, idle: IdlePolicy) -> Outcome {
    card.configure(config);
    for (step, joules) in lane.steps.iter().zip(&lane.joules) {
        card.spend(0, step.start.0, step.end.0, (joules * 1e6).round() as u64);
    }
    let device = LaneDevice {
        device: DeviceId(0),
        name: "played".into(),
        cuda_ordinal: None,
        cuda_uuid: None,
    };
    // A card that is refused because its reads fail by chance is tried again, as its owner would.
    let mut tries = (0..20).map(|_| NvmlMeter::open(Some(card.path()), 0));
    let meter = Box::new(tries.find_map(Result::ok).expect("the card can be read"));
    let opening = Opening::new(device.device, &device.name, meter.as_ref(), None);
    let mut station = Station::new(meter, &device);
    let mut books = Accounting::new(vec![opening], idle);
    let (mut bills, mut readings) = (BTreeMap::new(), Vec::new());
    let mut finishes: Vec<(Moment, RequestId)> = lane.lives.iter().map(|(id, l)| (l.1, *id)).collect();
    finishes.sort_unstable();
    let (mut at, mut recorded, mut begun, mut finished) = (Moment(0), 0, 0, 0);
    while at < lane.end {
        while let Some(step) = lane.steps.get(recorded) {
            if begun == recorded && step.start <= at {
                books.apply(Entry::Begin {
                    device: step.device,
                    at: step.start,
                });
                begun += 1;
            }
            if begun == recorded || step.end > at {
                break;
            }
            books.apply(Entry::Step(step.clone()));
            recorded += 1;
        }
        while finishes.get(finished).is_some_and(|(end, _)| *end <= at) {
            books.apply(Entry::Finished(finishes[finished].1));
            finished += 1;
        }
        card.set_now(at.0);
        let entry = station.read(at);
        if let Entry::Reading {
            read: Ok(reading), ..
        } = &entry
        {
            readings.push((at, reading.counter));
        }
        let sifted = station.sift(at, entry, books.opening(0));
        for entry in sifted.entries {
            books.apply(entry);
        }
        if sifted.is_another_meter {
            let opening = Opening::new(device.device, &device.name, station.meter.as_ref(), None);
            let why = "its test".to_owned();
            books.apply(Entry::Meter { at, why, opening });
        }
        bills.extend(books.apply(Entry::Settle));
        // As the thread, which wakes a tenth of a millisecond late.
        at = station.ticks.next().max(Moment(at.0 + 100_000));
    }
    let drawn = |at: &(Moment, Microjoules)| card.truth(0, at.0.0) as f64 * 1e-6;
    Outcome {
        bills,
        drawn: drawn(&readings[readings.len() - 1]) - drawn(&readings[0]),
        books,
        readings,
    }
}

/// The accounts are the meter's to the microjoule, and all bills together are the requests' account.
fn check(outcome: &Outcome) {
    let (t, readings, bills) = (outcome.totals(), &outcome.readings, &outcome.bills);
    assert_eq!(t.measured, accounted(&t));
    // From one reading near the first to one near the last: a tick's beginning and end may have gone unseen.
    let near = |at: Moment, other: Moment| at.seconds_since(other).max(other.seconds_since(at)) < 1.0;
    let (first, last) = (readings[0].0, readings[readings.len() - 1].0);
    let begins: Vec<_> = readings.iter().filter(|r| near(r.0, first)).collect();
    let mut ends = readings.iter().filter(|r| near(r.0, last));
    assert!(
        ends.any(|end| begins.iter().any(|begin| begin.1 + t.measured == end.1)),
        "{:?} is no difference of the counter",
        t.measured
    );
    if bills.values().all(|bill| bill.source == Source::Nvml) {
        let billed: f64 = bills.values().map(|bill| bill.total().0).sum();
        let account = t.request.joules().0;
        assert!(
            (billed - account).abs() <= 1e-9 * account,
            "{billed} J billed, {account} J in the account"
        );
    }
}

/// The sum of the accounts.
pub(super) fn accounted(t: &DeviceTotals) -> Microjoules {
    t.request + t.exploration + t.router + t.idle + t.load + t.unattributed
}
