//! The books of all devices, kept from one stream of entries. The energy thread and the replay of its tape both go
//! through [`Accounting::apply`] and nothing else, so a tape gives the same microjoules again.

use serde::{Deserialize, Serialize};

use super::book::DeviceBook;
use super::events::Look;
use super::ledger::{Bill, Ledger};
use super::meter::{Meter, MeterError, Reading};
use super::records::StepRecord;
use super::report::{DeviceTotals, RequestEnergy, Source};
use super::sampling::Edge;
use super::settings::IdlePolicy;
use crate::units::{DeviceId, Microjoules, Moment, RequestId, Watts};

/// What happened, in the order in which it was learnt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Entry {
    /// A step begins.
    Begin { device: DeviceId, at: Moment },
    /// A step ended.
    Step(StepRecord),
    /// A meter was read.
    Reading {
        device: DeviceId,
        at: Moment,
        read: Result<Reading, MeterError>,
        edge: Edge,
        /// The counter's period in seconds, once known.
        period: Option<f64>,
    },
    /// The device's meter became another: what the old books had not settled by `at` is guessed, and new books begin.
    Meter {
        at: Moment,
        why: String,
        opening: Opening,
    },
    /// No more steps of this request will come.
    Finished(RequestId),
    /// Everything up to here was known together: what can be settled is.
    Settle,
}

/// What the books of a device begin from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Opening {
    pub(super) device: DeviceId,
    pub(super) name: String,
    /// The meter in words.
    pub(super) meter: String,
    pub(super) source: Source,
    pub(super) reads_are_instant: bool,
    pub(super) follows_steps: bool,
    pub(super) declared_idle: Option<Watts>,
    pub(super) averages_over: Option<f64>,
    /// Totals of an earlier process.
    pub(super) earlier: Option<DeviceTotals>,
}

impl Opening {
    pub(super) fn new(
        device: DeviceId,
        name: &str,
        meter: &dyn Meter,
        earlier: Option<DeviceTotals>,
    ) -> Self {
        Self {
            device,
            name: name.to_owned(),
            meter: meter.describe(),
            source: meter.source(),
            reads_are_instant: meter.reads_are_instant(),
            follows_steps: meter.follows_steps(),
            declared_idle: meter.declared_idle(),
            averages_over: meter.averages_over(),
            earlier,
        }
    }
}

impl Opening {
    /// Whether the books of this opening are still books of this meter.
    pub(super) fn fits(&self, meter: &dyn Meter) -> bool {
        (self.source, self.reads_are_instant, self.follows_steps)
            == (meter.source(), meter.reads_are_instant(), meter.follows_steps())
            && (self.declared_idle, self.averages_over) == (meter.declared_idle(), meter.averages_over())
    }
}

/// The books ask a meter only for what it is, so an opening can stand in for it.
impl Meter for Opening {
    fn source(&self) -> Source {
        self.source
    }

    fn describe(&self) -> String {
        self.meter.clone()
    }

    fn read(&mut self, _now: Moment) -> Result<Reading, MeterError> {
        Err(MeterError::Failed(
            "a meter that was once can no longer be read".to_owned(),
        ))
    }

    fn reads_are_instant(&self) -> bool {
        self.reads_are_instant
    }

    fn follows_steps(&self) -> bool {
        self.follows_steps
    }

    fn declared_idle(&self) -> Option<Watts> {
        self.declared_idle
    }

    fn averages_over(&self) -> Option<f64> {
        self.averages_over
    }
}

struct Device {
    opening: Opening,
    book: DeviceBook,
    /// Of earlier processes, and of earlier meters of this one.
    earlier_gap_seconds: f64,
}

pub(super) struct Accounting {
    devices: Vec<Device>,
    ledger: Ledger,
    policy: IdlePolicy,
    /// What devices counted by meters of another kind, before their meter changed.
    former: Vec<DeviceTotals>,
}

impl Accounting {
    /// Devices are numbered by their place in `openings` from here on.
    pub(super) fn new(openings: Vec<Opening>, policy: IdlePolicy) -> Self {
        let sources: Vec<Source> = openings.iter().map(|o| o.source).collect();
        let mut ledger = Ledger::new(&sources);
        let devices = openings
            .into_iter()
            .enumerate()
            .map(|(place, opening)| {
                let place = DeviceId(place as u16);
                if let Some(totals) = &opening.earlier {
                    ledger.restore(place, totals);
                }
                let book = DeviceBook::new(place, &opening.name, &opening, policy);
                let earlier_gap_seconds = opening.earlier.as_ref().map_or(0.0, |e| e.gap_seconds);
                Device {
                    opening,
                    book,
                    earlier_gap_seconds,
                }
            })
            .collect();
        Self {
            devices,
            ledger,
            policy,
            former: Vec::new(),
        }
    }

    /// Takes in what happened. Gives each request whose energy became final, once.
    pub(super) fn apply(&mut self, entry: Entry) -> Vec<(RequestId, RequestEnergy)> {
        match entry {
            Entry::Begin { device, at } => {
                if let Some(place) = self.place(device) {
                    self.devices[place].book.begin(at);
                }
            }
            Entry::Step(step) => {
                if let Some(place) = self.place(step.device) {
                    self.devices[place].book.record(step, &mut self.ledger);
                }
            }
            Entry::Reading {
                device,
                at,
                read,
                edge,
                period,
            } => {
                if let Some(place) = self.place(device) {
                    let period = period.unwrap_or(f64::INFINITY);
                    self.devices[place].book.sample(at, read, Look { edge, period });
                }
            }
            Entry::Meter { at, why, opening } => self.change_meter(at, &why, opening),
            Entry::Finished(id) => self.ledger.finish(id),
            Entry::Settle => return self.settle(),
        }
        Vec::new()
    }

    fn change_meter(&mut self, at: Moment, why: &str, opening: Opening) {
        let Some(place) = self.place(opening.device) else {
            return;
        };
        let number = DeviceId(place as u16);
        let book = DeviceBook::new(number, &opening.name, &opening, self.policy);
        let device = &mut self.devices[place];
        device.earlier_gap_seconds += device.book.give_way(at, why, book, &mut self.ledger);
        if device.opening.source != opening.source {
            // Joules of another kind of meter are another quantity.
            let totals = self.device_totals(place);
            self.former.push(totals);
            self.ledger.reopen(number, opening.source);
            if let Some(earlier) = &opening.earlier {
                self.ledger.restore(number, earlier);
            }
            self.devices[place].earlier_gap_seconds = opening.earlier.as_ref().map_or(0.0, |e| e.gap_seconds);
        }
        self.devices[place].opening = opening;
    }

    fn settle(&mut self) -> Vec<(RequestId, RequestEnergy)> {
        for device in &mut self.devices {
            device.book.settle(&mut self.ledger);
        }
        if !self.ledger.has_finishing() {
            return Vec::new();
        }
        let settled: Vec<Moment> = self.devices.iter().map(|d| d.book.settled_until()).collect();
        self.ledger.close_settled(&settled)
    }

    pub(super) fn opening(&self, place: usize) -> &Opening {
        &self.devices[place].opening
    }

    /// The place of the device that its lane calls `device`.
    pub(super) fn place(&self, device: DeviceId) -> Option<usize> {
        self.devices.iter().position(|d| d.opening.device == device)
    }

    pub(super) fn book(&self, place: usize) -> &DeviceBook {
        &self.devices[place].book
    }

    pub(super) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The request's energy, with a prediction for what is not settled.
    pub(super) fn request(&self, id: RequestId) -> Option<RequestEnergy> {
        let mut pending = Bill::default();
        for device in &self.devices {
            device.book.pending_bill(id, &mut pending);
        }
        self.ledger.energy(id, pending)
    }

    /// Each device's accounts.
    pub(super) fn totals(&self) -> Vec<DeviceTotals> {
        (0..self.devices.len())
            .map(|place| self.device_totals(place))
            .collect()
    }

    /// What devices counted by meters of another kind than their present one.
    pub(super) fn former(&self) -> &[DeviceTotals] {
        &self.former
    }

    fn device_totals(&self, place: usize) -> DeviceTotals {
        let device = &self.devices[place];
        let accounts = self.ledger.accounts(DeviceId(place as u16));
        DeviceTotals {
            name: device.opening.name.clone(),
            source: device.opening.source,
            measured: Microjoules(accounts.measured),
            request: Microjoules(accounts.request),
            exploration: Microjoules(accounts.exploration),
            router: Microjoules(accounts.router),
            idle: Microjoules(accounts.idle),
            load: Microjoules(accounts.load),
            unattributed: Microjoules(accounts.unattributed),
            gap_seconds: device.earlier_gap_seconds + device.book.follower().gap_seconds(),
        }
    }
}
