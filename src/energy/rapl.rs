//! RAPL by Linux powercap (`/sys/class/powercap/intel-rapl:*`, AMD too since kernel 5.8): the packages' counters and,
//! where the part has them, DRAM's. In microjoules, fresh to about a millisecond, wrapping after some tens of minutes
//! under load. The subdomains core and uncore are parts of their package and psys contains it, so none is added.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::meter::{Meter, MeterError, Reading};
use super::report::Source;
use crate::units::{Microjoules, Moment};

/// Where Linux shows powercap.
pub(super) const POWERCAP: &str = "/sys/class/powercap";

/// More than any one package or its memory draws. A fall that would mean more is a counter begun anew (a suspended
/// machine), not a wrap; and a silence in which this much would wrap the counter hides how often it did.
const MOST_WATTS: f64 = 2_000.0;

struct Domain {
    name: String,
    file: PathBuf,
    range: u64,
    last: u64,
}

pub(super) struct RaplMeter {
    domains: Vec<Domain>,
    total: u64,
    last_read: Option<Moment>,
}

impl RaplMeter {
    /// Opens every package and DRAM domain under `root`. The error says in words why there is none.
    pub(super) fn open(root: &Path) -> Result<Self, String> {
        let entries =
            std::fs::read_dir(root).map_err(|e| format!("{} cannot be listed ({e})", root.display()))?;
        let mut folders: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        folders.sort();
        // `intel-rapl-mmio:0` shows the same packages a second time; some machines have only that.
        let mut domains = domains(&folders, "intel-rapl:")?;
        if domains.is_empty() {
            domains = self::domains(&folders, "intel-rapl-mmio:")?;
        }
        if domains.is_empty() {
            return Err(format!(
                "there is no RAPL package under {} (a virtual machine is normally given none; on bare metal load the \
                 kernel module intel_rapl_msr)",
                root.display()
            ));
        }
        Ok(Self {
            domains,
            total: 0,
            last_read: None,
        })
    }

    /// The domains' steps since the last reading; the error says why they are not known.
    fn steps(&self, values: &[u64], silence: Option<f64>) -> Result<u64, String> {
        let mut sum = 0u64;
        for (domain, value) in self.domains.iter().zip(values) {
            let most = |seconds: f64| MOST_WATTS * seconds * 1e6;
            if silence.is_some_and(|seconds| most(seconds) > domain.range as f64) {
                return Err(format!(
                    "{} went unread so long that it may have wrapped more than once",
                    domain.file.display()
                ));
            }
            let step = match value.checked_sub(domain.last) {
                Some(step) => step,
                None => domain.range.saturating_sub(domain.last).saturating_add(*value),
            };
            let possible = silence.map_or(f64::INFINITY, |seconds| most(seconds.max(1.0)));
            if *value < domain.last && step as f64 > possible {
                return Err(format!("{} began anew", domain.file.display()));
            }
            sum = sum.saturating_add(step);
        }
        Ok(sum)
    }
}

/// The package and DRAM domains among the folders that begin with `prefix`.
fn domains(folders: &[PathBuf], prefix: &str) -> Result<Vec<Domain>, String> {
    let mut domains = Vec::new();
    for folder in folders {
        let place = folder.file_name().map(|n| n.to_string_lossy());
        if !place.is_some_and(|place| place.starts_with(prefix)) {
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
    Ok(domains)
}

impl Meter for RaplMeter {
    fn source(&self) -> Source {
        Source::Rapl
    }

    fn describe(&self) -> String {
        let names: Vec<&str> = self.domains.iter().map(|d| d.name.as_str()).collect();
        format!("RAPL counters of the whole machine's {}", names.join(", "))
    }

    fn read(&mut self, now: Moment) -> Result<Reading, MeterError> {
        // All or nothing, or a domain that fails now would count its energy into another moment.
        let values: Result<Vec<u64>, String> = self.domains.iter().map(|d| read_number(&d.file)).collect();
        let values = values.map_err(MeterError::Failed)?;
        let silence = self.last_read.replace(now).map(|last| now.seconds_since(last));
        let steps = self.steps(&values, silence);
        for (domain, value) in self.domains.iter_mut().zip(values) {
            domain.last = value;
        }
        self.total = self.total.saturating_add(steps.map_err(MeterError::Restarted)?);
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
    let text = std::fs::read_to_string(file).map_err(|e| words(file, &e))?;
    text.trim()
        .parse()
        .map_err(|_| format!("{} holds {:?}, not a number", file.display(), text.trim()))
}

/// Why a file cannot be read, with the mend where there is one.
fn words(file: &Path, error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::PermissionDenied => format!(
            "{} may be read by root only (Linux's answer to CVE-2020-8694); let the server's group read it (chgrp and \
             chmod g+r, by a udev rule so that it lasts; in a container mount /sys/class/powercap as well)",
            file.display()
        ),
        _ => format!("{} cannot be read ({error})", file.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn domain(root: &Path, place: &str, name: &str, energy: u64) {
        ranged(root, place, name, energy, 1_000);
    }

    fn ranged(root: &Path, place: &str, name: &str, energy: u64, range: u64) {
        let folder = root.join(place);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("name"), format!("{name}\n")).unwrap();
        std::fs::write(folder.join("max_energy_range_uj"), format!("{range}\n")).unwrap();
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
    fn many_wraps_read_often_enough_lose_nothing() {
        let root = tempfile::tempdir().unwrap();
        let range = 262_143_328_850;
        let energy = |n: u64| range - 1_000_000_000 + n * 700_000_000_000 / 9;
        ranged(root.path(), "intel-rapl:0", "package-0", energy(0), range);
        let mut meter = RaplMeter::open(root.path()).unwrap();
        for n in 0..40 {
            ranged(root.path(), "intel-rapl:0", "package-0", energy(n) % range, range);
            let counted = meter.read(Moment(n * 90 * SECOND)).unwrap().counter.0;
            assert_eq!(counted, energy(n) - energy(0), "reading {n}");
        }
    }

    #[test]
    fn a_silence_that_may_hide_a_wrap_and_a_counter_begun_anew_are_new_beginnings() {
        let root = tempfile::tempdir().unwrap();
        let write = |energy| ranged(root.path(), "intel-rapl:0", "package-0", energy, 262_143_328_850);
        write(5_000_000_000);
        let mut meter = RaplMeter::open(root.path()).unwrap();
        assert_eq!(counter(&mut meter), 0);
        write(5_000_000_007);
        let late = meter.read(Moment(1_000 * SECOND));
        assert!(matches!(&late, Err(MeterError::Restarted(why)) if why.contains("wrapped more than once")));
        write(12);
        let back = meter.read(Moment(1_001 * SECOND));
        assert!(matches!(&back, Err(MeterError::Restarted(why)) if why.contains("began anew")));
        write(20);
        assert_eq!(meter.read(Moment(1_002 * SECOND)).unwrap().counter.0, 8);
    }

    #[test]
    fn a_machine_that_shows_only_the_second_view_is_measured_by_it() {
        let root = tempfile::tempdir().unwrap();
        domain(root.path(), "intel-rapl-mmio:0", "package-0", 10);
        domain(root.path(), "intel-rapl-mmio:0:0", "core", 10);
        let mut meter = RaplMeter::open(root.path()).unwrap();
        domain(root.path(), "intel-rapl-mmio:0", "package-0", 30);
        assert_eq!(counter(&mut meter), 20);
    }

    #[test]
    fn a_file_that_only_root_may_read_is_told_with_the_mend() {
        let refused = std::io::Error::from(ErrorKind::PermissionDenied);
        let text = words(Path::new("/sys/class/powercap/intel-rapl:0/energy_uj"), &refused);
        assert!(
            text.contains("intel-rapl:0/energy_uj may be read by root only") && text.contains("chmod g+r"),
            "{text}"
        );
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
