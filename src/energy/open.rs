//! Choosing a meter per lane.

use std::path::Path;

use super::fallback::NvmlOrModelled;
use super::meter::{EnergyError, Meter};
use super::modelled::ModelledMeter;
use super::nvml::NvmlMeter;
use super::nvml_devices::{Cuda, nvml_index};
use super::nvml_library::list;
use super::rapl::{POWERCAP, RaplMeter};
use super::report::Source;
use super::settings::{LaneDevice, MeterChoice, MeterSettings};

const NVML_MEND: &str =
    "install the NVIDIA driver's libnvidia-ml.so.1 or name another by nvml_library, or set meter = \"auto\"";
const WHOLE_MACHINE: &str = "RAPL counts the whole machine, and another lane has it already";
const RAPL_MEND: &str = "give read access to energy_uj under /sys/class/powercap, or set meter = \"auto\"";

/// One meter per lane, in the lanes' order.
///
/// `auto` takes NVML for a CUDA lane and RAPL for a CPU lane, and the modelled estimate with a warning where there is
/// none. A meter that is named and not to be had is an error, never silently another one. With `nvml`, CUDA lanes take
/// their own board and other lanes the remaining NVML devices in order.
pub fn open_meters(
    settings: &MeterSettings,
    lanes: &[LaneDevice],
) -> Result<Vec<Box<dyn Meter>>, EnergyError> {
    open_with(settings, lanes, Path::new(POWERCAP), &Cuda::from_environment())
}

fn open_with(
    settings: &MeterSettings,
    lanes: &[LaneDevice],
    powercap: &Path,
    cuda: &Cuda,
) -> Result<Vec<Box<dyn Meter>>, EnergyError> {
    let (idle, active) = (settings.modelled.idle.0, settings.modelled.active.0);
    if !(idle.is_finite() && active.is_finite() && idle >= 0.0 && active >= idle) {
        return Err(EnergyError::BadModelledPower { idle, active });
    }
    match settings.meter {
        MeterChoice::Modelled => Ok(lanes.iter().map(|_| modelled(settings)).collect()),
        MeterChoice::Nvml => all_nvml(settings, lanes, cuda),
        MeterChoice::Rapl => all_rapl(lanes, powercap),
        MeterChoice::Auto => Ok(best_of_each(settings, lanes, powercap, cuda)),
    }
}

fn modelled(settings: &MeterSettings) -> Box<dyn Meter> {
    Box::new(ModelledMeter::new(settings.modelled))
}

fn best_of_each(
    settings: &MeterSettings,
    lanes: &[LaneDevice],
    powercap: &Path,
    cuda: &Cuda,
) -> Vec<Box<dyn Meter>> {
    let mut boards = Vec::new();
    let mut has_rapl = false;
    let mut best = |lane: &LaneDevice| -> Result<Box<dyn Meter>, String> {
        let Some(ordinal) = lane.cuda_ordinal else {
            if std::mem::replace(&mut has_rapl, true) {
                return Err(WHOLE_MACHINE.to_owned());
            }
            return RaplMeter::open(powercap).map(|m| Box::new(m) as _);
        };
        let library = settings.nvml_library.as_deref();
        let (_open, listed) = list(library)?;
        let index = nvml_index(ordinal, lane.cuda_uuid.as_deref(), cuda, &listed)?;
        take(index, &mut boards)?;
        let meter = open_nvml(library, index, lane)?;
        Ok(Box::new(NvmlOrModelled::new(meter, settings.modelled)))
    };
    let or_modelled = |lane: &LaneDevice| {
        best(lane).unwrap_or_else(|why| {
            let meter = modelled(settings);
            tracing::warn!("energy of {} is {}, because {why}", lane.name, meter.describe());
            meter
        })
    };
    lanes.iter().map(or_modelled).collect()
}

fn open_nvml(library: Option<&Path>, index: u32, lane: &LaneDevice) -> Result<NvmlMeter, String> {
    let meter = NvmlMeter::open(library, index)?;
    for note in &meter.check().notes {
        tracing::warn!("energy of {}: {note}", lane.name);
    }
    Ok(meter)
}

/// Two lanes on slices of one board would each count the whole of it.
fn take(index: u32, taken: &mut Vec<u32>) -> Result<(), String> {
    if taken.contains(&index) {
        return Err(format!(
            "NVML device {index} is counted for another lane already, and its energy is the whole board's"
        ));
    }
    taken.push(index);
    Ok(())
}

fn all_nvml(
    settings: &MeterSettings,
    lanes: &[LaneDevice],
    cuda: &Cuda,
) -> Result<Vec<Box<dyn Meter>>, EnergyError> {
    let library = settings.nvml_library.as_deref();
    let fail = |lane: &LaneDevice, why: String| EnergyError::Unavailable {
        meter: Source::Nvml,
        lane: lane.name.clone(),
        why,
        mend: NVML_MEND,
    };
    let Some(first) = lanes.first() else {
        return Ok(Vec::new());
    };
    let (_open, boards) = list(library).map_err(|why| fail(first, why))?;
    let mut taken = Vec::new();
    let mut bound = Vec::new();
    for lane in lanes {
        if let Some(ordinal) = lane.cuda_ordinal {
            let index = nvml_index(ordinal, lane.cuda_uuid.as_deref(), cuda, &boards)
                .map_err(|why| fail(lane, why))?;
            take(index, &mut taken).map_err(|why| fail(lane, why))?;
            bound.push(index);
        }
    }
    let mut bound = bound.into_iter();
    let mut free = (0..boards.len() as u32).filter(|index| !taken.contains(index));
    let mut meters: Vec<Box<dyn Meter>> = Vec::new();
    for lane in lanes {
        let index = if lane.cuda_ordinal.is_some() {
            bound.next()
        } else {
            free.next()
        };
        let few = || {
            fail(
                lane,
                format!("NVML knows {} devices for {} lanes", boards.len(), lanes.len()),
            )
        };
        let meter = open_nvml(library, index.ok_or_else(few)?, lane).map_err(|why| fail(lane, why))?;
        meters.push(Box::new(meter));
    }
    Ok(meters)
}

fn all_rapl(lanes: &[LaneDevice], powercap: &Path) -> Result<Vec<Box<dyn Meter>>, EnergyError> {
    let fail = |lane: &LaneDevice, why: String| EnergyError::Unavailable {
        meter: Source::Rapl,
        lane: lane.name.clone(),
        why,
        mend: RAPL_MEND,
    };
    let mut meters: Vec<Box<dyn Meter>> = Vec::new();
    for lane in lanes {
        if lane.cuda_ordinal.is_some() {
            return Err(fail(
                lane,
                "RAPL counts the CPU and its memory, not a GPU".to_owned(),
            ));
        }
        if !meters.is_empty() {
            return Err(fail(lane, WHOLE_MACHINE.to_owned()));
        }
        meters.push(Box::new(
            RaplMeter::open(powercap).map_err(|why| fail(lane, why))?,
        ));
    }
    Ok(meters)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::energy::ModelledPower;
    use crate::units::{DeviceId, Watts};

    fn lane(cuda_ordinal: Option<usize>) -> LaneDevice {
        LaneDevice {
            device: DeviceId(0),
            name: "cpu".into(),
            cuda_ordinal,
            cuda_uuid: None,
        }
    }

    fn settings(meter: MeterChoice) -> MeterSettings {
        MeterSettings {
            meter,
            nvml_library: Some("/nowhere/lib.so".into()),
            ..MeterSettings::default()
        }
    }

    #[test]
    fn auto_falls_to_modelled_and_a_named_meter_never_does() {
        let none = Path::new("/nowhere");
        for lane in [lane(None), lane(Some(0))] {
            let meters = open_with(
                &settings(MeterChoice::Auto),
                std::slice::from_ref(&lane),
                none,
                &Cuda::default(),
            )
            .unwrap();
            assert_eq!(meters[0].source(), Source::Modelled);
            for choice in [MeterChoice::Nvml, MeterChoice::Rapl] {
                let error = open_with(
                    &settings(choice),
                    std::slice::from_ref(&lane),
                    none,
                    &Cuda::default(),
                )
                .err()
                .unwrap()
                .to_string();
                assert!(
                    error.contains("cannot measure lane cpu") && error.contains("set meter = \"auto\""),
                    "{error}"
                );
            }
        }
    }

    #[test]
    fn cuda_lanes_take_their_own_board_and_never_the_same_one() {
        let board = |uuid: &str, mig| nvml_standin::BoardConfig {
            uuid: uuid.to_owned(),
            mig,
            ..nvml_standin::BoardConfig::default()
        };
        let card = nvml_standin::Card::new(&nvml_standin::Config {
            boards: vec![board("GPU-a", false), board("GPU-b", true)],
            ..nvml_standin::Config::default()
        });
        let open = |choice, lanes: &[LaneDevice]| {
            let settings = MeterSettings {
                nvml_library: Some(card.path().to_owned()),
                ..settings(choice)
            };
            open_with(&settings, lanes, Path::new("/nowhere"), &Cuda::default()).map_err(|e| e.to_string())
        };
        let bound = |meters: &[Box<dyn Meter>]| -> Vec<_> { meters.iter().map(|m| m.check().uuid).collect() };
        let uuid = |text: &str| Some(text.to_owned());
        // A lane of no GPU takes what CUDA's leave.
        let lanes = [lane(None), lane(Some(0))];
        let nvml = open(MeterChoice::Nvml, &lanes).unwrap();
        assert_eq!(bound(&nvml), [uuid("GPU-b"), uuid("GPU-a")]);
        assert!(nvml[0].describe().contains("all MIG slices"));
        let auto = open(MeterChoice::Auto, &[lane(Some(1)), lane(Some(0)), lane(Some(1))]).unwrap();
        assert_eq!(bound(&auto), [uuid("GPU-b"), uuid("GPU-a"), None]);
        assert_eq!(auto[2].source(), Source::Modelled);
        let error = open(MeterChoice::Nvml, &[lane(Some(1)), lane(Some(1))])
            .err()
            .unwrap();
        assert!(error.contains("for another lane already"), "{error}");
    }

    #[test]
    fn rapl_serves_one_cpu_lane() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("intel-rapl:0");
        std::fs::create_dir_all(&folder).unwrap();
        for (file, text) in [
            ("name", "package-0"),
            ("max_energy_range_uj", "1000"),
            ("energy_uj", "5"),
        ] {
            std::fs::write(folder.join(file), text).unwrap();
        }
        let open = |lanes: &[LaneDevice]| {
            open_with(&settings(MeterChoice::Rapl), lanes, root.path(), &Cuda::default())
        };
        assert_eq!(open(&[lane(None)]).unwrap()[0].source(), Source::Rapl);
        assert!(open(&[lane(None), lane(None)]).is_err());
    }

    #[test]
    fn absurd_declared_watts_are_refused() {
        let modelled = ModelledPower {
            idle: Watts(50.0),
            active: Watts(20.0),
        };
        let settings = MeterSettings {
            modelled,
            ..settings(MeterChoice::Modelled)
        };
        let error = open_meters(&settings, &[lane(None)]).err().unwrap().to_string();
        assert!(error.contains("idle = 50 W and active = 20 W"), "{error}");
    }
}
