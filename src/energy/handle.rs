//! The handle by which the rest of the server speaks with the energy thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::Thread;

use tokio::sync::{mpsc, oneshot};

use super::meter::Meter;
use super::records::StepRecord;
use super::report::{DeviceEnergy, DeviceTotals, RequestEnergy};
use super::run_loop::{Mail, Message, RunLoop};
use super::settings::{LaneDevice, MeterSettings};
use crate::units::{Clock, DeviceId, Moment, RequestId};

/// A cheap, cloneable way to the energy thread. The thread ends when every handle is gone or on [`Self::shutdown`].
///
/// A lane calls [`Self::begin_step`] before each step and [`Self::record`] after it; the engine calls
/// [`Self::finished`] after a request's last record and before it tells the client's side that the answer is done.
/// None of the three blocks, and none of the two per step wakes the thread.
#[derive(Clone)]
pub struct EnergyHandle {
    outbox: Sender<Message>,
    thread: Thread,
    awaited: Arc<AtomicBool>,
}

impl EnergyHandle {
    /// Starts the thread `energy`. `meters` are those of [`super::open_meters`] for `lanes`, in the same order.
    /// `restored` are the totals of an earlier process, by [`Self::totals`]: those of a device with the same name and
    /// the same kind of meter are added to its accounts.
    pub fn start(
        meters: Vec<Box<dyn Meter>>,
        lanes: &[LaneDevice],
        settings: &MeterSettings,
        clock: Clock,
        restored: Option<Vec<DeviceTotals>>,
    ) -> Self {
        let (outbox, inbox) = channel();
        let awaited = Arc::new(AtomicBool::new(false));
        let mail = Mail {
            inbox,
            awaited: awaited.clone(),
        };
        let turns = RunLoop::new(meters, lanes, settings, clock, restored.unwrap_or_default(), mail);
        let thread = std::thread::Builder::new()
            .name("energy".to_owned())
            .spawn(move || turns.run())
            .expect("a process that starts can start a thread");
        Self {
            outbox,
            thread: thread.thread().clone(),
            awaited,
        }
    }

    /// A step begins on the device at `at`. No interval that reaches past `at` is settled before the step is recorded,
    /// so a lane must record every step it began, with no rows if it failed; or begin the next one.
    pub fn begin_step(&self, device: DeviceId, at: Moment) {
        self.send(Message::Begin(device, at));
    }

    /// A step ended. `start` is the moment given to [`Self::begin_step`].
    ///
    /// Work beside the lane (the router's, with rows of `Account::Router` and no tokens) is recorded by this call
    /// alone, as soon as it is done.
    pub fn record(&self, step: StepRecord) {
        self.send(Message::Record(step));
    }

    /// No more steps of this request will come, its exploration included. To be called after the last record.
    pub fn finished(&self, id: RequestId) {
        self.send(Message::Finished(id));
        // Waking the thread costs more than all else it does for a request, so only when somebody waits.
        if self.awaited.load(Ordering::Relaxed) {
            self.thread.unpark();
        }
    }

    /// The request's energy as far as it is known, with a prediction for what the meter has not shown yet. `None` for
    /// a request that never ran, or was settled so long ago that it is forgotten here.
    pub async fn request(&self, id: RequestId) -> Option<RequestEnergy> {
        self.ask(|reply| Message::Ask(id, reply)).await.flatten()
    }

    /// The request's final energy, once it is: after [`Self::finished`], within about a millisecond on a meter whose
    /// reads are instant and a tick of the counter on others; by estimate within seconds if the meter is away.
    /// `None` for a request unknown for a second.
    pub async fn settled(&self, id: RequestId) -> Option<RequestEnergy> {
        self.awaited.store(true, Ordering::Relaxed);
        self.ask(|reply| Message::Settled(id, reply)).await.flatten()
    }

    /// Every device's accounts, consistent in themselves: measured equals their sum. Empty after a shutdown.
    pub async fn devices(&self) -> Vec<DeviceEnergy> {
        self.ask(Message::Devices).await.unwrap_or_default()
    }

    /// The totals to keep over a restart. Includes restored totals of devices that this process does not have.
    pub async fn totals(&self) -> Vec<DeviceTotals> {
        self.ask(Message::Totals).await.unwrap_or_default()
    }

    /// Each finished request's final energy, once, from now on.
    pub fn subscribe(&self) -> mpsc::UnboundedReceiver<(RequestId, RequestEnergy)> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.send(Message::Subscribe(sender));
        receiver
    }

    /// Settles what can be settled, ends the thread and gives the last totals.
    pub async fn shutdown(&self) -> Vec<DeviceTotals> {
        self.ask(Message::Shutdown).await.unwrap_or_default()
    }

    async fn ask<T>(&self, message: impl FnOnce(oneshot::Sender<T>) -> Message) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.send(message(reply));
        self.thread.unpark();
        answer.await.ok()
    }

    fn send(&self, message: Message) {
        // After a shutdown nobody listens, and nobody needs to.
        let _ = self.outbox.send(message);
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::super::test_world::{FakeMeter, block_on};
    use super::super::*;
    use super::*;
    use crate::units::{Microjoules, ModelId};

    fn lane() -> LaneDevice {
        LaneDevice {
            device: DeviceId(3),
            name: "cpu".into(),
            cuda_ordinal: None,
            cuda_uuid: None,
        }
    }

    fn start(meter: impl Meter + 'static, clock: Clock, restored: Option<Vec<DeviceTotals>>) -> EnergyHandle {
        EnergyHandle::start(
            vec![Box::new(meter)],
            &[lane()],
            &MeterSettings::default(),
            clock,
            restored,
        )
    }

    fn work(handle: &EnergyHandle, clock: &Clock, id: RequestId, millis: u64) -> f64 {
        let start = clock.now();
        handle.begin_step(DeviceId(3), start);
        std::thread::sleep(Duration::from_millis(millis));
        let row = StepRow {
            account: Account::Request(id),
            prefill_tokens: 9,
            decode_tokens: 0,
            context: 9,
        };
        let (device, end) = (DeviceId(3), clock.now());
        handle.record(StepRecord {
            device,
            model: ModelId(0),
            start,
            end,
            rows: vec![row],
        });
        end.seconds_since(start)
    }

    fn conserved(handle: &EnergyHandle) -> DeviceEnergy {
        let device = block_on(handle.devices()).remove(0);
        assert_eq!(device.measured, device.accounted());
        device
    }

    #[test]
    fn an_instant_meter_settles_a_request_at_once_and_adds_up() {
        let clock = Clock::start();
        let handle = start(FakeMeter::instant(50.0, clock), clock, None);
        let mut settled = handle.subscribe();
        std::thread::sleep(Duration::from_millis(50));
        for n in 0..20 {
            work(&handle, &clock, RequestId(n), 5);
            handle.finished(RequestId(n));
            let asked = Instant::now();
            let energy = block_on(handle.settled(RequestId(n))).unwrap();
            assert!(energy.is_final && energy.total().0 > 0.0, "{energy:?}");
            assert!(asked.elapsed() < Duration::from_secs(1));
            assert_eq!(block_on(handle.request(RequestId(n))), Some(energy));
            assert_eq!(block_on(settled.recv()), Some((RequestId(n), energy)));
        }
        let device = conserved(&handle);
        assert_eq!((device.late_steps, device.unattributed), (0, Microjoules(0)));
        assert!(device.request.0 > 0 && device.idle.0 > 0);
        assert!(block_on(handle.settled(RequestId(99))).is_none());
    }

    #[test]
    fn modelled_energy_is_exactly_declared_watts_times_time() {
        let clock = Clock::start();
        let settings = MeterSettings {
            meter: MeterChoice::Modelled,
            ..MeterSettings::default()
        };
        let meters = open_meters(&settings, &[lane()]).unwrap();
        let handle = EnergyHandle::start(meters, &[lane()], &settings, clock, None);
        std::thread::sleep(Duration::from_millis(30));
        let seconds = work(&handle, &clock, RequestId(1), 60);
        handle.finished(RequestId(1));
        let energy = block_on(handle.settled(RequestId(1))).unwrap();
        assert_eq!(energy.source, Source::Modelled);
        assert!(
            (energy.total().0 / (50.0 * seconds) - 1.0).abs() < 0.01,
            "{energy:?} in {seconds} s"
        );
        conserved(&handle);
    }

    #[test]
    fn a_request_under_way_is_estimated_and_a_ticking_meter_settles_it_later() {
        let clock = Clock::start();
        let handle = start(FakeMeter::ticking(50.0, 0.05, clock), clock, None);
        std::thread::sleep(Duration::from_millis(120));
        work(&handle, &clock, RequestId(1), 10);
        let early = block_on(handle.request(RequestId(1))).unwrap();
        assert!(!early.is_final && early.total().0 > 0.0, "{early:?}");
        handle.finished(RequestId(1));
        assert!(block_on(handle.settled(RequestId(1))).unwrap().is_final);
        conserved(&handle);
    }

    #[test]
    fn totals_survive_a_restart() {
        let clock = Clock::start();
        let handle = start(FakeMeter::instant(50.0, clock), clock, None);
        std::thread::sleep(Duration::from_millis(40));
        work(&handle, &clock, RequestId(1), 5);
        let totals = block_on(handle.shutdown());
        assert!(block_on(handle.devices()).is_empty(), "the thread ended");
        let stray = DeviceTotals {
            name: "cuda:7".into(),
            ..totals[0].clone()
        };
        let handle = start(
            FakeMeter::instant(50.0, clock),
            clock,
            Some(vec![stray.clone(), totals[0].clone()]),
        );
        let device = conserved(&handle);
        assert!(device.measured >= totals[0].measured && device.measured.0 > 0);
        assert!(block_on(handle.totals()).contains(&stray));
    }
}
