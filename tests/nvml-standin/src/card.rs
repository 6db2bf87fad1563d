//! The face for tests: a copy of the library of one's own, and its cards.

use std::env::current_exe;
use std::ffi::{CString, c_char};
use std::path::{Path, PathBuf};

use libloading::Library;
use tempfile::TempDir;

use crate::config::{Config, Fault};

/// Where cargo put the stand-in for the running test.
///
/// # Panics
/// When it is not beside the test's binary, where cargo builds the dynamic libraries of a test's dependencies.
pub fn library() -> PathBuf {
    let test = current_exe().expect("a process knows its own file");
    let folder = test.parent().expect("a file lies in a folder");
    let name = format!(
        "{}nvml_standin{}",
        std::env::consts::DLL_PREFIX,
        std::env::consts::DLL_SUFFIX
    );
    [folder.join(&name), folder.join("deps").join(&name)]
        .into_iter()
        .find(|path| path.exists())
        .unwrap_or_else(|| {
            panic!(
                "{name} is not in {}; build the tests with cargo, which puts it there",
                folder.display()
            )
        })
}

/// Cards in virtual time. Every one has a copy of the library, hence a state of its own. The loader keeps a copy until the
/// process ends, so a test with hundreds of cases makes one card and calls [`Self::configure`].
pub struct Card {
    path: PathBuf,
    set_now: extern "C" fn(u64),
    spend: extern "C" fn(u32, u64, u64, u64),
    truth: extern "C" fn(u32, u64) -> u64,
    reads: extern "C" fn(u32) -> u64,
    configure: unsafe extern "C" fn(*const c_char) -> u32,
    command: unsafe extern "C" fn(*const c_char) -> u32,
    /// Held so that the functions above stay.
    _library: Library,
    _folder: TempDir,
}

impl Card {
    /// Copies and loads the library and plays `config` at time 0.
    ///
    /// # Panics
    /// When the library is not to be found, copied or loaded.
    pub fn new(config: &Config) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let path = folder.path().join("libnvidia-ml.so.1");
        std::fs::copy(library(), &path).expect("the library can be copied");
        // SAFETY: the library is this crate's own; loading it runs no code.
        let library = unsafe { Library::new(&path) }.expect("the copy can be loaded");
        macro_rules! symbol {
            ($name:literal) => {
                // SAFETY: the field's type is that of the function in `control`.
                *unsafe { library.get($name) }.expect("the library has its own functions")
            };
        }
        let card = Self {
            path,
            set_now: symbol!(b"standin_set_now"),
            spend: symbol!(b"standin_spend"),
            truth: symbol!(b"standin_true_microjoules"),
            reads: symbol!(b"standin_reads"),
            configure: symbol!(b"standin_configure"),
            command: symbol!(b"standin_command"),
            _library: library,
            _folder: folder,
        };
        card.configure(config);
        card
    }

    /// The NVML library for the code under test.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Plays other cards, at time 0.
    ///
    /// # Panics
    /// When a figure of `config` has no JSON, such as an infinite one.
    pub fn configure(&self, config: &Config) {
        let json = serde_json::to_string(config).expect("a config is plain data");
        let json = CString::new(json).expect("JSON escapes a NUL");
        // SAFETY: the text ends with a NUL and outlives the call.
        let refused = unsafe { (self.configure)(json.as_ptr()) };
        assert_eq!(refused, 0, "the stand-in refuses {json:?}");
    }

    /// The virtual time is `now`, in nanoseconds.
    pub fn set_now(&self, now: u64) {
        (self.set_now)(now);
    }

    /// The card spends energy, evenly from `start` to `end` (nanoseconds), on top of its idle watts. It may be told
    /// before or after; told after a tick was read, it shows in the next.
    pub fn spend(&self, device: u32, start: u64, end: u64, microjoules: u64) {
        (self.spend)(device, start, end, microjoules);
    }

    /// The microjoules that the card truly drew from time 0 until then (nanoseconds), idling included.
    pub fn truth(&self, device: u32, until: u64) -> u64 {
        (self.truth)(device, until)
    }

    /// How often the card's energy or power was read.
    pub fn reads(&self, device: u32) -> u64 {
        (self.reads)(device)
    }

    /// From now on every call that needs the card fails so.
    pub fn vanish(&self, device: u32, fault: Fault) {
        let fault = serde_json::to_value(fault).expect("a fault is plain data");
        let fault = fault.as_str().expect("a fault is a word");
        self.command(&format!("vanish {device} {fault}"));
    }

    /// The card is back.
    pub fn come_back(&self, device: u32) {
        self.command(&format!("return {device}"));
    }

    /// The counter begins anew at 0.
    pub fn reset(&self, device: u32) {
        self.command(&format!("reset {device}"));
    }

    /// The counter jumps, back when negative.
    pub fn jump(&self, device: u32, millijoules: i64) {
        self.command(&format!("jump {device} {millijoules}"));
    }

    fn command(&self, line: &str) {
        let text = CString::new(line).expect("a command has no NUL");
        // SAFETY: the text ends with a NUL and outlives the call.
        let refused = unsafe { (self.command)(text.as_ptr()) };
        assert_eq!(refused, 0, "the stand-in does not understand {line}");
    }
}
