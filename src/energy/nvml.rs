//! NVIDIA's meter: `nvmlDeviceGetTotalEnergyConsumption`, millijoules since the driver was loaded, on Volta and later;
//! where it is missing or fails its test, power integrated.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};

use super::meter::{Meter, MeterError, Reading};
use super::meter_check::{CheckState, MeterCheck, Quantity};
use super::nvml_library::{LIBRARY, has_slices, is_lost, load, plain};
use super::nvml_power::{PowerIntegral, PowerSource, is_virtual};
use super::report::Source;
use super::self_test::{Findings, SelfTest, Timed};
use crate::units::{Microjoules, Moment, Watts};

/// Between two attempts to find a vanished driver again: at first, and after many in vain.
const RETRY_SECONDS: f64 = 1.0;
const RETRY_GROWTH: f64 = 1.1;
const LONGEST_RETRY_SECONDS: f64 = 30.0;
/// A board whose every reading fails for this long, for whatever reason, is looked for anew.
const HOPELESS_SECONDS: f64 = 5.0;

enum Using {
    Counter,
    Power(PowerSource, PowerIntegral),
}

pub(super) struct NvmlMeter {
    library: OsString,
    index: u32,
    nvml: Option<Nvml>,
    retry_at: Moment,
    retry_pause: f64,
    failing_since: Option<Moment>,
    using: Using,
    /// What could stand in for the counter.
    power: Option<PowerSource>,
    limit: Option<f64>,
    test: Option<SelfTest>,
    check: MeterCheck,
}

impl NvmlMeter {
    /// Opens NVML device `index`. The error says in words why it cannot be measured.
    pub(super) fn open(library: Option<&Path>, index: u32) -> Result<Self, String> {
        let library = library.map_or(OsStr::new(LIBRARY), Path::as_os_str).to_owned();
        let nvml = load(&library)?;
        let device = nvml
            .device_by_index(index)
            .map_err(|e| format!("NVML device {index}: {}", plain(&e)))?;
        let power = PowerSource::find(&device);
        let mut notes = notes(&device);
        let using = match (device.total_energy_consumption(), &power) {
            (Ok(_), _) => Using::Counter,
            (Err(counter), Ok(source)) => {
                notes.push(format!("no energy counter: {}", plain(&counter)));
                Using::Power(*source, PowerIntegral::default())
            }
            (Err(counter), Err(power)) => {
                return Err(format!(
                    "neither the energy counter ({}) nor the power ({}) of NVML device {index} can be read",
                    plain(&counter),
                    plain(power)
                ));
            }
        };
        let limit = device.enforced_power_limit().ok().map(|mw| f64::from(mw) * 1e-3);
        let quantity = using.quantity();
        let mut check = MeterCheck::new(CheckState::Running, quantity, "under test");
        check.board = Some(device.name().unwrap_or_else(|_| format!("NVML device {index}")));
        check.uuid = device.uuid().ok();
        check.power_limit_watts = limit.map(Watts);
        check.notes = notes;
        Ok(Self {
            library,
            index,
            retry_at: Moment(0),
            retry_pause: RETRY_SECONDS,
            failing_since: None,
            test: Some(SelfTest::new(limit, quantity == Quantity::Counter)),
            using,
            power: power.ok(),
            limit,
            check,
            nvml: Some(nvml),
        })
    }

    /// Whether the test found nothing on this board that can be believed.
    pub(super) fn has_failed(&self) -> bool {
        self.check.state == CheckState::Failed
    }

    fn board(&self) -> &str {
        self.check.board.as_deref().unwrap_or("a board")
    }

    fn reopen(&mut self, now: Moment) -> Result<(), String> {
        if now < self.retry_at && self.retry_at.seconds_since(now) <= self.retry_pause {
            return Err("the driver or the board is away".to_owned());
        }
        // Loading costs tens of milliseconds, so a board that is gone for good is asked for ever more rarely.
        self.retry_pause = (self.retry_pause * RETRY_GROWTH).min(LONGEST_RETRY_SECONDS);
        self.retry_at = now.plus_seconds(self.retry_pause);
        let nvml = load(&self.library)?;
        if let Some(uuid) = &self.check.uuid {
            // Boards may come back in another order.
            let count = nvml.device_count().map_err(|e| plain(&e))?;
            let same = |i: &u32| {
                nvml.device_by_index(*i)
                    .and_then(|d| d.uuid())
                    .is_ok_and(|u| u == *uuid)
            };
            self.index = (0..count).find(same).ok_or_else(|| format!("{uuid} is gone"))?;
        }
        self.nvml = Some(nvml);
        Ok(())
    }

    fn close(&mut self, now: Moment) {
        self.nvml = None;
        self.failing_since = None;
        self.retry_at = now.plus_seconds(self.retry_pause);
    }

    /// Reads what is used, and beside it what the test wants.
    fn look(&mut self, now: Moment) -> Result<(Reading, Option<Timed>), NvmlError> {
        let nvml = self.nvml.as_ref().ok_or(NvmlError::Uninitialized)?;
        let device = nvml.device_by_index(self.index)?;
        match &mut self.using {
            Using::Counter => {
                let millijoules = device.total_energy_consumption()?;
                let timed = self.test.as_ref().map(|test| Timed {
                    at: now,
                    joules: Some(millijoules as f64 * 1e-3),
                    watts: self
                        .power
                        .filter(|_| test.wants_power(now))
                        .and_then(|power| power.read(&device).ok()),
                });
                let counter = Microjoules(millijoules.saturating_mul(1_000));
                Ok((Reading { counter, power: None }, timed))
            }
            Using::Power(source, integral) => {
                let watts = source.read(&device)?;
                let timed = self.test.as_ref().map(|_| Timed {
                    at: now,
                    joules: None,
                    watts: Some(watts),
                });
                let counter = integral.add(now, watts);
                let power = Some(Watts(watts));
                Ok((Reading { counter, power }, timed))
            }
        }
    }

    /// Acts on the test's findings; the error tells that the readings so far are not to be trusted.
    fn conclude(&mut self, found: Findings) -> Result<(), MeterError> {
        self.test = None;
        let check = &mut self.check;
        check.update_period_ms = found.period.map(|seconds| seconds * 1e3);
        check.implied_watts = found.implied_watts.map(Watts);
        check.power_ratio = found.ratio;
        check.watts_now = found.last_watts.or(found.implied_watts).map(Watts);
        check.notes.extend(found.doubt);
        let is_counter = matches!(self.using, Using::Counter);
        let fault = if is_counter {
            found.counter_fault
        } else {
            found.power_fault.clone()
        };
        let board = check.board.as_deref().unwrap_or("a board");
        let Some(fault) = fault else {
            let how = if is_counter {
                "the energy counter"
            } else {
                "the power"
            };
            check.state = CheckState::Passed;
            check.words = format!("{how} of {board} can be believed");
            tracing::info!("energy: {}", summary(check));
            return Ok(());
        };
        let stand_in = self.power.filter(|_| is_counter && found.power_fault.is_none());
        let Some(source) = stand_in else {
            let also = found.power_fault.filter(|_| is_counter);
            let also = also.map_or(String::new(), |power| format!(", and {power}"));
            check.state = CheckState::Failed;
            check.words = format!("NVML's readings of {board} cannot be believed: {fault}{also}");
            return Err(MeterError::Failed(check.words.clone()));
        };
        self.using = Using::Power(source, PowerIntegral::default());
        let check = &mut self.check;
        check.state = CheckState::FellBack;
        check.quantity = source.quantity();
        check.words = format!("{fault}; {} in its place", source.words());
        Err(MeterError::Restarted(check.words.clone()))
    }
}

impl Using {
    fn quantity(&self) -> Quantity {
        match self {
            Self::Counter => Quantity::Counter,
            Self::Power(source, _) => source.quantity(),
        }
    }
}

/// What a reader of this board's joules must know.
fn notes(device: &Device) -> Vec<String> {
    let mut notes = Vec::new();
    if has_slices(device) {
        notes.push(
            "MIG is on: NVML counts the energy of the whole board, the other slices' work included; a slice cannot be \
             measured by itself"
                .to_owned(),
        );
    }
    if is_virtual(device) {
        notes
            .push("a virtual GPU: the board's energy is the host's to see, others on it included".to_owned());
    }
    let own = std::process::id();
    let others = device
        .running_compute_processes()
        .map_or(0, |all| all.iter().filter(|p| p.pid != own).count());
    if others > 0 {
        notes.push(format!(
            "{others} other processes compute on this board, and their energy is counted too"
        ));
    }
    notes
}

/// A verdict as one line of the log.
fn summary(check: &MeterCheck) -> String {
    let mut text = check.words.clone();
    if let Some(period) = check.update_period_ms {
        text += &format!(", it changes every {period:.0} ms");
    }
    if let Some(watts) = check.implied_watts {
        text += &format!(", it says {:.1} W", watts.0);
    }
    if let Some(ratio) = check.power_ratio {
        text += &format!(" ({ratio:.2} of the integrated power)");
    }
    text
}

impl Meter for NvmlMeter {
    fn source(&self) -> Source {
        Source::Nvml
    }

    fn describe(&self) -> String {
        let how = match &self.using {
            Using::Counter => "total energy counter",
            Using::Power(source, _) => source.words(),
        };
        let slices = self.check.notes.iter().any(|note| note.starts_with("MIG"));
        let whole = if slices {
            ", the whole board with all MIG slices"
        } else {
            ""
        };
        format!("NVML {how} of {}{whole}", self.board())
    }

    fn read(&mut self, now: Moment) -> Result<Reading, MeterError> {
        if self.has_failed() {
            return Err(MeterError::Failed(self.check.words.clone()));
        }
        if self.nvml.is_none() {
            self.reopen(now).map_err(MeterError::Failed)?;
            // A reloaded driver counts from 0, and may meanwhile have counted past where the old one was.
            if let Using::Power(_, integral) = &mut self.using {
                integral.begin_anew();
            }
            if self.test.is_some() {
                let has_counter = matches!(self.using, Using::Counter);
                self.test = Some(SelfTest::new(self.limit, has_counter));
            }
            return Err(MeterError::Restarted("the driver is back".to_owned()));
        }
        if let Using::Power(_, integral) = &mut self.using
            && integral.broke_off(now)
        {
            return Err(MeterError::Restarted(
                "power went unread for too long to integrate it".to_owned(),
            ));
        }
        match self.look(now) {
            Ok((reading, timed)) => {
                self.failing_since = None;
                self.retry_pause = RETRY_SECONDS;
                if let Some(found) = timed.and_then(|timed| self.test.as_mut()?.take(timed)) {
                    self.conclude(found)?;
                }
                Ok(reading)
            }
            Err(error) => {
                let since = *self.failing_since.get_or_insert(now);
                if is_lost(&error) || now.seconds_since(since) > HOPELESS_SECONDS {
                    self.close(now);
                }
                Err(MeterError::Failed(plain(&error)))
            }
        }
    }

    fn reads_are_instant(&self) -> bool {
        matches!(self.using, Using::Power(..))
    }

    fn averages_over(&self) -> Option<f64> {
        match &self.using {
            Using::Counter => None,
            Using::Power(source, _) => source.averages_over(),
        }
    }

    fn is_on_trial(&self) -> bool {
        self.test.is_some()
    }

    fn check(&self) -> MeterCheck {
        self.check.clone()
    }
}
