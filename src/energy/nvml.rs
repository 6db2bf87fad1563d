//! NVIDIA's meter: `nvmlDeviceGetTotalEnergyConsumption`, millijoules since the driver was loaded, on Volta and later;
//! where it is missing, power integrated: field 186 (instantaneous) or `nvmlDeviceGetPowerUsage`.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use nvml_wrapper::enums::device::SampleValue;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::structs::device::FieldId;
use nvml_wrapper::{Device, Nvml};

use super::meter::{Meter, MeterError, Reading};
use super::report::Source;
use crate::units::{Microjoules, Moment, Watts};

/// What the driver installs.
pub(super) const LIBRARY: &str = "libnvidia-ml.so.1";
/// `NVML_FI_DEV_POWER_INSTANT` (nvml.h), in milliwatts.
const POWER_INSTANT: FieldId = FieldId(186);
/// Between two attempts to find a vanished driver again.
const RETRY_SECONDS: f64 = 1.0;
/// Power readings further apart than this say nothing about what lay between them.
const INTEGRABLE_SECONDS: f64 = 1.0;

/// Loads the library and says how many devices it knows, with their UUIDs.
pub(super) fn list(library: Option<&Path>) -> Result<Vec<Option<String>>, String> {
    let nvml = load(library.map_or(OsStr::new(LIBRARY), Path::as_os_str))?;
    let count = nvml
        .device_count()
        .map_err(|e| format!("NVML does not count its devices: {}", plain(&e)))?;
    Ok((0..count)
        .map(|index| nvml.device_by_index(index).and_then(|d| d.uuid()).ok())
        .collect())
}

fn load(library: &OsStr) -> Result<Nvml, String> {
    Nvml::builder()
        .lib_path(library)
        .init()
        .map_err(|e| format!("{} cannot be used: {}", library.to_string_lossy(), plain(&e)))
}

/// An NVML error in words, with what is to be done where NVML's own words do not say.
fn plain(error: &NvmlError) -> String {
    match error {
        NvmlError::NoPermission => {
            "no permission; in a container start it with the NVIDIA runtime and the `utility` capability"
                .to_owned()
        }
        NvmlError::DriverNotLoaded => "the NVIDIA driver is not loaded".to_owned(),
        NvmlError::GpuLost => "the GPU fell off the bus or is out of reach".to_owned(),
        NvmlError::NotSupported => {
            "this device (or MIG slice, or virtual GPU) does not support it".to_owned()
        }
        other => other.to_string(),
    }
}

/// Whether the driver itself is gone, so that only loading it anew can help.
fn is_lost(error: &NvmlError) -> bool {
    matches!(
        error,
        NvmlError::Uninitialized | NvmlError::DriverNotLoaded | NvmlError::GpuLost | NvmlError::ResetRequired
    )
}

enum Quantity {
    Counter,
    Power {
        instant: bool,
        joules: f64,
        last: Option<(Moment, f64)>,
    },
}

pub(super) struct NvmlMeter {
    library: OsString,
    index: u32,
    uuid: Option<String>,
    name: String,
    nvml: Option<Nvml>,
    retry_at: Moment,
    quantity: Quantity,
}

impl NvmlMeter {
    /// Opens NVML device `index`. The error says in words why it cannot be measured.
    pub(super) fn open(library: Option<&Path>, index: u32) -> Result<Self, String> {
        let library = library.map_or(OsStr::new(LIBRARY), Path::as_os_str).to_owned();
        let nvml = load(&library)?;
        let (uuid, name, quantity) = {
            let device = nvml
                .device_by_index(index)
                .map_err(|e| format!("NVML device {index}: {}", plain(&e)))?;
            let name = device.name().unwrap_or_else(|_| format!("NVML device {index}"));
            (device.uuid().ok(), name, find_quantity(&device)?)
        };
        Ok(Self {
            library,
            index,
            uuid,
            name,
            nvml: Some(nvml),
            retry_at: Moment(0),
            quantity,
        })
    }

    fn reopen(&mut self, now: Moment) -> Result<(), String> {
        if now < self.retry_at && self.retry_at.seconds_since(now) <= RETRY_SECONDS {
            return Err("the driver is away".to_owned());
        }
        self.retry_at = now.plus_seconds(RETRY_SECONDS);
        let nvml = load(&self.library)?;
        if let Some(uuid) = &self.uuid {
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
}

fn find_quantity(device: &Device) -> Result<Quantity, String> {
    let power = |instant| Quantity::Power {
        instant,
        joules: 0.0,
        last: None,
    };
    match device.total_energy_consumption() {
        Ok(_) => Ok(Quantity::Counter),
        Err(NvmlError::NotSupported | NvmlError::FailedToLoadSymbol(_)) => {
            if instant_power(device).is_ok() {
                Ok(power(true))
            } else {
                device.power_usage().map(|_| power(false)).map_err(|e| {
                    format!(
                        "neither the energy counter nor the power can be read: {}",
                        plain(&e)
                    )
                })
            }
        }
        Err(e) => Err(format!("the energy counter cannot be read: {}", plain(&e))),
    }
}

/// Instantaneous power in watts.
fn instant_power(device: &Device) -> Result<f64, NvmlError> {
    let sample = device
        .field_values_for(&[POWER_INSTANT])?
        .pop()
        .ok_or(NvmlError::NotSupported)??;
    let milliwatts = match sample.value? {
        SampleValue::F64(v) => v,
        SampleValue::U32(v) => f64::from(v),
        SampleValue::U64(v) => v as f64,
        SampleValue::I64(v) => v as f64,
    };
    Ok(milliwatts * 1e-3)
}

impl Quantity {
    fn read(&mut self, device: &Device, now: Moment) -> Result<Reading, NvmlError> {
        match self {
            Self::Counter => {
                let counter = Microjoules(device.total_energy_consumption()?.saturating_mul(1_000));
                Ok(Reading { counter, power: None })
            }
            Self::Power {
                instant,
                joules,
                last,
            } => {
                let watts = if *instant {
                    instant_power(device)?
                } else {
                    f64::from(device.power_usage()?) * 1e-3
                };
                if let Some((before, power)) = last.replace((now, watts)) {
                    *joules += now.seconds_since(before) * (power + watts) / 2.0;
                }
                Ok(Reading {
                    counter: Microjoules((*joules * 1e6) as u64),
                    power: Some(Watts(watts)),
                })
            }
        }
    }

    /// True when too much time passed unseen for the integral to go on.
    fn broke_off(&mut self, now: Moment) -> bool {
        match self {
            Self::Power { last, .. }
                if last.is_some_and(|(at, _)| now.seconds_since(at) > INTEGRABLE_SECONDS) =>
            {
                *last = None;
                true
            }
            _ => false,
        }
    }
}

impl Meter for NvmlMeter {
    fn source(&self) -> Source {
        Source::Nvml
    }

    fn describe(&self) -> String {
        let how = match self.quantity {
            Quantity::Counter => "total energy counter",
            Quantity::Power { instant: true, .. } => "instantaneous power, integrated (no energy counter)",
            Quantity::Power { instant: false, .. } => "power usage, integrated (no energy counter)",
        };
        format!("NVML {how} of {}", self.name)
    }

    fn read(&mut self, now: Moment) -> Result<Reading, MeterError> {
        if self.nvml.is_none() {
            self.reopen(now).map_err(MeterError::Failed)?;
            // A reloaded driver counts from 0, and may meanwhile have counted past where the old one was.
            if let Quantity::Power { last, .. } = &mut self.quantity {
                *last = None;
            }
            return Err(MeterError::Restarted("the driver is back".to_owned()));
        }
        if self.quantity.broke_off(now) {
            return Err(MeterError::Restarted(
                "power went unread for too long to integrate it".to_owned(),
            ));
        }
        let nvml = self.nvml.as_ref().expect("checked above");
        let result = nvml
            .device_by_index(self.index)
            .and_then(|device| self.quantity.read(&device, now));
        result.map_err(|error| {
            if is_lost(&error) {
                self.nvml = None;
                self.retry_at = now.plus_seconds(RETRY_SECONDS);
            }
            MeterError::Failed(plain(&error))
        })
    }

    fn reads_are_instant(&self) -> bool {
        matches!(self.quantity, Quantity::Power { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_library_is_named() {
        let error = list(Some(Path::new("/nowhere/libnvidia-ml.so"))).unwrap_err();
        assert!(
            error.contains("/nowhere/libnvidia-ml.so cannot be used"),
            "{error}"
        );
        assert!(NvmlMeter::open(Some(Path::new("/nowhere/lib.so")), 0).is_err());
    }
}
