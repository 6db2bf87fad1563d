//! The meter a zoo would be measured with.

use crate::cli::CliError;
use crate::config::{Energy, IdlePolicy, MeterKind, Zoo};
use crate::energy::{self, LaneDevice, MeterChoice, MeterSettings, ModelledPower};
use crate::units::DeviceId;

use super::Plan;

/// What the zoo file's `[energy]` means to the room that opens meters.
pub fn meter_settings(energy: &Energy) -> MeterSettings {
    MeterSettings {
        meter: match energy.meter {
            MeterKind::Auto => MeterChoice::Auto,
            MeterKind::Nvml => MeterChoice::Nvml,
            MeterKind::Rapl => MeterChoice::Rapl,
            MeterKind::Modelled => MeterChoice::Modelled,
        },
        idle: match energy.idle {
            IdlePolicy::Separate => energy::IdlePolicy::Separate,
            IdlePolicy::Shared => energy::IdlePolicy::Shared,
        },
        nvml_library: Some(energy.nvml_library.as_str().into()),
        modelled: ModelledPower {
            idle: energy.modelled_idle_watts,
            active: energy.modelled_active_watts,
        },
        record: energy.record.clone(),
        models: Vec::new(),
    }
}

/// Opens the meters as `serve` would, and says which they are. A meter that was asked for and is not to be had is
/// the file's fault.
pub(super) fn meter_line(zoo: &Zoo, plan: &Plan) -> Result<String, CliError> {
    let lanes: Vec<_> = plan
        .devices
        .iter()
        .enumerate()
        .map(|(index, device)| LaneDevice {
            device: DeviceId(index as u16),
            name: device.name.clone(),
            cuda_ordinal: device.cuda_ordinal,
        })
        .collect();
    let meters = energy::open_meters(&meter_settings(&zoo.energy), &lanes)
        .map_err(|error| CliError::Usage(format!("{}: {error}", zoo.origin)))?;
    let said: Vec<_> = meters
        .iter()
        .zip(&lanes)
        .map(|(meter, lane)| format!("{}: {}", lane.name, meter.describe()))
        .collect();
    Ok(said.join("; "))
}
