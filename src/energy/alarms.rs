//! A device's troubles, told once to the log and kept for people to read.

use std::collections::VecDeque;

use crate::units::Moment;

/// Alarms kept.
const MOST: usize = 8;

pub(super) struct Alarms {
    device: String,
    latest: VecDeque<String>,
}

impl Alarms {
    pub(super) fn new(device: &str) -> Self {
        Self {
            device: device.to_owned(),
            latest: VecDeque::new(),
        }
    }

    pub(super) fn raise(&mut self, at: Moment, text: &str) {
        tracing::warn!("energy of {}: {text}", self.device);
        if self.latest.len() == MOST {
            self.latest.pop_front();
        }
        self.latest
            .push_back(format!("at {:.1} s: {text}", at.0 as f64 * 1e-9));
    }

    /// The latest alarms, oldest first, each with the seconds since the process's origin of time.
    pub(super) fn latest(&self) -> Vec<String> {
        self.latest.iter().cloned().collect()
    }
}
