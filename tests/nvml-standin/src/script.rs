//! Real time: cards that follow a server's tape of steps and obey a file of commands.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::board::Board;
use crate::command::obey;
use crate::config::Config;

/// Names the file with a [`Script`] in JSON.
pub const SCRIPT_VARIABLE: &str = "NVML_STANDIN_SCRIPT";

/// Cards in real time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Script {
    pub config: Config,
    /// The server's tape (`[energy] record`): every step in it is spent by its model's law. The cards' `delay_ms` must
    /// be longer than a step, because a step is on the tape only after its end.
    pub tape: Option<PathBuf>,
    /// Lines appended here are obeyed (see `command`).
    pub commands: Option<PathBuf>,
    /// By a model's name: joules per prompt token, per step, per decoded token and per token attended to.
    pub laws: BTreeMap<String, [f64; 4]>,
}

/// A file that grows.
struct Tail {
    path: PathBuf,
    file: Option<File>,
    rest: Vec<u8>,
}

impl Tail {
    fn new(path: PathBuf) -> Self {
        Self {
            path,
            file: None,
            rest: Vec::new(),
        }
    }

    /// The whole lines that came since the last call.
    fn lines(&mut self) -> Vec<String> {
        if self.file.is_none() {
            self.file = File::open(&self.path).ok();
        }
        let Some(file) = &mut self.file else {
            return Vec::new();
        };
        // What cannot be read now comes with the next call.
        let _ = file.read_to_end(&mut self.rest);
        let Some(last) = self.rest.iter().rposition(|b| *b == b'\n') else {
            return Vec::new();
        };
        let rest = self.rest.split_off(last + 1);
        let whole = std::mem::replace(&mut self.rest, rest);
        String::from_utf8_lossy(&whole)
            .lines()
            .map(str::to_owned)
            .collect()
    }
}

/// Runs a script.
pub(crate) struct Follower {
    /// CLOCK_MONOTONIC at the cards' time 0.
    base: u64,
    tape: Option<Tail>,
    commands: Option<Tail>,
    laws: BTreeMap<String, [f64; 4]>,
    /// The tape's time 0 on CLOCK_MONOTONIC, and its models, once its header was read.
    origin: Option<u64>,
    models: Vec<String>,
}

impl Follower {
    /// Loads the script that the environment names.
    ///
    /// # Panics
    /// When it names one that cannot be read: a test that is set up wrongly should not run.
    pub(crate) fn from_environment() -> Option<(Config, Self)> {
        let path = std::env::var_os(SCRIPT_VARIABLE)?;
        let text = std::fs::read_to_string(&path).expect("the script can be read");
        let script: Script = serde_json::from_str(&text).expect("the script is one");
        let follower = Self {
            base: monotonic(),
            tape: script.tape.map(Tail::new),
            commands: script.commands.map(Tail::new),
            laws: script.laws,
            origin: None,
            models: Vec::new(),
        };
        Some((script.config, follower))
    }

    /// Takes in what the files say by now; gives the cards' time.
    pub(crate) fn catch_up(&mut self, boards: &mut [Board]) -> u64 {
        let now = monotonic().saturating_sub(self.base);
        for line in self.tape.as_mut().map(Tail::lines).unwrap_or_default() {
            if let Ok(entry) = serde_json::from_str(&line) {
                self.entry(&entry, boards);
            }
        }
        for line in self.commands.as_mut().map(Tail::lines).unwrap_or_default() {
            obey(&line, now, boards);
        }
        now
    }

    fn entry(&mut self, entry: &Value, boards: &mut [Board]) {
        if let Some(origin) = entry["tape"]["origin"].as_u64() {
            self.origin = Some(origin);
            let names = entry["tape"]["models"].as_array();
            self.models = names.map_or_else(Vec::new, |names| {
                names
                    .iter()
                    .map(|n| n.as_str().unwrap_or_default().to_owned())
                    .collect()
            });
        }
        let step = &entry["step"];
        let (Some(origin), Some(rows)) = (self.origin, step["rows"].as_array()) else {
            return;
        };
        let number = |name: &str| step[name].as_u64().unwrap_or(0);
        let at = |name: &str| (origin + number(name)).saturating_sub(self.base);
        let sum = |name: &str| rows.iter().filter_map(|r| r[name].as_u64()).sum::<u64>() as f64;
        let model = self.models.get(number("model") as usize);
        let law = model.and_then(|m| self.laws.get(m));
        let (Some(law), Some(board)) = (law, boards.get_mut(number("device") as usize)) else {
            return;
        };
        // A tape that goes on from an earlier process holds steps of another time.
        if at("end") > 0 {
            let joules = law[0] * sum("prefill_tokens")
                + law[1]
                + law[2] * sum("decode_tokens")
                + law[3] * sum("context");
            board.draw.spend(at("start"), at("end"), joules * 1e6);
        }
    }
}

/// CLOCK_MONOTONIC in nanoseconds.
fn monotonic() -> u64 {
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
    // SAFETY: `time` is a place for what the call writes (64-bit Linux).
    let failed = unsafe { clock_gettime(CLOCK_MONOTONIC, &mut time) };
    assert_eq!(failed, 0, "Linux has CLOCK_MONOTONIC");
    time.seconds as u64 * 1_000_000_000 + time.nanos as u64
}
