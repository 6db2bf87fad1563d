//! RAPL by Linux powercap (`/sys/class/powercap/intel-rapl:*`, AMD too since kernel 5.8): the packages' counters and,
//! where the part has them, DRAM's. In microjoules, fresh to about a millisecond, wrapping after some tens of minutes
//! under load.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::meter::{Meter, MeterError, Reading};
use super::report::Source;
use crate::units::{Microjoules, Moment};

/// Where Linux shows powercap.
pub(super) const POWERCAP: &str = "/sys/class/powercap";

struct Domain {
    name: String,
    file: PathBuf,
    range: u64,
    last: u64,
}

pub(super) struct RaplMeter {
    domains: Vec<Domain>,
    total: u64,
}

impl RaplMeter {
    /// Opens every package and DRAM domain under `root`. The error says in words why there is none.
    pub(super) fn open(root: &Path) -> Result<Self, String> {
        let entries =
            std::fs::read_dir(root).map_err(|e| format!("{} cannot be listed ({e})", root.display()))?;
        let mut folders: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        folders.sort();
        let mut domains = Vec::new();
        for folder in folders {
            let place = folder
                .file_name()
                .map(|n| n.to_string_lossy().into_owned())
                .unwrap_or_default();
            // `intel-rapl-mmio:0` shows the same package a second time, `psys` contains it.
            if !place.starts_with("intel-rapl:") {
                continue;
            }
            let Ok(name) = std::fs::read_to_string(folder.join("name")) else {
                continue;
            };
            let name = name.trim().to_owned();
            if !name.starts_with("package") && name != "dram" {
                continue;
            }
            let file = folder.join("energy_uj");
            let range = read_number(&folder.join("max_energy_range_uj"))?;
            let last = read_number(&file)?;
            domains.push(Domain {
                name,
                file,
                range,
                last,
            });
        }
        if domains.is_empty() {
            return Err(format!("there is no RAPL package under {}", root.display()));
        }
        Ok(Self { domains, total: 0 })
    }
}

impl Meter for RaplMeter {
    fn source(&self) -> Source {
        Source::Rapl
    }

    fn describe(&self) -> String {
        let names: Vec<&str> = self.domains.iter().map(|d| d.name.as_str()).collect();
        format!("RAPL counters of the whole machine's {}", names.join(", "))
    }

    fn read(&mut self, _now: Moment) -> Result<Reading, MeterError> {
        // All or nothing, or a domain that fails now would count its energy into another moment.
        let values: Result<Vec<u64>, String> = self.domains.iter().map(|d| read_number(&d.file)).collect();
        for (domain, value) in self.domains.iter_mut().zip(values.map_err(MeterError::Failed)?) {
            let step = match value.checked_sub(domain.last) {
                Some(step) => step,
                None => (domain.range.saturating_sub(domain.last)).saturating_add(value),
            };
            self.total = self.total.saturating_add(step);
            domain.last = value;
        }
        Ok(Reading {
            counter: Microjoules(self.total),
            power: None,
        })
    }

    fn reads_are_instant(&self) -> bool {
        true
    }
}

fn read_number(file: &Path) -> Result<u64, String> {
    let text = std::fs::read_to_string(file).map_err(|e| match e.kind() {
        ErrorKind::PermissionDenied => format!(
            "{} may be read by root only (Linux's answer to CVE-2020-8694); give the server's group read access to it",
            file.display()
        ),
        _ => format!("{} cannot be read ({e})", file.display()),
    })?;
    text.trim()
        .parse()
        .map_err(|_| format!("{} holds {:?}, not a number", file.display(), text.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(root: &Path, place: &str, name: &str, energy: u64) {
        let folder = root.join(place);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("name"), format!("{name}\n")).unwrap();
        std::fs::write(folder.join("max_energy_range_uj"), "1000\n").unwrap();
        std::fs::write(folder.join("energy_uj"), format!("{energy}\n")).unwrap();
    }

    fn counter(meter: &mut RaplMeter) -> u64 {
        meter.read(Moment(0)).unwrap().counter.0
    }

    #[test]
    fn adds_packages_and_dram_and_nothing_twice() {
        let root = tempfile::tempdir().unwrap();
        let places = [
            ("intel-rapl:0", "package-0"),
            ("intel-rapl:0:0", "core"),
            ("intel-rapl:0:1", "dram"),
            ("intel-rapl:1", "package-1"),
            ("intel-rapl:2", "psys"),
            ("intel-rapl-mmio:0", "package-0"),
        ];
        for (place, name) in places {
            domain(root.path(), place, name, 100);
        }
        let mut meter = RaplMeter::open(root.path()).unwrap();
        assert_eq!(counter(&mut meter), 0);
        for (place, name) in places {
            domain(root.path(), place, name, 150);
        }
        assert_eq!(counter(&mut meter), 150);
        assert!(meter.describe().contains("package-0, dram, package-1"));
    }

    #[test]
    fn a_wrap_is_no_reset() {
        let root = tempfile::tempdir().unwrap();
        domain(root.path(), "intel-rapl:0", "package-0", 990);
        let mut meter = RaplMeter::open(root.path()).unwrap();
        domain(root.path(), "intel-rapl:0", "package-0", 15);
        assert_eq!(counter(&mut meter), 25);
    }

    #[test]
    fn a_domain_that_vanishes_is_a_failed_reading_and_loses_nothing() {
        let root = tempfile::tempdir().unwrap();
        domain(root.path(), "intel-rapl:0", "package-0", 10);
        domain(root.path(), "intel-rapl:0:0", "dram", 10);
        let mut meter = RaplMeter::open(root.path()).unwrap();
        domain(root.path(), "intel-rapl:0", "package-0", 30);
        std::fs::remove_file(root.path().join("intel-rapl:0:0/energy_uj")).unwrap();
        assert!(matches!(meter.read(Moment(0)), Err(MeterError::Failed(_))));
        domain(root.path(), "intel-rapl:0:0", "dram", 20);
        assert_eq!(counter(&mut meter), 30);
    }

    #[test]
    fn says_why_there_is_none() {
        let root = tempfile::tempdir().unwrap();
        assert!(
            RaplMeter::open(root.path())
                .err()
                .unwrap()
                .contains("no RAPL package")
        );
        assert!(
            RaplMeter::open(&root.path().join("none"))
                .err()
                .unwrap()
                .contains("cannot be listed")
        );
        domain(root.path(), "intel-rapl:0", "package-0", 1);
        std::fs::write(root.path().join("intel-rapl:0/energy_uj"), "many").unwrap();
        assert!(
            RaplMeter::open(root.path())
                .err()
                .unwrap()
                .contains("not a number")
        );
    }
}
