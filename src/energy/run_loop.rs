//! The energy thread's loop: it owns meters, books and ledger, so that nothing here needs a lock and no step ever
//! waits for a read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::book::DeviceBook;
use super::events::Look;
use super::ledger::{Bill, Ledger};
use super::meter::Meter;
use super::records::StepRecord;
use super::report::{DeviceEnergy, DeviceTotals, RequestEnergy};
use super::sampling::TickClock;
use super::settings::{IdlePolicy, LaneDevice};
use crate::units::{Clock, DeviceId, Microjoules, Moment, RequestId, Watts};

/// Reads on demand come no closer together than this.
const CLOSEST_READS: f64 = 0.001;
/// The loop wakes at least this often, so that records do not pile up.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);
const SHORTEST_PAUSE: Duration = Duration::from_micros(200);
/// How long `settled` waits for a request that nobody has heard of: its first record may still be under way.
const UNKNOWN_SECONDS: f64 = 1.0;

pub(super) enum Message {
    Begin(DeviceId, Moment),
    Record(StepRecord),
    Finished(RequestId),
    Ask(RequestId, oneshot::Sender<Option<RequestEnergy>>),
    Settled(RequestId, oneshot::Sender<Option<RequestEnergy>>),
    Devices(oneshot::Sender<Vec<DeviceEnergy>>),
    Totals(oneshot::Sender<Vec<DeviceTotals>>),
    Subscribe(mpsc::UnboundedSender<(RequestId, RequestEnergy)>),
    Shutdown(oneshot::Sender<Vec<DeviceTotals>>),
}

enum Question {
    Request(RequestId, oneshot::Sender<Option<RequestEnergy>>),
    Devices(oneshot::Sender<Vec<DeviceEnergy>>),
    Totals(oneshot::Sender<Vec<DeviceTotals>>),
    Shutdown(oneshot::Sender<Vec<DeviceTotals>>),
}

struct Waiter {
    id: RequestId,
    since: Moment,
    reply: oneshot::Sender<Option<RequestEnergy>>,
}

struct Station {
    lane: LaneDevice,
    meter: Box<dyn Meter>,
    ticks: TickClock,
    book: DeviceBook,
    last_read: Option<Moment>,
    last_counter: Option<Microjoules>,
    earlier_gap_seconds: f64,
}

/// How the handles reach the loop.
pub(super) struct Mail {
    pub(super) inbox: Receiver<Message>,
    /// Whether somebody waits for a request to settle, so that its finish should wake the loop.
    pub(super) awaited: Arc<AtomicBool>,
}

pub(super) struct RunLoop {
    stations: Vec<Station>,
    ledger: Ledger,
    clock: Clock,
    mail: Mail,
    questions: Vec<Question>,
    waiters: Vec<Waiter>,
    subscribers: Vec<mpsc::UnboundedSender<(RequestId, RequestEnergy)>>,
    /// Totals of devices that this process does not have, handed on untouched.
    strays: Vec<DeviceTotals>,
    ended: bool,
}

impl RunLoop {
    pub(super) fn new(
        meters: Vec<Box<dyn Meter>>,
        lanes: &[LaneDevice],
        policy: IdlePolicy,
        clock: Clock,
        restored: Vec<DeviceTotals>,
        mail: Mail,
    ) -> Self {
        let sources: Vec<_> = meters.iter().map(|meter| meter.source()).collect();
        let mut ledger = Ledger::new(&sources);
        let mut strays = restored;
        let stations = meters
            .into_iter()
            .zip(lanes)
            .enumerate()
            .map(|(place, (meter, lane))| {
                let device = DeviceId(place as u16);
                // Joules of another kind of meter are another quantity, even on the same device.
                let same = |t: &DeviceTotals| t.name == lane.name && t.source == meter.source();
                let mut earlier_gap_seconds = 0.0;
                if let Some(found) = strays.iter().position(same) {
                    let totals = strays.swap_remove(found);
                    ledger.restore(device, &totals);
                    earlier_gap_seconds = totals.gap_seconds;
                }
                let ticks = TickClock::new(!meter.reads_are_instant());
                let book = DeviceBook::new(device, &lane.name, meter.as_ref(), policy);
                let lane = lane.clone();
                Station {
                    lane,
                    meter,
                    ticks,
                    book,
                    last_read: None,
                    last_counter: None,
                    earlier_gap_seconds,
                }
            })
            .collect();
        let (questions, waiters, subscribers) = (Vec::new(), Vec::new(), Vec::new());
        Self {
            stations,
            ledger,
            clock,
            mail,
            questions,
            waiters,
            subscribers,
            strays,
            ended: false,
        }
    }

    /// Runs until it is shut down or every handle is gone.
    pub(super) fn run(mut self) {
        while !self.ended {
            self.turn();
            std::thread::park_timeout(self.pause());
        }
    }

    fn turn(&mut self) {
        self.drain();
        self.read_due();
        // A step that began while meters were read must be known before its time is settled.
        self.drain();
        for station in &mut self.stations {
            station.book.settle(&mut self.ledger);
        }
        self.close();
        self.answer();
    }

    fn drain(&mut self) {
        loop {
            match self.mail.inbox.try_recv() {
                Ok(message) => self.take(message),
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => {
                    self.ended = true;
                    return;
                }
            }
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Begin(device, at) => {
                if let Some(station) = self.station(device) {
                    station.book.begin(at);
                }
            }
            Message::Record(step) => {
                let device = step.device;
                let Some(place) = self.stations.iter().position(|s| s.lane.device == device) else {
                    return;
                };
                let station = &mut self.stations[place];
                station.meter.observe(&step);
                station.book.record(step, &mut self.ledger);
            }
            Message::Finished(id) => self.ledger.finish(id),
            Message::Ask(id, reply) => self.questions.push(Question::Request(id, reply)),
            Message::Settled(id, reply) => self.waiters.push(Waiter {
                id,
                since: self.clock.now(),
                reply,
            }),
            Message::Devices(reply) => self.questions.push(Question::Devices(reply)),
            Message::Totals(reply) => self.questions.push(Question::Totals(reply)),
            Message::Subscribe(subscriber) => self.subscribers.push(subscriber),
            Message::Shutdown(reply) => self.questions.push(Question::Shutdown(reply)),
        }
    }

    fn station(&mut self, device: DeviceId) -> Option<&mut Station> {
        self.stations
            .iter_mut()
            .find(|station| station.lane.device == device)
    }

    /// Whether somebody waits for a fresh counter.
    fn is_wanted(&self) -> bool {
        !self.questions.is_empty() || (!self.waiters.is_empty() && self.ledger.has_finishing())
    }

    fn read_due(&mut self) {
        let wanted = self.is_wanted();
        for station in &mut self.stations {
            let now = self.clock.now();
            // A counter made of the recorded steps knows nothing of the running one, so it is read as of its beginning.
            let at = if station.meter.follows_steps() {
                station.book.running().unwrap_or(now)
            } else {
                now
            };
            let early = station.last_read.is_some_and(|last| {
                let next = match wanted && station.meter.reads_are_instant() {
                    // Reading a counter made of records costs nothing, so it need not wait.
                    true if station.meter.follows_steps() => Moment(last.0 + 1),
                    true => last.plus_seconds(CLOSEST_READS),
                    false => station.ticks.next(),
                };
                at < next
            });
            if !early {
                station.read(at);
            }
        }
    }

    fn close(&mut self) {
        if !self.ledger.has_finishing() {
            return;
        }
        let settled: Vec<Moment> = self.stations.iter().map(|s| s.book.settled_until()).collect();
        for closed in self.ledger.close_settled(&settled) {
            self.subscribers
                .retain(|subscriber| subscriber.send(closed).is_ok());
        }
    }

    fn answer(&mut self) {
        let now = self.clock.now();
        for waiter in std::mem::take(&mut self.waiters) {
            let energy = self.ledger.energy(waiter.id, Bill::default());
            let unknown =
                !self.ledger.is_known(waiter.id) && now.seconds_since(waiter.since) > UNKNOWN_SECONDS;
            if unknown || energy.is_some_and(|e| e.is_final) {
                let _ = waiter.reply.send(energy);
            } else if !waiter.reply.is_closed() {
                self.waiters.push(waiter);
            }
        }
        self.mail
            .awaited
            .store(!self.waiters.is_empty(), Ordering::Relaxed);
        for question in std::mem::take(&mut self.questions) {
            // Whoever asked may be gone; then nobody misses the answer.
            let _ = match question {
                Question::Request(id, reply) => reply.send(self.request(id)).map_err(drop),
                Question::Devices(reply) => reply.send(self.devices()).map_err(drop),
                Question::Totals(reply) => reply.send(self.totals()).map_err(drop),
                Question::Shutdown(reply) => {
                    self.ended = true;
                    reply.send(self.totals()).map_err(drop)
                }
            };
        }
    }

    fn request(&self, id: RequestId) -> Option<RequestEnergy> {
        let mut pending = Bill::default();
        for station in &self.stations {
            station.book.pending_bill(id, &mut pending);
        }
        self.ledger.energy(id, pending)
    }

    fn devices(&self) -> Vec<DeviceEnergy> {
        self.stations
            .iter()
            .enumerate()
            .map(|(place, s)| s.report(&self.ledger, DeviceId(place as u16)))
            .collect()
    }

    fn totals(&self) -> Vec<DeviceTotals> {
        let own = self.devices().into_iter().map(|d| DeviceTotals {
            name: d.name,
            source: d.source,
            measured: d.measured,
            request: d.request,
            exploration: d.exploration,
            router: d.router,
            idle: d.idle,
            load: d.load,
            unattributed: d.unattributed,
            gap_seconds: d.gap_seconds,
        });
        own.chain(self.strays.iter().cloned()).collect()
    }

    fn pause(&self) -> Duration {
        let now = self.clock.now();
        let wanted = self.is_wanted();
        let until = |station: &Station| {
            if station.meter.follows_steps() && station.book.running().is_some() {
                // Nothing more to be read before the step is recorded.
                LONGEST_PAUSE.as_secs_f64()
            } else if wanted && station.meter.reads_are_instant() {
                CLOSEST_READS
            } else {
                station.ticks.next().seconds_since(now)
            }
        };
        let seconds = self
            .stations
            .iter()
            .map(until)
            .fold(LONGEST_PAUSE.as_secs_f64(), f64::min);
        Duration::from_secs_f64(seconds).max(SHORTEST_PAUSE)
    }
}

impl Station {
    fn read(&mut self, at: Moment) {
        let reading = self.meter.read(at);
        let counter = reading.as_ref().ok().map(|r| r.counter);
        let edge = self.ticks.observed(
            at,
            counter.map(|c| self.last_counter.is_some_and(|last| last != c)),
        );
        self.last_counter = counter.or(self.last_counter);
        self.last_read = Some(at);
        let period = self.ticks.period().unwrap_or(f64::INFINITY);
        self.book.sample(at, reading, Look { edge, period });
    }

    fn report(&self, ledger: &Ledger, place: DeviceId) -> DeviceEnergy {
        let accounts = ledger.accounts(place);
        DeviceEnergy {
            device: self.lane.device,
            name: self.lane.name.clone(),
            meter: self.meter.describe(),
            source: self.meter.source(),
            measured: Microjoules(accounts.measured),
            request: Microjoules(accounts.request),
            exploration: Microjoules(accounts.exploration),
            router: Microjoules(accounts.router),
            idle: Microjoules(accounts.idle),
            load: Microjoules(accounts.load),
            unattributed: Microjoules(accounts.unattributed),
            gap_seconds: self.earlier_gap_seconds + self.book.follower().gap_seconds(),
            watts: Watts(self.book.watts()),
            idle_watts: Watts(self.book.law().idle_watts()),
            tick_seconds: self.ticks.period(),
            lag_seconds: self.book.lag_seconds(),
            fit_error: self.book.law().error(),
            late_steps: self.book.late_steps(),
            failed_reads: self.book.follower().failed_reads(),
            alarms: self.book.follower().alarms(),
        }
    }
}
