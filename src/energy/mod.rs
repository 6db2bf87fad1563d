//! Joules: meters give a counter, lanes give the record of their steps, and this room says whose energy it was.
//!
//! The law of the house is conservation: for every device, at every moment, what the meter counted equals the sum of
//! the accounts, in whole microjoules. Everything between a meter's reading and a request's joules is pure and takes
//! time as an argument (`book` and below); `handle` puts it on a thread of its own.

mod accounting;
mod alarms;
mod apportion;
mod attribution;
mod book;
mod counter;
mod events;
mod fallback;
mod features;
mod handle;
mod inspect;
mod lag;
mod law;
mod least_squares;
mod ledger;
mod meter;
mod meter_check;
mod modelled;
mod nvml;
mod nvml_devices;
mod nvml_library;
mod nvml_power;
mod open;
mod rapl;
pub mod records;
mod report;
mod residents;
mod run_loop;
mod sampling;
mod self_test;
mod settings;
mod smear;
mod station;
mod tape;
mod workbench;

#[cfg(test)]
mod abuse_tests;
#[cfg(test)]
mod accuracy_tests;
#[cfg(test)]
mod bars;
#[cfg(test)]
mod book_tests;
#[cfg(test)]
mod conservation_tests;
#[cfg(test)]
mod fallback_tests;
#[cfg(test)]
mod flawed_meter_tests;
#[cfg(test)]
mod nvml_tests;
#[cfg(test)]
mod played_lane;
#[cfg(test)]
mod stage;
#[cfg(test)]
mod tape_tests;
#[cfg(test)]
mod test_world;

pub use alarms::AlarmKind;
pub use handle::EnergyHandle;
pub use inspect::{MeterInspection, inspect_meters};
pub use meter::{EnergyError, Meter, MeterError, Reading};
pub use meter_check::{CheckState, MeterCheck, Quantity};
pub use open::open_meters;
pub use records::{Account, StepRecord, StepRow};
pub use report::{DeviceEnergy, DeviceTotals, RequestEnergy, Source};
pub use settings::{IdlePolicy, LaneDevice, MeterChoice, MeterSettings, ModelledPower};
pub use tape::{TapeError, TapeReplay, check_record, replay_tape};
#[doc(hidden)]
pub use workbench::Workbench;
