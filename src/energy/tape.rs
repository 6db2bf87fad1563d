//! The tape: what the energy thread learnt, in the order in which it learnt it, as JSON lines. Every account and every
//! request's joules can be derived from it again.
//!
//! The first line is `{"tape": ...}`, what the books began from. Then come `{"begin": ...}`, `{"step": ...}`,
//! `{"reading": ...}`, `{"finished": ...}` and `"settle"`. Moments are nanoseconds since the process's own origin, which
//! the header gives on CLOCK_MONOTONIC. A process that finds a file appends to it; its header begins a new time.
//! A step takes some 150 bytes and 90 for each of its rows.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::accounting::{Accounting, Entry, Opening};
use super::meter::EnergyError;
use super::report::{DeviceTotals, RequestEnergy};
use super::settings::{IdlePolicy, MeterSettings};
use crate::units::{Clock, RequestId};

const VERSION: u32 = 1;

/// What the books began from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Header {
    version: u32,
    /// The moment 0 in nanoseconds on CLOCK_MONOTONIC; only on Linux.
    origin: Option<u64>,
    idle: IdlePolicy,
    devices: Vec<Opening>,
    /// By their ids.
    models: Vec<String>,
}

impl Header {
    pub(super) fn new(settings: &MeterSettings, devices: Vec<Opening>, clock: &Clock) -> Self {
        Self {
            version: VERSION,
            origin: monotonic_nanos().map(|now| now.saturating_sub(clock.now().0)),
            idle: settings.idle,
            devices,
            models: settings.models.clone(),
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line<H, E> {
    Tape(H),
    #[serde(untagged)]
    Entry(E),
}

/// The end that writes.
pub(super) struct Tape {
    out: BufWriter<File>,
}

impl Tape {
    pub(super) fn begin(path: &Path, header: &Header) -> io::Result<Self> {
        let mut tape = Self {
            out: BufWriter::new(append(path)?),
        };
        tape.line(&Line::<_, Entry>::Tape(header))?;
        tape.flush()?;
        Ok(tape)
    }

    pub(super) fn write(&mut self, entry: &Entry) -> io::Result<()> {
        self.line(entry)
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn line(&mut self, line: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, line)?;
        self.out.write_all(b"\n")
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// Whether the file for the record, if one is named, can be written; to be asked before anything is loaded.
pub fn check_record(settings: &MeterSettings) -> Result<(), EnergyError> {
    let Some(path) = &settings.record else {
        return Ok(());
    };
    let refused = |error: io::Error| EnergyError::Record {
        path: path.display().to_string(),
        why: error.to_string(),
    };
    append(path).map(drop).map_err(refused)
}

/// Why a tape cannot be replayed.
#[derive(Debug, Error)]
pub enum TapeError {
    #[error("{path} cannot be read: {why}; name a file that `[energy] record` wrote")]
    Unreadable { path: String, why: String },
    #[error("{path} line {line} is no line of a tape: {why}; name a file that `[energy] record` wrote")]
    BadLine { path: String, line: usize, why: String },
    #[error(
        "{path} line {line} begins a tape of version {version}, and this program reads version {VERSION}; replay it with the program that wrote it"
    )]
    Version { path: String, line: usize, version: u32 },
}

/// What a tape says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TapeReplay {
    /// Each device's accounts at the end, of the last process that wrote the tape. They include what that process took
    /// over from earlier ones.
    pub devices: Vec<DeviceTotals>,
    /// Each request's final energy, of all processes.
    pub requests: BTreeMap<RequestId, RequestEnergy>,
}

/// Keeps the books again that a process kept while it wrote this tape. A last line that was cut off, as by `kill -9`, is
/// left out.
pub fn replay_tape(path: &Path) -> Result<TapeReplay, TapeError> {
    let name = || path.display().to_string();
    let unreadable = |error: io::Error| TapeError::Unreadable {
        path: name(),
        why: error.to_string(),
    };
    let mut lines = BufReader::new(File::open(path).map_err(unreadable)?);
    let (mut replay, mut books) = (TapeReplay::default(), None);
    let (mut text, mut line) = (String::new(), 0);
    while {
        text.clear();
        lines.read_line(&mut text).map_err(unreadable)? > 0 && text.ends_with('\n')
    } {
        line += 1;
        let bad = |why: String| TapeError::BadLine {
            path: name(),
            line,
            why,
        };
        match serde_json::from_str::<Line<Header, Entry>>(&text).map_err(|e| bad(e.to_string()))? {
            Line::Tape(header) if header.version != VERSION => {
                return Err(TapeError::Version {
                    path: name(),
                    line,
                    version: header.version,
                });
            }
            Line::Tape(header) => books = Some(Accounting::new(header.devices, header.idle)),
            Line::Entry(entry) => {
                let books = books
                    .as_mut()
                    .ok_or_else(|| bad("no header before it".to_owned()))?;
                replay.requests.extend(books.apply(entry));
            }
        }
    }
    replay.devices = books.map_or_else(Vec::new, |books| {
        [books.totals(), books.former().to_vec()].concat()
    });
    Ok(replay)
}

/// CLOCK_MONOTONIC, which `Instant` reads but does not tell.
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
fn monotonic_nanos() -> Option<u64> {
    #[repr(C)]
    struct Timespec {
        seconds: i64,
        nanos: i64,
    }
    unsafe extern "C" {
        fn clock_gettime(clock: i32, time: *mut Timespec) -> i32;
    }
    const CLOCK_MONOTONIC: i32 = 1;
    let mut time = Timespec { seconds: 0, nanos: 0 };
    // SAFETY: the struct is Linux's `timespec` on 64 bits, and lives through the call.
    let result = unsafe { clock_gettime(CLOCK_MONOTONIC, &mut time) };
    (result == 0).then(|| time.seconds as u64 * 1_000_000_000 + time.nanos as u64)
}

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
fn monotonic_nanos() -> Option<u64> {
    None
}
