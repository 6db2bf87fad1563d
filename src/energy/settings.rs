//! What the zoo file's `[energy]` table says, and the lanes that want a meter.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::units::{DeviceId, Watts};

/// Which meter to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MeterChoice {
    /// The best that each lane's device offers; `modelled` with a warning where there is none.
    #[default]
    Auto,
    /// NVML or nothing.
    Nvml,
    /// RAPL or nothing.
    Rapl,
    /// The declared estimate, even where a meter is at hand.
    Modelled,
}

/// Who pays for the watts that a device draws when it does nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IdlePolicy {
    /// An account of its own.
    #[default]
    Separate,
    /// The requests in flight, by their time in residence; the idle account when there are none.
    Shared,
}

/// The declared power of a device without a meter. Not calibrated and not measured: a stand-in that keeps the
/// accounts and the router's comparison of models meaningful, because time is what it multiplies.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelledPower {
    /// Drawn by the waiting device.
    pub idle: Watts,
    /// Drawn while a step runs, idle power included.
    pub active: Watts,
}

impl Default for ModelledPower {
    /// A small server or desktop CPU: 15 W waiting, 65 W (the usual declared power of that class) working.
    fn default() -> Self {
        Self {
            idle: Watts(15.0),
            active: Watts(65.0),
        }
    }
}

/// The settings of this room.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MeterSettings {
    pub meter: MeterChoice,
    pub idle: IdlePolicy,
    /// The NVML library to load; `libnvidia-ml.so.1` by the usual search path when absent.
    pub nvml_library: Option<PathBuf>,
    pub modelled: ModelledPower,
    /// Where to append the tape of steps and readings (see [`super::replay_tape`]); none when absent.
    pub record: Option<PathBuf>,
    /// The models' names by [`crate::units::ModelId`], for the tape's readers.
    pub models: Vec<String>,
}

/// A lane's device, as far as a meter needs to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneDevice {
    pub device: DeviceId,
    /// What people call it, such as `cpu` or `cuda:0`.
    pub name: String,
    /// The CUDA ordinal; `None` for a lane that computes on the CPU.
    pub cuda_ordinal: Option<usize>,
    /// What CUDA itself says of that device, `GPU-…`: it settles which board NVML is to read, whatever the environment
    /// says. `None` where CUDA was not asked.
    pub cuda_uuid: Option<String>,
}
