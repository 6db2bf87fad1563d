//! Power by NVML, for boards whose energy counter is missing or not to be believed, and its integral.

use nvml_wrapper::Device;
use nvml_wrapper::enum_wrappers::device::GpuVirtualizationMode;
use nvml_wrapper::enums::device::{DeviceArchitecture, SampleValue};
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::structs::device::FieldId;

use super::meter_check::Quantity;
use crate::units::{Microjoules, Moment};

/// `NVML_FI_DEV_POWER_AVERAGE` and `NVML_FI_DEV_POWER_INSTANT` (nvml.h), in milliwatts.
const POWER_AVERAGE: FieldId = FieldId(185);
const POWER_INSTANT: FieldId = FieldId(186);
/// The trailing window of averaged power (nvml.h, `nvmlDeviceGetPowerUsage`).
const AVERAGE_SECONDS: f64 = 1.0;
/// PCI device ids of GA100 (A100, A800, A30), the one Ampere whose power usage is instantaneous.
const GA100: std::ops::RangeInclusive<u32> = 0x2080..=0x20ff;
/// Power readings further apart than this say nothing about what lay between them.
const INTEGRABLE_SECONDS: f64 = 1.0;

/// Where the power comes from, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PowerSource {
    /// Field 186.
    Instant,
    /// `nvmlDeviceGetPowerUsage` of a board on which it is instantaneous.
    Usage,
    /// The same on Ampere (GA100 apart) and later: the mean of the last second.
    UsageAveraged,
    /// Field 185, the mean of the last second.
    Average,
}

impl PowerSource {
    /// The best that this board gives. The error is that of `nvmlDeviceGetPowerUsage`, which all boards should have.
    pub(super) fn find(device: &Device) -> Result<Self, NvmlError> {
        if field(device, POWER_INSTANT).is_ok() {
            return Ok(Self::Instant);
        }
        match device.power_usage() {
            Ok(_) if usage_is_instant(device) => Ok(Self::Usage),
            Ok(_) => Ok(Self::UsageAveraged),
            Err(_) if field(device, POWER_AVERAGE).is_ok() => Ok(Self::Average),
            Err(error) => Err(error),
        }
    }

    /// Watts.
    pub(super) fn read(self, device: &Device) -> Result<f64, NvmlError> {
        match self {
            Self::Instant => field(device, POWER_INSTANT),
            Self::Average => field(device, POWER_AVERAGE),
            Self::Usage | Self::UsageAveraged => Ok(f64::from(device.power_usage()?) * 1e-3),
        }
    }

    pub(super) fn quantity(self) -> Quantity {
        match self.averages_over() {
            None => Quantity::PowerIntegrated,
            Some(_) => Quantity::PowerAveraged,
        }
    }

    /// Seconds of the trailing window over which a reading is a mean.
    pub(super) fn averages_over(self) -> Option<f64> {
        match self {
            Self::Instant | Self::Usage => None,
            Self::UsageAveraged | Self::Average => Some(AVERAGE_SECONDS),
        }
    }

    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Instant => "instantaneous power (field 186), integrated",
            Self::Usage => "power usage, integrated",
            Self::UsageAveraged => "power usage, the mean of the last second, integrated",
            Self::Average => "average power (field 185), the mean of the last second, integrated",
        }
    }
}

/// Whether `nvmlDeviceGetPowerUsage` tells the power of the moment: on GA100 and on what is older than Ampere. A board
/// that does not say what it is counts as a newer one.
fn usage_is_instant(device: &Device) -> bool {
    use DeviceArchitecture::{Ampere, Kepler, Maxwell, Pascal, Turing, Volta};
    match device.architecture() {
        Ok(Kepler | Maxwell | Pascal | Volta | Turing) => true,
        Ok(Ampere) => device
            .pci_info()
            .is_ok_and(|pci| GA100.contains(&(pci.pci_device_id >> 16))),
        _ => false,
    }
}

/// A field in milliwatts, as watts.
fn field(device: &Device, id: FieldId) -> Result<f64, NvmlError> {
    let sample = device
        .field_values_for(&[id])?
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

/// Whether the board is a share of one that a hypervisor hands out.
pub(super) fn is_virtual(device: &Device) -> bool {
    matches!(device.virtualization_mode(), Ok(GpuVirtualizationMode::Vgpu))
}

/// Power readings summed up to a counter that only rises.
#[derive(Default)]
pub(super) struct PowerIntegral {
    joules: f64,
    last: Option<(Moment, f64)>,
}

impl PowerIntegral {
    /// Takes in a reading and gives the counter, by the trapezoid rule. Power that is negative or no number adds
    /// nothing.
    pub(super) fn add(&mut self, at: Moment, watts: f64) -> Microjoules {
        let watts = if watts.is_finite() { watts.max(0.0) } else { 0.0 };
        if let Some((before, power)) = self.last.replace((at, watts)) {
            self.joules += at.seconds_since(before) * (power + watts) / 2.0;
        }
        Microjoules((self.joules * 1e6) as u64)
    }

    /// True when too much time passed unseen for the integral to go on; it then begins anew.
    pub(super) fn broke_off(&mut self, now: Moment) -> bool {
        let broken = self
            .last
            .is_some_and(|(at, _)| now.seconds_since(at) > INTEGRABLE_SECONDS);
        if broken {
            self.last = None;
        }
        broken
    }

    pub(super) fn begin_anew(&mut self) {
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_integral_only_rises_and_stops_at_holes() {
        let second = |s: f64| Moment(0).plus_seconds(s);
        let mut integral = PowerIntegral::default();
        assert_eq!(integral.add(second(1.0), 100.0).0, 0);
        assert_eq!(integral.add(second(1.5), 200.0).0, 75_000_000);
        assert_eq!(integral.add(second(1.5), f64::NAN).0, 75_000_000);
        assert_eq!(integral.add(second(1.0), -5.0).0, 75_000_000);
        assert!(!integral.broke_off(second(1.9)));
        assert!(integral.broke_off(second(2.5)));
        assert_eq!(integral.add(second(2.5), 100.0).0, 75_000_000);
        assert_eq!(integral.add(second(3.0), 100.0).0, 125_000_000);
    }
}
