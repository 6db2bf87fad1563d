//! The law of the house as a property: whatever the lane does and however the meter misbehaves, the accounts sum to
//! what was measured, exactly, and no true counter difference is booked twice.

use proptest::prelude::*;

use super::book::DeviceBook;
use super::events::Look;
use super::ledger::{Bill, Ledger};
use super::meter::{Meter, MeterError, Reading};
use super::records::{Account, StepRecord, StepRow};
use super::report::Source;
use super::sampling::Edge;
use super::settings::IdlePolicy;
use crate::units::{DeviceId, Microjoules, ModelId, Moment, RequestId, Watts};

const DEVICE: DeviceId = DeviceId(0);
const LOOK: Look = Look {
    edge: Edge::Sharp,
    period: 0.1,
};

#[derive(Clone, Debug)]
enum Happening {
    /// A step of a model: milliseconds, rows as (account, prefill, decode, context).
    Step {
        model: u16,
        millis: u64,
        rows: Vec<(u8, u32, u32, u32)>,
        announced: bool,
    },
    /// A reading after some milliseconds in which the counter rose.
    Read {
        millis: u64,
        rise: u64,
        edge: u8,
    },
    Fail {
        millis: u64,
        restarted: bool,
    },
    Reset {
        to: u64,
    },
    ClockBack {
        millis: u64,
    },
    Finish {
        id: u8,
    },
    Settle,
}

/// Source, whether its reads are instant, declared idle power, window of averaging.
struct Kind(Source, bool, Option<Watts>, Option<f64>);

impl Meter for Kind {
    fn source(&self) -> Source {
        self.0
    }
    fn describe(&self) -> String {
        "played".into()
    }
    fn read(&mut self, _now: Moment) -> Result<Reading, MeterError> {
        Err(MeterError::Failed("readings are played".into()))
    }
    fn reads_are_instant(&self) -> bool {
        self.1
    }
    fn declared_idle(&self) -> Option<Watts> {
        self.2
    }
    fn averages_over(&self) -> Option<f64> {
        self.3
    }
}

const KINDS: [Kind; 5] = [
    Kind(Source::Nvml, false, None, None),
    Kind(Source::Nvml, true, None, None),
    Kind(Source::Nvml, true, None, Some(1.0)),
    Kind(Source::Rapl, true, None, None),
    Kind(Source::Rapl, true, Some(Watts(20.0)), None),
];

fn happening() -> impl Strategy<Value = Happening> {
    let row = (0u8..8, 0u32..300, 0u32..2, 0u32..4_000);
    prop_oneof![
        6 => (0u16..3, 0u64..400, prop::collection::vec(row, 0..6), any::<bool>())
            .prop_map(|(model, millis, rows, announced)| Happening::Step { model, millis, rows, announced }),
        8 => (0u64..150, 0u64..40_000_000, 0u8..6)
            .prop_map(|(millis, rise, edge)| Happening::Read { millis, rise, edge }),
        1 => (0u64..3_000, any::<bool>()).prop_map(|(millis, restarted)| Happening::Fail { millis, restarted }),
        1 => (0u64..1_000).prop_map(|to| Happening::Reset { to }),
        1 => (1u64..5_000).prop_map(|millis| Happening::ClockBack { millis }),
        2 => (0u8..8).prop_map(|id| Happening::Finish { id }),
        3 => Just(Happening::Settle),
    ]
}

fn account(n: u8) -> Account {
    match n {
        6 => Account::Router,
        7 => Account::Load,
        5 => Account::Exploration(RequestId(2)),
        n => Account::Request(RequestId(u64::from(n))),
    }
}

fn play(kind: &Kind, policy: IdlePolicy, happenings: &[Happening]) -> Result<(), TestCaseError> {
    let mut book = DeviceBook::new(DEVICE, "played", kind, policy);
    let mut ledger = Ledger::new(&[kind.0]);
    let (mut now, mut counter, mut risen) = (Moment(10_000_000_000), 5_000_000u64, 0u64);
    let mut last = [0; 7];
    for happening in happenings {
        match happening {
            Happening::Step {
                model,
                millis,
                rows,
                announced,
            } => {
                let start = now;
                if *announced {
                    book.begin(start);
                    book.settle(&mut ledger);
                }
                now = Moment(now.0 + millis * 1_000_000);
                let rows = rows
                    .iter()
                    .map(|&(n, prefill_tokens, decode_tokens, context)| StepRow {
                        account: account(n),
                        prefill_tokens,
                        decode_tokens,
                        context,
                    });
                let rows = rows.collect();
                book.record(
                    StepRecord {
                        device: DEVICE,
                        model: ModelId(*model),
                        start,
                        end: now,
                        rows,
                    },
                    &mut ledger,
                );
            }
            Happening::Read { millis, rise, edge } => {
                let edge = [Edge::None, Edge::Blurred, Edge::Sharp][usize::from(*edge).min(2)];
                now = Moment(now.0 + millis * 1_000_000);
                counter += rise;
                risen += rise;
                book.sample(
                    now,
                    Ok(Reading {
                        counter: Microjoules(counter),
                        power: None,
                    }),
                    Look { edge, ..LOOK },
                );
            }
            Happening::Fail { millis, restarted } => {
                now = Moment(now.0 + millis * 1_000_000);
                let error = if *restarted {
                    MeterError::Restarted
                } else {
                    MeterError::Failed
                };
                book.sample(now, Err(error("played".into())), LOOK);
            }
            Happening::Reset { to } => counter = counter.min(*to),
            Happening::ClockBack { millis } => now = Moment(now.0.saturating_sub(millis * 1_000_000)),
            Happening::Finish { id } => ledger.finish(RequestId(u64::from(*id))),
            Happening::Settle => {
                book.settle(&mut ledger);
                ledger.close_settled(&[book.settled_until()]);
            }
        }
        let accounts = ledger.accounts(DEVICE);
        prop_assert_eq!(accounts.measured, accounts.sum());
        prop_assert!(
            accounts.measured <= risen,
            "{} booked of {} counted",
            accounts.measured,
            risen
        );
        let parts = [
            accounts.measured,
            accounts.request,
            accounts.exploration,
            accounts.router,
            accounts.idle,
            accounts.load,
            accounts.unattributed,
        ];
        prop_assert!(
            parts.iter().zip(last).all(|(now, before)| *now >= before),
            "a share was negative: {last:?} became {parts:?}"
        );
        last = parts;
    }
    book.settle(&mut ledger);
    let accounts = ledger.accounts(DEVICE);
    let bills = (0..8).filter_map(|n| ledger.energy(RequestId(n), Bill::default()));
    let measured: f64 = bills
        .filter(|e| e.source == kind.0)
        .map(|e| e.total().0 + e.exploration.0)
        .sum();
    prop_assert!(measured <= (accounts.request + accounts.exploration) as f64 * 1e-6 + 1e-6);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn accounts_sum_to_the_meter_whatever_happens(happenings in prop::collection::vec(happening(), 1..120), shared: bool) {
        let policy = if shared { IdlePolicy::Shared } else { IdlePolicy::Separate };
        for kind in KINDS {
            play(&kind, policy, &happenings)?;
        }
    }

    #[test]
    fn a_healthy_meter_is_booked_whole(steps in prop::collection::vec((0u16..3, 1u64..60, 1u8..5), 1..80)) {
        let mut book = DeviceBook::new(DEVICE, "played", &Kind(Source::Rapl, true, None, None), IdlePolicy::Separate);
        let mut ledger = Ledger::new(&[Source::Rapl]);
        let (mut now, mut counter) = (Moment(1_000_000_000), 77u64);
        book.sample(now, Ok(Reading { counter: Microjoules(counter), power: None }), LOOK);
        for (model, millis, rows) in steps {
            let start = now;
            book.begin(start);
            // A reading in the middle of the step must wait for its record.
            now = Moment(now.0 + millis * 500_000);
            counter += 1_000 * millis + 13;
            book.sample(now, Ok(Reading { counter: Microjoules(counter), power: None }), LOOK);
            book.settle(&mut ledger);
            now = Moment(now.0 + millis * 500_000);
            let rows = (0..rows).map(|n| StepRow { account: account(n), prefill_tokens: 0, decode_tokens: 1, context: 9 });
            let rows = rows.collect();
            book.record(StepRecord { device: DEVICE, model: ModelId(model), start, end: now, rows }, &mut ledger);
        }
        counter += 991;
        now = Moment(now.0 + 1_000_000);
        book.sample(now, Ok(Reading { counter: Microjoules(counter), power: None }), LOOK);
        book.settle(&mut ledger);
        let accounts = ledger.accounts(DEVICE);
        prop_assert_eq!(accounts.measured, counter - 77);
        prop_assert_eq!(accounts.measured, accounts.sum());
        prop_assert_eq!(accounts.unattributed, 0);
        prop_assert_eq!(book.follower().gap_seconds(), 0.0);
        let bills: u64 = (0..5).filter_map(|n| ledger.energy(RequestId(n), Bill::default())).map(|e| (e.total().0 * 1e6).round() as u64).sum();
        prop_assert_eq!(bills, accounts.request);
    }
}
