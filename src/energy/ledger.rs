//! The accounts: per device in whole microjoules that sum to the meter, per request as long as somebody may ask.

use std::collections::{BTreeMap, VecDeque};

use super::attribution::Slot;
use super::report::{DeviceTotals, RequestEnergy, Source};
use crate::units::{DeviceId, Joules, Microjoules, Moment, RequestId};

/// Settled requests that can still be asked for. Older ones live in the store, if anywhere.
const MOST_SETTLED: usize = 4_096;
/// Requests under way; beyond it the oldest were surely forgotten by their owner.
const MOST_OPEN: usize = 65_536;

/// One device's accounts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Accounts {
    pub(super) measured: u64,
    pub(super) request: u64,
    pub(super) exploration: u64,
    pub(super) router: u64,
    pub(super) idle: u64,
    pub(super) load: u64,
    pub(super) unattributed: u64,
}

impl Accounts {
    /// Equal to `measured`, always.
    pub(super) fn sum(&self) -> u64 {
        self.request + self.exploration + self.router + self.idle + self.load + self.unattributed
    }

    fn of(&mut self, slot: Slot) -> &mut u64 {
        match slot {
            Slot::Prefill(_) | Slot::Decode(_) => &mut self.request,
            Slot::Exploration(_) => &mut self.exploration,
            Slot::Router => &mut self.router,
            Slot::Load => &mut self.load,
            Slot::Idle => &mut self.idle,
            Slot::Unattributed => &mut self.unattributed,
        }
    }
}

/// Energy by the three columns of a request's bill.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Bill<T> {
    pub(super) prefill: T,
    pub(super) decode: T,
    pub(super) exploration: T,
}

impl<T> Bill<T> {
    pub(super) fn column(&mut self, slot: Slot) -> Option<(RequestId, &mut T)> {
        match slot {
            Slot::Prefill(id) => Some((id, &mut self.prefill)),
            Slot::Decode(id) => Some((id, &mut self.decode)),
            Slot::Exploration(id) => Some((id, &mut self.exploration)),
            Slot::Router | Slot::Load | Slot::Idle | Slot::Unattributed => None,
        }
    }
}

#[derive(Debug)]
struct OpenRequest {
    settled: Bill<u64>,
    /// Joules guessed for steps in gaps; in no account, because no meter counted them.
    guessed: Bill<f64>,
    source: Option<Source>,
    /// Until when its steps ran, on each device it used.
    reach: Vec<(DeviceId, Moment)>,
    finished: bool,
    is_final: bool,
}

pub(super) struct Ledger {
    accounts: Vec<Accounts>,
    requests: BTreeMap<RequestId, OpenRequest>,
    finishing: Vec<RequestId>,
    settled: VecDeque<RequestId>,
    default_source: Source,
}

impl Ledger {
    /// One set of accounts per source, devices numbered in order.
    pub(super) fn new(sources: &[Source]) -> Self {
        Self {
            accounts: vec![Accounts::default(); sources.len()],
            requests: BTreeMap::new(),
            finishing: Vec::new(),
            settled: VecDeque::new(),
            default_source: sources.iter().copied().max().unwrap_or(Source::Modelled),
        }
    }

    /// Adds an earlier process's totals to a device. `measured` is taken as the sum of the accounts, so that a damaged
    /// record cannot break the law of this one.
    pub(super) fn restore(&mut self, device: DeviceId, totals: &DeviceTotals) {
        let accounts = &mut self.accounts[device.index()];
        accounts.request += totals.request.0;
        accounts.exploration += totals.exploration.0;
        accounts.router += totals.router.0;
        accounts.idle += totals.idle.0;
        accounts.load += totals.load.0;
        accounts.unattributed += totals.unattributed.0;
        accounts.measured = accounts.sum();
    }

    /// The device's accounts begin anew, with another kind of meter.
    pub(super) fn reopen(&mut self, device: DeviceId, source: Source) {
        self.accounts[device.index()] = Accounts::default();
        self.default_source = self.default_source.max(source);
    }

    pub(super) fn accounts(&self, device: DeviceId) -> Accounts {
        self.accounts[device.index()]
    }

    /// Books measured energy.
    pub(super) fn book(&mut self, device: DeviceId, shares: &[(Slot, Microjoules)]) {
        let accounts = &mut self.accounts[device.index()];
        for (slot, energy) in shares {
            accounts.measured += energy.0;
            *accounts.of(*slot) += energy.0;
            if let Some(request) = request_of(*slot).and_then(|id| self.requests.get_mut(&id))
                && let Some((_, column)) = request.settled.column(*slot)
            {
                *column += energy.0;
            }
        }
        debug_assert_eq!(accounts.measured, accounts.sum());
    }

    /// Notes guessed energy of a gap. The request is thereby an estimate.
    pub(super) fn guess(&mut self, slot: Slot, joules: f64) {
        if let Some(request) = request_of(slot).and_then(|id| self.requests.get_mut(&id)) {
            request.source = Some(Source::Modelled);
            if let Some((_, column)) = request.guessed.column(slot) {
                *column += joules;
            }
        }
    }

    /// A step of the request ran on the device until `end`.
    pub(super) fn touch(&mut self, id: RequestId, device: DeviceId, source: Source, end: Moment) {
        let request = self.open(id);
        request.source = request.source.max(Some(source));
        match request.reach.iter_mut().find(|(d, _)| *d == device) {
            Some((_, until)) => *until = (*until).max(end),
            None => request.reach.push((device, end)),
        }
    }

    /// The device's clock went back: no step reaches beyond its new time.
    pub(super) fn rewind(&mut self, device: DeviceId, to: Moment) {
        for request in self.requests.values_mut() {
            request
                .reach
                .iter_mut()
                .filter(|(d, _)| *d == device)
                .for_each(|(_, until)| *until = (*until).min(to));
        }
    }

    /// No more steps of this request will come.
    pub(super) fn finish(&mut self, id: RequestId) {
        let request = self.open(id);
        if !request.finished {
            request.finished = true;
            self.finishing.push(id);
        }
    }

    pub(super) fn is_open(&self, id: RequestId) -> bool {
        self.requests.get(&id).is_some_and(|r| !r.finished)
    }

    pub(super) fn is_known(&self, id: RequestId) -> bool {
        self.requests.contains_key(&id)
    }

    /// Whether finished requests still wait for their device's meter.
    pub(super) fn has_finishing(&self) -> bool {
        !self.finishing.is_empty()
    }

    /// Closes the finished requests all of whose steps lie before their devices' settled time, and gives each once.
    pub(super) fn close_settled(&mut self, settled_until: &[Moment]) -> Vec<(RequestId, RequestEnergy)> {
        let requests = &mut self.requests;
        let mut closed = Vec::new();
        self.finishing.retain(|id| {
            let Some(request) = requests.get_mut(id) else {
                return false;
            };
            let done = request
                .reach
                .iter()
                .all(|(device, until)| *until <= settled_until[device.index()]);
            if done {
                request.is_final = true;
                closed.push(*id);
            }
            !done
        });
        self.settled.extend(&closed);
        while self.settled.len() > MOST_SETTLED {
            if let Some(id) = self.settled.pop_front() {
                self.requests.remove(&id);
            }
        }
        closed
            .into_iter()
            .filter_map(|id| Some((id, self.energy(id, Bill::default())?)))
            .collect()
    }

    /// The request's bill so far: settled shares, guesses for gaps, and `pending`, a prediction for unsettled steps.
    pub(super) fn energy(&self, id: RequestId, pending: Bill<f64>) -> Option<RequestEnergy> {
        let request = self.requests.get(&id)?;
        let joules = |settled: u64, guessed: f64, pending: f64| {
            Joules(Microjoules(settled).joules().0 + guessed + if request.is_final { 0.0 } else { pending })
        };
        let (settled, guessed) = (&request.settled, &request.guessed);
        Some(RequestEnergy {
            prefill: joules(settled.prefill, guessed.prefill, pending.prefill),
            decode: joules(settled.decode, guessed.decode, pending.decode),
            exploration: joules(settled.exploration, guessed.exploration, pending.exploration),
            source: request.source.unwrap_or(self.default_source),
            is_final: request.is_final,
        })
    }

    fn open(&mut self, id: RequestId) -> &mut OpenRequest {
        if self.requests.len() >= MOST_OPEN + MOST_SETTLED && !self.requests.contains_key(&id) {
            tracing::warn!("energy: more than {MOST_OPEN} requests under way; the oldest is forgotten");
            self.requests.pop_first();
        }
        self.requests.entry(id).or_insert_with(|| OpenRequest {
            settled: Bill::default(),
            guessed: Bill::default(),
            source: None,
            reach: Vec::new(),
            finished: false,
            is_final: false,
        })
    }
}

fn request_of(slot: Slot) -> Option<RequestId> {
    match slot {
        Slot::Prefill(id) | Slot::Decode(id) | Slot::Exploration(id) => Some(id),
        Slot::Router | Slot::Load | Slot::Idle | Slot::Unattributed => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICE: DeviceId = DeviceId(0);

    #[test]
    fn a_request_is_final_once_its_last_step_is_settled() {
        let mut ledger = Ledger::new(&[Source::Nvml]);
        let id = RequestId(9);
        ledger.touch(id, DEVICE, Source::Nvml, Moment(50));
        ledger.book(
            DEVICE,
            &[(Slot::Prefill(id), Microjoules(7)), (Slot::Idle, Microjoules(3))],
        );
        ledger.finish(id);
        assert!(ledger.close_settled(&[Moment(49)]).is_empty());
        let closed = ledger.close_settled(&[Moment(50)]);
        assert!(closed.len() == 1 && closed[0].1.is_final && closed[0].1.source == Source::Nvml);
        assert!(ledger.close_settled(&[Moment(51)]).is_empty());
        assert_eq!(ledger.accounts(DEVICE).measured, 10);
    }

    #[test]
    fn a_guess_is_labelled_and_in_no_account() {
        let mut ledger = Ledger::new(&[Source::Nvml]);
        let id = RequestId(9);
        ledger.touch(id, DEVICE, Source::Nvml, Moment(50));
        ledger.guess(Slot::Decode(id), 0.5);
        let energy = ledger.energy(id, Bill::default()).unwrap();
        assert_eq!((energy.decode, energy.source), (Joules(0.5), Source::Modelled));
        assert_eq!(ledger.accounts(DEVICE).measured, 0);
    }

    #[test]
    fn memory_is_bounded() {
        let mut ledger = Ledger::new(&[Source::Nvml]);
        for id in 0..10_000 {
            ledger.finish(RequestId(id));
            ledger.close_settled(&[Moment(0)]);
        }
        assert_eq!(ledger.requests.len(), MOST_SETTLED);
        assert!(!ledger.is_known(RequestId(0)) && ledger.is_known(RequestId(9_999)));
    }
}
