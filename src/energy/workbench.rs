//! The rooms behind the energy thread, opened for `benches/energy.rs` alone: the same steps again and again, in virtual
//! time, so that what a tick and a fit cost can be measured.

use super::accounting::{Accounting, Entry, Opening};
use super::features::StepFeatures;
use super::law::{Law, Tick};
use super::meter::Reading;
use super::records::{Account, StepRecord, StepRow};
use super::report::Source;
use super::sampling::Edge;
use super::settings::IdlePolicy;
use crate::units::{DeviceId, Microjoules, ModelId, Moment, RequestId};

const DEVICE: DeviceId = DeviceId(0);
const TICK_NANOS: u64 = 100_000_000;
/// Steps of each model in a tick.
const STEPS: u64 = 3;

/// Books and a law that have seen some work.
pub struct Workbench {
    rows: u32,
    models: u16,
    ticks: u64,
    counter: u64,
    books: Accounting,
    law: Law,
}

impl Workbench {
    /// Every step has `rows` rows; every tick of 100 ms holds three steps of each of the `models`.
    pub fn new(rows: u32, models: u16) -> Self {
        let opening = Opening {
            device: DEVICE,
            name: "bench".to_owned(),
            meter: "played".to_owned(),
            source: Source::Nvml,
            reads_are_instant: false,
            follows_steps: false,
            declared_idle: None,
            averages_over: None,
            earlier: None,
        };
        let mut bench = Self {
            rows,
            models,
            ticks: 0,
            counter: 0,
            books: Accounting::new(vec![opening], IdlePolicy::Separate),
            law: Law::new(None),
        };
        for _ in 0..64 {
            bench.tick();
            bench.update_law();
        }
        bench
    }

    /// One tick of the counter: its steps are recorded, its reading taken, its joules shared out, the law taught.
    pub fn tick(&mut self) -> Microjoules {
        let steps = self.steps();
        self.ticks += 1;
        let at = Moment(self.ticks * TICK_NANOS);
        for step in steps {
            self.counter += self.joules(&StepFeatures::of(&step));
            let begin = Entry::Begin {
                device: DEVICE,
                at: step.start,
            };
            self.books.apply(begin);
            self.books.apply(Entry::Step(step));
        }
        self.counter += 7_500_000;
        let reading = Reading {
            counter: Microjoules(self.counter),
            power: None,
        };
        self.books.apply(Entry::Reading {
            device: DEVICE,
            at,
            read: Ok(reading),
            edge: Edge::Sharp,
            period: Some(TICK_NANOS as f64 * 1e-9),
        });
        self.books.apply(Entry::Settle);
        Microjoules(self.books.ledger().accounts(DEVICE).measured)
    }

    /// The law alone takes in one tick and, as often as it does so, fits anew. Gives the idle watts.
    pub fn update_law(&mut self) -> f64 {
        let parts: Vec<StepFeatures> = self.steps().iter().map(StepFeatures::of).collect();
        let joules: u64 = parts.iter().map(|part| self.joules(part)).sum();
        self.ticks += 1;
        self.law.observe_tick(&Tick {
            seconds: TICK_NANOS as f64 * 1e-9,
            joules: 7.5 + joules as f64 * 1e-6,
            parts: &parts,
        });
        self.law.idle_watts()
    }

    fn joules(&self, step: &StepFeatures) -> u64 {
        let law = [1e4, 2e6, 5e4, 40.0];
        step.values.iter().zip(law).map(|(v, c)| v * c).sum::<f64>() as u64
    }

    fn steps(&self) -> Vec<StepRecord> {
        let count = STEPS * u64::from(self.models);
        let length = TICK_NANOS / count;
        let begin = self.ticks * TICK_NANOS;
        (0..count)
            .map(|k| {
                let model = ModelId((k % u64::from(self.models)) as u16);
                let start = begin + k * length;
                StepRecord {
                    device: DEVICE,
                    model,
                    start: Moment(start),
                    end: Moment(start + length - 100_000),
                    rows: (0..self.rows).map(|row| self.row(model, row)).collect(),
                }
            })
            .collect()
    }

    /// The first row of each step is a chunk of a prompt, the others decode.
    fn row(&self, model: ModelId, row: u32) -> StepRow {
        let id = u64::from(model.0) * u64::from(self.rows) + u64::from(row);
        let prefill_tokens = if row == 0 {
            (self.ticks * 37 % 400) as u32
        } else {
            0
        };
        StepRow {
            account: Account::Request(RequestId(id)),
            prefill_tokens,
            decode_tokens: u32::from(row > 0),
            context: 100 + (self.ticks * 13 % 3_000) as u32,
        }
    }
}
