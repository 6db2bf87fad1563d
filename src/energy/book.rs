//! One device's books: readings and step records come in, intervals are settled once everything that ran in them is
//! known. Pure: time is passed in.
//!
//! A step is recorded only when it ends, so an interval that ended while a step ran must wait for that step's record.
//! The lane says when a step begins; up to that moment, or up to now when none runs, everything is known.

use std::collections::VecDeque;

use super::attribution::{Basis, Interval, Portion, Slot, row_shares, split};
use super::counter::CounterFollower;
use super::events::{Event, Look, Pace};
use super::features::{StepFeatures, Work};
use super::lag::LagScan;
use super::law::{Law, Tick};
use super::ledger::{Bill, Ledger};
use super::meter::{Meter, MeterError, Reading};
use super::records::{Account, StepRecord};
use super::report::Source;
use super::residents::Residents;
use super::settings::IdlePolicy;
use super::smear::Smear;
use crate::units::{DeviceId, Microjoules, Moment, RequestId};

/// Intervals that may wait for a running step. A single step that outlasts them merges the oldest.
const MOST_PENDING: usize = 4_096;

/// A recorded step, from the first moment of it that is not settled.
struct BookedStep {
    record: StepRecord,
    features: StepFeatures,
    from: Moment,
}

impl BookedStep {
    /// The share of the step that the meter shows from `from` to `until`, given that what lies before `self.from` is
    /// settled.
    fn share(&self, smear: Smear, from: Moment, until: Moment) -> f64 {
        smear.share((self.from, self.record.end), (from, until))
    }
}

pub(super) struct DeviceBook {
    device: DeviceId,
    source: Source,
    policy: IdlePolicy,
    basis: Basis,
    follower: CounterFollower,
    law: Law,
    lag: Option<LagScan>,
    smear: Smear,
    steps: Vec<BookedStep>,
    pending: VecDeque<Event>,
    running: Option<Moment>,
    settled_until: Option<Moment>,
    /// The counter's own time of the last settled interval's end, for the lag scan.
    counted_until: Option<Moment>,
    /// Energy of intervals that a grown lag pushed wholly into settled time.
    carry: Microjoules,
    /// The next interval's length in time is not the one in which its energy was spent.
    lag_was_new: bool,
    was_quiet: bool,
    gap_had_work: bool,
    residents: Residents,
    recent_joules: f64,
    recent_seconds: f64,
    late_steps: u64,
}

impl DeviceBook {
    /// `name` is what people call the device.
    pub(super) fn new(device: DeviceId, name: &str, meter: &dyn Meter, policy: IdlePolicy) -> Self {
        let pace = match (meter.follows_steps(), meter.reads_are_instant()) {
            (true, _) => Pace::Exact,
            (false, true) if meter.source() == Source::Nvml => Pace::Integrated,
            (false, true) => Pace::Instant,
            (false, false) => Pace::Ticking,
        };
        let smear = Smear::new(meter.averages_over());
        Self {
            device,
            source: meter.source(),
            policy,
            basis: if pace == Pace::Exact {
                Basis::Time
            } else {
                Basis::Law
            },
            follower: CounterFollower::new(pace, name),
            law: Law::new(meter.declared_idle().map(|w| w.0)),
            lag: (meter.source() == Source::Nvml).then(|| LagScan::new(smear)),
            smear,
            steps: Vec::new(),
            pending: VecDeque::new(),
            running: None,
            settled_until: None,
            counted_until: None,
            carry: Microjoules(0),
            lag_was_new: false,
            was_quiet: true,
            gap_had_work: false,
            residents: Residents::default(),
            recent_joules: 0.0,
            recent_seconds: 0.0,
            late_steps: 0,
        }
    }

    pub(super) fn follower(&self) -> &CounterFollower {
        &self.follower
    }

    pub(super) fn law(&self) -> &Law {
        &self.law
    }

    pub(super) fn lag_seconds(&self) -> f64 {
        self.lag_nanos() as f64 * 1e-9
    }

    /// Whether the lag was looked for long enough; a meter that shows energy at once has none to find.
    pub(super) fn lag_is_found(&self) -> bool {
        self.lag.as_ref().is_none_or(LagScan::is_found)
    }

    pub(super) fn late_steps(&self) -> u64 {
        self.late_steps
    }

    /// When the running step began, if one runs.
    pub(super) fn running(&self) -> Option<Moment> {
        self.running
    }

    /// Everything that was spent before this moment is settled.
    pub(super) fn settled_until(&self) -> Moment {
        self.smear.complete_until(self.shown_until())
    }

    /// Everything that the meter showed before this moment, its lag taken off, is booked.
    fn shown_until(&self) -> Moment {
        self.settled_until.unwrap_or(Moment(0))
    }

    /// Mean power over about the last second of settled intervals.
    pub(super) fn watts(&self) -> f64 {
        if self.recent_seconds > 0.0 {
            self.recent_joules / self.recent_seconds
        } else {
            0.0
        }
    }

    /// A step begins. A step begun before and never recorded is thereby given up.
    pub(super) fn begin(&mut self, at: Moment) {
        self.running = Some(at);
    }

    /// A step ended.
    pub(super) fn record(&mut self, step: StepRecord, ledger: &mut Ledger) {
        let features = StepFeatures::of(&step);
        // Work beside the lane (the router's) is recorded too, and must not pass for the lane's own step.
        if features.work != Work::Router && self.running.is_some_and(|since| step.end >= since) {
            self.running = None;
        }
        self.law.observe_step(&features);
        if let Some(lag) = &mut self.lag {
            lag.observe_step(step.start, step.end, features);
        }
        for row in &step.rows {
            if let Account::Request(id) | Account::Exploration(id) = row.account {
                ledger.touch(id, self.device, self.source, step.end);
            }
        }
        if self.policy == IdlePolicy::Shared {
            self.residents.observe(&step);
        }
        let settled = self.shown_until();
        if step.end <= settled && self.settled_until.is_some() {
            self.late_steps += 1;
            return;
        }
        let from = step.start.max(settled).min(step.end);
        self.steps.push(BookedStep {
            record: step,
            features,
            from,
        });
    }

    /// A reading, good or failed.
    pub(super) fn sample(&mut self, at: Moment, reading: Result<Reading, MeterError>, look: Look) {
        self.settled_until
            .get_or_insert(Moment(at.0.saturating_sub(self.lag_nanos())));
        self.counted_until.get_or_insert(at);
        self.pending.extend(self.follower.sample(at, reading, look));
        if self.pending.len() > MOST_PENDING {
            self.merge_oldest();
        }
    }

    /// Gives way at `at` to the book of another meter: what is not settled is guessed. Gives the seconds that the old
    /// meter lost.
    pub(super) fn give_way(&mut self, at: Moment, why: &str, mut next: Self, ledger: &mut Ledger) -> f64 {
        self.pending.clear();
        self.settle_gap(self.shown_last(at), ledger);
        let lost = next.follower.inherit(&mut self.follower, at, why);
        next.running = self.running;
        next.late_steps = self.late_steps;
        *self = next;
        lost
    }

    /// Settles what can be settled: everything up to the running step's beginning.
    pub(super) fn settle(&mut self, ledger: &mut Ledger) {
        while let Some(event) = self.pending.front() {
            let rewind_ahead = self.running.is_some()
                && self
                    .pending
                    .iter()
                    .any(|event| matches!(event, Event::Rewind { .. }));
            let end = match event {
                Event::Interval { end, .. } | Event::Gap { until: end } => Some(self.spent(*end)),
                Event::Unplaced { .. } | Event::Rewind { .. } => None,
            };
            let unknown = |since: Moment| end.is_some_and(|end| end > since);
            if self.running.is_some_and(unknown) && !rewind_ahead {
                return;
            }
            let Some(event) = self.pending.pop_front() else {
                return;
            };
            match event {
                Event::Interval { end, energy, clean } => self.settle_interval(end, energy, clean, ledger),
                Event::Gap { until } => self.settle_gap(until, ledger),
                Event::Unplaced { energy, seconds } => self.settle_unplaced(energy, seconds, ledger),
                Event::Rewind { to } => self.rewind(to, ledger),
            }
        }
    }

    /// The predicted bill of the request's steps that are not settled yet.
    pub(super) fn pending_bill(&self, id: RequestId, bill: &mut Bill<f64>) {
        let settled = self.shown_until();
        let own = |step: &&BookedStep| {
            step.record
                .rows
                .iter()
                .any(|r| matches!(r.account, Account::Request(i) | Account::Exploration(i) if i == id))
        };
        for step in self.steps.iter().filter(own) {
            let joules = self.law.joules(&step.features.part(step.share(
                self.smear,
                settled,
                Moment(u64::MAX),
            )));
            for (slot, share) in row_shares(&step.record.rows, &self.law.coefficients(step.features.work)) {
                if let Some((_, column)) = bill.column(slot).filter(|(owner, _)| *owner == id) {
                    *column += joules * share;
                }
            }
        }
    }

    fn settle_interval(&mut self, end: Moment, energy: Microjoules, clean: bool, ledger: &mut Ledger) {
        let (from, until) = (self.shown_until(), self.spent(end));
        let clean = clean && self.carry.0 == 0 && !std::mem::take(&mut self.lag_was_new);
        let energy = energy + std::mem::take(&mut self.carry);
        if until <= from {
            self.carry = energy;
            self.counted_until = Some(end);
            return;
        }
        let seconds = until.seconds_since(from);
        let portions: Vec<Portion> = self
            .steps
            .iter()
            .map(|step| (step, step.share(self.smear, from, until)))
            .filter(|(_, share)| *share > 0.0)
            .map(|(step, share)| Portion {
                rows: &step.record.rows,
                part: step.features.part(share),
            })
            .collect();
        let residents = self.residents.within(from, until, ledger);
        let interval = Interval {
            energy,
            seconds,
            portions: &portions,
            residents: &residents,
        };
        ledger.book(self.device, &split(&interval, &self.law, self.basis));

        let parts: Vec<StepFeatures> = portions.iter().map(|p| p.part).collect();
        let joules = energy.joules().0;
        let fade = (-seconds).exp();
        self.recent_joules = self.recent_joules * fade + joules;
        self.recent_seconds = self.recent_seconds * fade + seconds;
        let mut lag_changed = false;
        if clean {
            learn(&mut self.law, &mut self.was_quiet, seconds, joules, &parts);
            if let (Some(lag), Some(start)) = (&mut self.lag, self.counted_until) {
                lag_changed = lag.observe_tick(start, end, joules);
            }
        }
        self.was_quiet = parts.is_empty();
        self.advance(until, end, ledger);
        if lag_changed {
            self.place_anew();
        }
    }

    /// Another lag: what was learnt from ticks placed wrongly in time is learnt anew from the same ticks.
    fn place_anew(&mut self) {
        tracing::info!(
            "energy: the meter shows energy {:.0} ms late",
            self.lag_seconds() * 1e3
        );
        self.lag_was_new = true;
        self.law.forget_ticks();
        self.was_quiet = false;
        for tick in self.lag.iter().flat_map(LagScan::placed_ticks) {
            learn(
                &mut self.law,
                &mut self.was_quiet,
                tick.seconds,
                tick.joules,
                &tick.parts,
            );
        }
    }

    fn settle_gap(&mut self, until: Moment, ledger: &mut Ledger) {
        let (from, spent) = (self.shown_until(), self.spent(until));
        if let Some(lag) = &mut self.lag {
            lag.forget_ticks();
        }
        for step in &self.steps {
            let share = step.share(self.smear, from, spent);
            if share > 0.0 {
                self.gap_had_work = true;
                let joules = self.law.joules(&step.features.part(share));
                for (slot, fraction) in
                    row_shares(&step.record.rows, &self.law.coefficients(step.features.work))
                {
                    ledger.guess(slot, joules * fraction);
                }
            }
        }
        self.was_quiet = false;
        self.advance(spent, until, ledger);
    }

    fn settle_unplaced(&mut self, energy: Microjoules, seconds: f64, ledger: &mut Ledger) {
        let energy = energy + std::mem::take(&mut self.carry);
        let idle = if std::mem::take(&mut self.gap_had_work) {
            energy.0.min((self.law.idle_watts() * seconds * 1e6) as u64)
        } else {
            energy.0
        };
        let rest = Microjoules(energy.0 - idle);
        ledger.book(
            self.device,
            &[(Slot::Idle, Microjoules(idle)), (Slot::Unattributed, rest)],
        );
    }

    fn rewind(&mut self, to: Moment, ledger: &mut Ledger) {
        let last = self.steps.iter().map(|step| step.record.end).max();
        if let Some(last) = last {
            let counted = self
                .counted_until
                .unwrap_or(last)
                .max(last.max(self.shown_until()));
            self.settle_gap(self.shown_last(counted), ledger);
        }
        self.gap_had_work |= self.running.is_some();
        self.steps.clear();
        if let Some(lag) = &mut self.lag {
            lag.clear();
        }
        self.residents.clear();
        self.running = self.running.map(|since| since.min(to));
        self.settled_until = Some(Moment(to.0.saturating_sub(self.lag_nanos())));
        self.counted_until = Some(to);
        ledger.rewind(self.device, self.shown_until());
    }

    fn advance(&mut self, spent: Moment, counted: Moment, ledger: &Ledger) {
        self.settled_until = Some(self.shown_until().max(spent));
        self.counted_until = Some(counted);
        let smear = self.smear;
        self.steps.retain(|step| {
            smear.shown_until(step.record.end) > spent || (step.record.end <= step.from && step.from >= spent)
        });
        self.residents.settle(spent, ledger);
    }

    fn merge_oldest(&mut self) {
        if let [
            Event::Interval { energy: first, .. },
            Event::Interval { energy, clean, .. },
        ] = &mut self.pending.make_contiguous()[..2]
        {
            *energy += *first;
            *clean = false;
            self.pending.pop_front();
        }
    }

    /// When the energy was spent that the counter shows at `counted`.
    fn spent(&self, counted: Moment) -> Moment {
        Moment(counted.0.saturating_sub(self.lag_nanos()))
    }

    /// When the counter shows the last of what was spent until `end`.
    fn shown_last(&self, end: Moment) -> Moment {
        Moment(self.smear.shown_until(end).0.saturating_add(self.lag_nanos()))
    }

    fn lag_nanos(&self) -> u64 {
        self.lag.as_ref().map_or(0, LagScan::nanos)
    }
}

/// Right after work the counter may still show that work, so only the second quiet tick tells of idling.
fn learn(law: &mut Law, was_quiet: &mut bool, seconds: f64, joules: f64, parts: &[StepFeatures]) {
    let quiet = parts.is_empty();
    if !quiet || std::mem::replace(was_quiet, quiet) {
        law.observe_tick(&Tick {
            seconds,
            joules,
            parts,
        });
    }
    *was_quiet = quiet;
}
