//! The one state of a loaded copy of the library.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::board::Board;
use crate::config::{Config, Fault};
use crate::script::Follower;

pub(crate) struct State {
    pub(crate) driver: String,
    pub(crate) boards: Vec<Board>,
    /// `nvmlInit` less `nvmlShutdown`.
    pub(crate) users: u32,
    /// Virtual time, where no script runs.
    now: u64,
    script: Option<Follower>,
    read_time: Duration,
}

static STATE: Mutex<Option<State>> = Mutex::new(None);

impl State {
    fn new(config: Config, script: Option<Follower>) -> Self {
        let seed = config.seed;
        let boards = config.boards.into_iter().enumerate();
        Self {
            driver: config.driver,
            boards: boards
                .map(|(place, board)| Board::new(board, seed.wrapping_mul(1_000_003) + place as u64))
                .collect(),
            users: 0,
            now: 0,
            script,
            read_time: Duration::from_micros(config.read_micros),
        }
    }

    /// Other cards from now on, at time 0. Whoever has NVML initialised keeps it so.
    pub(crate) fn configure(&mut self, config: Config) {
        let users = self.users;
        *self = Self::new(config, None);
        self.users = users;
    }

    pub(crate) fn set_now(&mut self, now: u64) {
        self.now = now;
    }

    /// The present time, everything scripted taken in.
    pub(crate) fn now(&mut self) -> u64 {
        match &mut self.script {
            Some(script) => script.catch_up(&mut self.boards),
            None => self.now,
        }
    }

    /// Whether the driver itself is away.
    pub(crate) fn driver_fault(&mut self) -> Option<Fault> {
        let now = self.now();
        self.boards
            .iter()
            .filter_map(|b| b.fault(now))
            .find(|f| *f == Fault::DriverNotLoaded)
    }

    /// Computes for as long as a read takes on a real driver.
    pub(crate) fn take_time(&self) {
        let begun = Instant::now();
        while begun.elapsed() < self.read_time {
            std::hint::spin_loop();
        }
    }
}

/// The state, made on first use from the script that the environment names, or of one usual card.
pub(crate) fn with<T>(use_it: impl FnOnce(&mut State) -> T) -> T {
    // A panic elsewhere leaves plain numbers, which are as good as before.
    let mut state: MutexGuard<Option<State>> = STATE.lock().unwrap_or_else(PoisonError::into_inner);
    use_it(state.get_or_insert_with(|| match Follower::from_environment() {
        Some((config, follower)) => State::new(config, Some(follower)),
        None => State::new(Config::default(), None),
    }))
}
