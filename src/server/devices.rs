//! A device's accounts as `/v1/energy` and the dashboard show them.

use serde_json::{Value, json};

use crate::energy::DeviceEnergy;
use crate::units::Microjoules;

/// Joules by account; they add up to `measured_joules`.
pub(super) fn device_object(device: &DeviceEnergy) -> Value {
    let joules = |account: Microjoules| account.joules().0;
    json!({
        "device": device.name,
        "meter": device.meter,
        "source": device.source,
        "measured_joules": joules(device.measured),
        "request_joules": joules(device.request),
        "exploration_joules": joules(device.exploration),
        "router_joules": joules(device.router),
        "idle_joules": joules(device.idle),
        "load_joules": joules(device.load),
        "unattributed_joules": joules(device.unattributed),
        "gap_seconds": device.gap_seconds,
        "watts": device.watts.0,
        "idle_watts": device.idle_watts.0,
        "tick_seconds": device.tick_seconds,
        "lag_seconds": device.lag_seconds,
        "fit_error": device.fit_error,
        "late_steps": device.late_steps,
        "reads": device.reads,
        "alarms": device.alarms,
        "meter_check": device.check,
    })
}
