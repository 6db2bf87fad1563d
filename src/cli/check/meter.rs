//! The meter a zoo would be measured with.

use serde_json::{Value, json};

use crate::cli::{Align, CliError, table};
use crate::config::{Energy, IdlePolicy, MeterKind, Zoo};
use crate::energy::{self, LaneDevice, MeterChoice, MeterInspection, MeterSettings, ModelledPower};
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

/// Opens the meters as `serve` would, reads each for a moment and says what it can measure and how finely. A meter that
/// was asked for and is not to be had is the file's fault.
pub(super) fn meters(zoo: &Zoo, plan: &Plan) -> Result<Vec<MeterInspection>, CliError> {
    let lanes: Vec<_> = plan
        .devices
        .iter()
        .enumerate()
        .map(|(index, device)| LaneDevice {
            device: DeviceId(index as u16),
            name: device.name.clone(),
            cuda_ordinal: device.cuda_ordinal,
            cuda_uuid: device.cuda_uuid.clone(),
        })
        .collect();
    energy::inspect_meters(&meter_settings(&zoo.energy), &lanes)
        .map_err(|error| CliError::Usage(format!("{}: {error}", zoo.origin)))
}

/// All meters in one line.
pub(super) fn line(meters: &[MeterInspection]) -> String {
    let said: Vec<_> = meters
        .iter()
        .map(|meter| format!("{}: {}", meter.lane, meter.meter))
        .collect();
    said.join("; ")
}

/// A row a device, and below it in words what a column cannot hold.
pub(super) fn meter_table(meters: &[MeterInspection]) -> String {
    use Align::{Left, Right};
    let columns = [
        ("device", Left),
        ("meter", Left),
        ("bound to", Left),
        ("reads", Left),
        ("changes every", Right),
        ("watts now", Right),
        ("limit", Right),
        ("verdict", Left),
    ];
    let figure = |value: Option<f64>, unit: &str| value.map_or("-".to_owned(), |v| format!("{v:.1} {unit}"));
    let rows = meters.iter().map(|meter| {
        let check = &meter.check;
        let bound = match (&check.board, check.short_uuid()) {
            (Some(board), Some(uuid)) => format!("{board}, {uuid}"),
            (Some(board), None) => board.clone(),
            (None, _) => "-".to_owned(),
        };
        vec![
            meter.lane.clone(),
            meter.source.as_str().to_owned(),
            bound,
            check.quantity.as_str().to_owned(),
            figure(check.update_period_ms, "ms"),
            figure(check.watts_now.map(|w| w.0), "W"),
            figure(check.power_limit_watts.map(|w| w.0), "W"),
            check.state.as_str().to_owned(),
        ]
    });
    let mut text = table(&columns, rows);
    for meter in meters {
        let check = &meter.check;
        for words in std::iter::once(&check.words).chain(&check.notes) {
            text += &format!("\n{}: {words}", meter.lane);
        }
    }
    text
}

/// The same for programs.
pub(super) fn meters_json(meters: &[MeterInspection]) -> Vec<Value> {
    meters
        .iter()
        .map(|meter| {
            json!({
                "device": meter.lane, "meter": meter.meter, "source": meter.source, "meter_check": meter.check,
            })
        })
        .collect()
}
