//! The energy thread's loop: it owns meters, books and ledger, so that nothing here needs a lock and no step ever
//! waits for a read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::accounting::{Accounting, Entry, Opening};
use super::alarms::{AlarmKind, Alarms};
use super::ledger::Bill;
use super::meter::Meter;
use super::records::StepRecord;
use super::report::{DeviceEnergy, DeviceTotals, RequestEnergy};
use super::settings::{LaneDevice, MeterSettings};
use super::station::Station;
use super::tape::{Header, Tape};
use crate::units::{Clock, DeviceId, Moment, RequestId, Watts};

/// Reads on demand come no closer together than this.
const CLOSEST_READS: f64 = 0.001;
/// The loop wakes at least this often, so that records do not pile up.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);
/// The same while a tape is written, so that it is never further behind.
const LONGEST_RECORDING_PAUSE: Duration = Duration::from_millis(20);
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

/// How the handles reach the loop.
pub(super) struct Mail {
    pub(super) inbox: Receiver<Message>,
    /// Whether somebody waits for a request to settle, so that its finish should wake the loop.
    pub(super) awaited: Arc<AtomicBool>,
}

pub(super) struct RunLoop {
    /// In the places that the accounting gives the devices.
    stations: Vec<Station>,
    accounting: Accounting,
    tape: Option<Tape>,
    /// The tape's troubles.
    tape_alarms: Alarms,
    /// Entries came since the last settling.
    is_unsettled: bool,
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
        settings: &MeterSettings,
        clock: Clock,
        restored: Vec<DeviceTotals>,
        mail: Mail,
    ) -> Self {
        let (mut strays, mut openings, mut stations) = (restored, Vec::new(), Vec::new());
        for (meter, lane) in meters.into_iter().zip(lanes) {
            // Joules of another kind of meter are another quantity, even on the same device.
            let same = |t: &DeviceTotals| t.name == lane.name && t.source == meter.source();
            let earlier = strays
                .iter()
                .position(same)
                .map(|found| strays.swap_remove(found));
            openings.push(Opening::new(lane.device, &lane.name, meter.as_ref(), earlier));
            stations.push(Station::new(meter, lane));
        }
        let mut tape_alarms = Alarms::new("all devices");
        let tape = settings.record.as_deref().and_then(|path| {
            let header = Header::new(settings, openings.clone(), &clock);
            let tape = Tape::begin(path, &header);
            tape.map_err(|e| tape_alarms.raise(clock.now(), AlarmKind::Record, &no_tape(&e)))
                .ok()
        });
        let (questions, waiters, subscribers) = (Vec::new(), Vec::new(), Vec::new());
        Self {
            stations,
            accounting: Accounting::new(openings, settings.idle),
            tape,
            tape_alarms,
            is_unsettled: false,
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
        // A reader of the tape then knows of every step that the coming reading may show.
        self.flush();
        self.read_due();
        // A step that began while meters were read must be known before its time is settled.
        self.drain();
        if std::mem::take(&mut self.is_unsettled) {
            self.enter(Entry::Settle);
            self.is_unsettled = false;
            self.flush();
        }
        self.answer();
    }

    /// The one way by which the books learn anything.
    fn enter(&mut self, entry: Entry) {
        if let Some(Err(error)) = self.tape.as_mut().map(|tape| tape.write(&entry)) {
            self.give_up_tape(&error);
        }
        self.is_unsettled = true;
        for closed in self.accounting.apply(entry) {
            self.subscribers
                .retain(|subscriber| subscriber.send(closed).is_ok());
        }
    }

    fn flush(&mut self) {
        if let Some(Err(error)) = self.tape.as_mut().map(Tape::flush) {
            self.give_up_tape(&error);
        }
    }

    fn give_up_tape(&mut self, error: &std::io::Error) {
        self.tape = None;
        self.tape_alarms
            .raise(self.clock.now(), AlarmKind::Record, &no_tape(error));
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
            Message::Begin(device, at) => self.enter(Entry::Begin { device, at }),
            Message::Record(step) => {
                if let Some(place) = self.accounting.place(step.device) {
                    self.stations[place].meter.observe(&step);
                    self.enter(Entry::Step(step));
                }
            }
            Message::Finished(id) => self.enter(Entry::Finished(id)),
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

    /// Whether somebody waits for a fresh counter.
    fn is_wanted(&self) -> bool {
        !self.questions.is_empty() || (!self.waiters.is_empty() && self.accounting.ledger().has_finishing())
    }

    fn read_due(&mut self) {
        let wanted = self.is_wanted();
        for place in 0..self.stations.len() {
            let now = self.clock.now();
            let station = &mut self.stations[place];
            // A counter made of the recorded steps knows nothing of the running one, so it is read as of its beginning.
            let at = if station.meter.follows_steps() {
                self.accounting.book(place).running().unwrap_or(now)
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
                let entry = station.read(at);
                self.take_reading(place, at, entry);
            }
        }
    }

    fn take_reading(&mut self, place: usize, at: Moment, entry: Entry) {
        let sifted = self.stations[place].sift(at, entry, self.accounting.opening(place));
        for entry in sifted.entries {
            self.enter(entry);
        }
        if sifted.is_another_meter {
            self.change_meter(place, at);
        }
    }

    /// The meter is no longer what the device's books rest on.
    fn change_meter(&mut self, place: usize, at: Moment) {
        let Station { lane, meter, .. } = &self.stations[place];
        let why = meter.check().words;
        let was = self.accounting.opening(place);
        let same = |t: &DeviceTotals| t.name == lane.name && t.source == meter.source();
        let earlier = self.strays.iter().position(same);
        let earlier = earlier.filter(|_| was.source != meter.source());
        let earlier = earlier.map(|found| self.strays.swap_remove(found));
        let opening = Opening::new(lane.device, &lane.name, meter.as_ref(), earlier);
        self.enter(Entry::Meter { at, why, opening });
    }

    fn answer(&mut self) {
        let now = self.clock.now();
        for waiter in std::mem::take(&mut self.waiters) {
            let energy = self.accounting.ledger().energy(waiter.id, Bill::default());
            let unknown = !self.accounting.ledger().is_known(waiter.id)
                && now.seconds_since(waiter.since) > UNKNOWN_SECONDS;
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
                Question::Request(id, reply) => reply.send(self.accounting.request(id)).map_err(drop),
                Question::Devices(reply) => reply.send(self.devices()).map_err(drop),
                Question::Totals(reply) => reply.send(self.totals()).map_err(drop),
                Question::Shutdown(reply) => {
                    self.ended = true;
                    reply.send(self.totals()).map_err(drop)
                }
            };
        }
    }

    fn devices(&self) -> Vec<DeviceEnergy> {
        let totals = self.accounting.totals().into_iter();
        totals
            .enumerate()
            .map(|(place, totals)| self.report(place, totals))
            .collect()
    }

    fn report(&self, place: usize, totals: DeviceTotals) -> DeviceEnergy {
        let (station, book) = (&self.stations[place], self.accounting.book(place));
        let alarms = book.follower().alarms();
        let mut alarm_counts = alarms.counts().clone();
        alarm_counts.extend(self.tape_alarms.counts());
        DeviceEnergy {
            device: station.lane.device,
            name: totals.name,
            meter: station.meter.describe(),
            source: totals.source,
            measured: totals.measured,
            as_of: book.settled_until(),
            request: totals.request,
            exploration: totals.exploration,
            router: totals.router,
            idle: totals.idle,
            load: totals.load,
            unattributed: totals.unattributed,
            gap_seconds: totals.gap_seconds,
            watts: Watts(book.watts()),
            idle_watts: Watts(book.law().idle_watts()),
            tick_seconds: station.ticks.period(),
            lag_seconds: book.lag_seconds(),
            lag_is_found: book.lag_is_found(),
            fit_error: book.law().error(),
            late_steps: book.late_steps(),
            reads: station.reads,
            failed_reads: book.follower().failed_reads(),
            check: station.meter.check(),
            alarms: [alarms.latest(), self.tape_alarms.latest()].concat(),
            alarm_counts,
        }
    }

    fn totals(&self) -> Vec<DeviceTotals> {
        let mut totals = self.accounting.totals();
        totals.extend(self.accounting.former().iter().chain(&self.strays).cloned());
        totals
    }

    fn pause(&self) -> Duration {
        let now = self.clock.now();
        let wanted = self.is_wanted();
        let longest = if self.tape.is_some() {
            LONGEST_RECORDING_PAUSE
        } else {
            LONGEST_PAUSE
        };
        let until = |(place, station): (usize, &Station)| {
            if station.meter.follows_steps() && self.accounting.book(place).running().is_some() {
                // Nothing more to be read before the step is recorded.
                longest.as_secs_f64()
            } else if wanted && station.meter.reads_are_instant() {
                CLOSEST_READS
            } else {
                station.ticks.next().seconds_since(now)
            }
        };
        let seconds = self
            .stations
            .iter()
            .enumerate()
            .map(until)
            .fold(longest.as_secs_f64(), f64::min);
        Duration::from_secs_f64(seconds).max(SHORTEST_PAUSE)
    }
}

fn no_tape(error: &std::io::Error) -> String {
    format!("the record cannot be written and ends here: {error}")
}
