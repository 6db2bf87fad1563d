//! One device's books in the cases that the properties do not single out.

use super::book::DeviceBook;
use super::events::Look;
use super::ledger::{Bill, Ledger};
use super::meter::{Meter, MeterError, Reading};
use super::records::{Account, StepRecord, StepRow};
use super::report::{RequestEnergy, Source};
use super::sampling::Edge;
use super::settings::IdlePolicy;
use crate::units::{DeviceId, Microjoules, ModelId, Moment, RequestId};

const DEVICE: DeviceId = DeviceId(0);
const LOOK: Look = Look {
    edge: Edge::Sharp,
    period: 0.1,
};
const REQUEST: RequestId = RequestId(7);

struct Instant;

impl Meter for Instant {
    fn source(&self) -> Source {
        Source::Rapl
    }
    fn describe(&self) -> String {
        "played".into()
    }
    fn read(&mut self, _now: Moment) -> Result<Reading, MeterError> {
        Err(MeterError::Failed("readings are played".into()))
    }
    fn reads_are_instant(&self) -> bool {
        true
    }
}

struct Desk {
    book: DeviceBook,
    ledger: Ledger,
}

impl Desk {
    fn new(policy: IdlePolicy) -> Self {
        Self {
            book: DeviceBook::new(DEVICE, "played", &Instant, policy),
            ledger: Ledger::new(&[Source::Rapl]),
        }
    }

    /// Reads `joules` at `ms` and settles.
    fn read(&mut self, ms: u64, joules: f64) {
        let counter = Microjoules((joules * 1e6) as u64);
        self.book
            .sample(at(ms), Ok(Reading { counter, power: None }), LOOK);
        self.book.settle(&mut self.ledger);
    }

    fn fail(&mut self, ms: u64) {
        self.book
            .sample(at(ms), Err(MeterError::Failed("gone".into())), LOOK);
        self.book.settle(&mut self.ledger);
    }

    fn step(&mut self, account: Account, from: u64, to: u64) {
        let (prefill, decode) = if account == Account::Router {
            (0, 0)
        } else {
            (10, 0)
        };
        let row = StepRow {
            account,
            prefill_tokens: prefill,
            decode_tokens: decode,
            context: prefill,
        };
        let step = StepRecord {
            device: DEVICE,
            model: ModelId(0),
            start: at(from),
            end: at(to),
            rows: vec![row],
        };
        self.book.record(step, &mut self.ledger);
    }

    fn close(&mut self) -> Vec<(RequestId, RequestEnergy)> {
        self.ledger.finish(REQUEST);
        self.ledger.close_settled(&[self.book.settled_until()])
    }

    fn energy(&self) -> RequestEnergy {
        self.ledger.energy(REQUEST, Bill::default()).unwrap()
    }
}

fn at(ms: u64) -> Moment {
    Moment(ms * 1_000_000)
}

#[test]
fn an_outage_is_bridged_by_a_labelled_estimate_and_its_energy_found_is_nobodys() {
    let mut desk = Desk::new(IdlePolicy::Separate);
    let mut joules = 0.0;
    for k in 0..60 {
        desk.read(k * 20, joules);
        if k % 2 == 0 && k > 10 {
            desk.step(Account::Request(RequestId(1)), k * 20, k * 20 + 20);
            joules += 0.4;
        }
        joules += 0.2;
    }
    let before = desk.ledger.accounts(DEVICE);
    desk.step(Account::Request(REQUEST), 2_000, 2_020);
    for ms in (1_200..6_000).step_by(20) {
        desk.fail(ms);
    }
    let closed = desk.close();
    assert_eq!(
        (closed[0].1.source, closed[0].1.is_final),
        (Source::Modelled, true)
    );
    let estimate = closed[0].1.total().0;
    assert!(
        (estimate / 0.4 - 1.0).abs() < 0.05,
        "{estimate} J guessed for a step like those before of 0.4 J"
    );
    assert_eq!(desk.ledger.accounts(DEVICE), before);
    assert!(desk.book.follower().gap_seconds() > 4.5);

    desk.read(6_000, joules + 60.0);
    let after = desk.ledger.accounts(DEVICE);
    assert_eq!(after.request, before.request);
    assert!(after.idle > before.idle && after.unattributed > 0);
    assert_eq!(after.measured - before.measured, after.sum() - before.sum());
    assert!(after.measured.abs_diff(((joules + 60.0) * 1e6) as u64) <= 1);
    assert!(
        desk.book
            .follower()
            .alarms()
            .latest()
            .iter()
            .any(|a| a.contains("reads again"))
    );
}

#[test]
fn the_routers_work_beside_a_step_does_not_end_it() {
    let mut desk = Desk::new(IdlePolicy::Separate);
    desk.read(0, 0.0);
    desk.book.begin(at(10));
    desk.step(Account::Router, 12, 14);
    desk.read(20, 1.0);
    assert_eq!(
        desk.ledger.accounts(DEVICE).measured,
        0,
        "the interval must wait for the lane's record"
    );
    desk.step(Account::Request(REQUEST), 10, 30);
    desk.book.settle(&mut desk.ledger);
    let accounts = desk.ledger.accounts(DEVICE);
    assert!(accounts.router > 0 && accounts.request > accounts.router);
    assert_eq!(accounts.measured, 1_000_000);
}

#[test]
fn a_step_longer_than_all_patience_loses_nothing() {
    let mut desk = Desk::new(IdlePolicy::Separate);
    desk.read(0, 0.0);
    desk.book.begin(at(1));
    for k in 1..=10_000u64 {
        desk.read(k * 20, k as f64);
    }
    desk.step(Account::Request(REQUEST), 1, 199_990);
    desk.book.settle(&mut desk.ledger);
    let accounts = desk.ledger.accounts(DEVICE);
    assert_eq!((accounts.measured, accounts.unattributed), (10_000_000_000, 0));
    assert!(accounts.request > 9_900_000_000);
    assert_eq!(desk.close().len(), 1);
}

#[test]
fn a_step_told_too_late_is_counted_and_gets_nothing() {
    let mut desk = Desk::new(IdlePolicy::Separate);
    desk.read(0, 0.0);
    desk.read(100, 5.0);
    desk.step(Account::Request(REQUEST), 20, 40);
    assert_eq!(desk.book.late_steps(), 1);
    assert_eq!(desk.close()[0].1.total().0, 0.0);
}

#[test]
fn shared_idle_falls_to_who_is_there() {
    let mut desk = Desk::new(IdlePolicy::Shared);
    desk.read(0, 0.0);
    desk.read(20, 0.2);
    assert_eq!(desk.ledger.accounts(DEVICE).idle, 200_000);
    desk.step(Account::Request(REQUEST), 20, 40);
    for ms in [40, 60, 80] {
        desk.read(ms, ms as f64 * 0.01);
    }
    assert_eq!(desk.ledger.accounts(DEVICE).idle, 200_000);
    assert!((desk.energy().total().0 - 0.6).abs() < 1e-6);
    desk.close();
    desk.read(100, 1.0);
    assert_eq!(desk.ledger.accounts(DEVICE).idle, 400_000);
}
