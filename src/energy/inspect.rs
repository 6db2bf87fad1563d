//! Looking at meters without serving: what `messplus check` says of each.

use std::time::Duration;

use super::meter::{EnergyError, Meter};
use super::meter_check::{CheckState, MeterCheck};
use super::open::open_meters;
use super::report::Source;
use super::self_test::{Timed, judge};
use super::settings::{LaneDevice, MeterSettings};
use crate::units::{Clock, Watts};

/// Between two reads of all meters.
const EVERY: Duration = Duration::from_millis(1);
/// A meter without a test of its own is watched for this long.
const WATCHED_SECONDS: f64 = 0.4;
/// No test outlasts this, unless the device is away.
const LONGEST_SECONDS: f64 = 4.0;

/// What one lane would be measured with.
#[derive(Clone, Debug, PartialEq)]
pub struct MeterInspection {
    pub lane: String,
    /// The meter in words.
    pub meter: String,
    pub source: Source,
    pub check: MeterCheck,
}

/// Opens the meters as [`open_meters`] would and reads them closely for as long as their test takes: some two seconds
/// with NVML, less than half a second with RAPL, no time for the modelled one.
pub fn inspect_meters(
    settings: &MeterSettings,
    lanes: &[LaneDevice],
) -> Result<Vec<MeterInspection>, EnergyError> {
    let mut meters = open_meters(settings, lanes)?;
    let mut watched: Vec<Vec<Timed>> = meters.iter().map(|_| Vec::new()).collect();
    let clock = Clock::start();
    let wants_more = |meters: &[Box<dyn Meter>], seconds: f64| {
        meters.iter().any(|meter| match meter.source() {
            Source::Nvml => meter.is_on_trial() && seconds < LONGEST_SECONDS,
            Source::Rapl => seconds < WATCHED_SECONDS,
            Source::Modelled => false,
        })
    };
    while wants_more(&meters, clock.now().0 as f64 * 1e-9) {
        for (meter, watched) in meters.iter_mut().zip(&mut watched) {
            let at = clock.now();
            let joules = meter.read(at).ok().map(|r| r.counter.joules().0);
            watched.push(Timed {
                at,
                joules,
                watts: None,
            });
        }
        std::thread::sleep(EVERY);
    }
    let said = meters
        .iter()
        .zip(lanes)
        .zip(&watched)
        .map(|((meter, lane), watched)| MeterInspection {
            lane: lane.name.clone(),
            meter: meter.describe(),
            source: meter.source(),
            check: checked(meter.as_ref(), watched),
        });
    Ok(said.collect())
}

fn checked(meter: &dyn Meter, watched: &[Timed]) -> MeterCheck {
    let mut check = meter.check();
    match check.state {
        CheckState::Untested if meter.source() == Source::Rapl => {
            let found = judge(watched, None);
            check.update_period_ms = found.period.map(|seconds| seconds * 1e3);
            check.implied_watts = found.implied_watts.map(Watts);
            check.watts_now = check.implied_watts;
            check.notes.extend(found.counter_fault);
        }
        CheckState::Running => check
            .notes
            .push("too few readings in four seconds; the device may be away".to_owned()),
        _ => {}
    }
    check
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::energy::MeterChoice;
    use crate::units::DeviceId;

    #[test]
    fn a_zoo_without_a_meter_is_told_so_at_once() {
        let lane = LaneDevice {
            device: DeviceId(0),
            name: "cpu".into(),
            cuda_ordinal: None,
            cuda_uuid: None,
        };
        let settings = MeterSettings {
            meter: MeterChoice::Modelled,
            ..MeterSettings::default()
        };
        let begun = std::time::Instant::now();
        let said = inspect_meters(&settings, &[lane]).unwrap();
        assert!(begun.elapsed() < Duration::from_millis(200));
        assert_eq!(
            (said[0].source, said[0].check.quantity.as_str()),
            (Source::Modelled, "declared")
        );
        assert!(said[0].check.words.contains("not measured"));
    }
}
