//! What is known of a meter itself: which quantity its readings are, how finely it tells time, and what the test of it
//! at the start found.

use serde::Serialize;

use super::report::Source;
use crate::units::Watts;

/// What a meter's counter is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Quantity {
    /// The device's own energy counter.
    Counter,
    /// Instantaneous power, read often and integrated.
    PowerIntegrated,
    /// Power that the device averages over a trailing window (see [`super::Meter::averages_over`]), integrated.
    PowerAveraged,
    /// Declared watts times time: no measurement.
    Declared,
}

impl Quantity {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::PowerIntegrated => "power-integrated",
            Self::PowerAveraged => "power-averaged",
            Self::Declared => "declared",
        }
    }
}

/// How far the test of a meter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckState {
    /// Readings are gathered; nothing is booked before the verdict.
    Running,
    /// The readings hold together.
    Passed,
    /// The counter failed; power is integrated in its place.
    FellBack,
    /// Nothing that this meter reads can be believed.
    Failed,
    /// A meter that has no test: RAPL, and the modelled one.
    Untested,
}

impl CheckState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Passed => "passed",
            Self::FellBack => "fell-back",
            Self::Failed => "failed",
            Self::Untested => "untested",
        }
    }
}

/// The verdict on a meter.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MeterCheck {
    pub state: CheckState,
    pub quantity: Quantity,
    /// Milliseconds between two changes of the readings, where they were looked at closely enough.
    pub update_period_ms: Option<f64>,
    /// Power by the counter during the test.
    pub implied_watts: Option<Watts>,
    /// Energy by the counter over the integral of the instantaneous power, during the test.
    pub power_ratio: Option<f64>,
    /// Power as last read during the test.
    pub watts_now: Option<Watts>,
    pub power_limit_watts: Option<Watts>,
    /// The board's name, where the meter is a board's.
    pub board: Option<String>,
    pub uuid: Option<String>,
    /// The verdict in a sentence.
    pub words: String,
    /// What else is to be known of these readings, such as who shares the board.
    pub notes: Vec<String>,
}

impl MeterCheck {
    /// Of a meter that has no test.
    pub(super) fn untested(source: Source) -> Self {
        let (quantity, words) = match source {
            Source::Nvml | Source::Rapl => (Quantity::Counter, "taken as it is"),
            Source::Modelled => (Quantity::Declared, "declared watts times time, not measured"),
        };
        Self::new(CheckState::Untested, quantity, words)
    }

    pub(super) fn new(state: CheckState, quantity: Quantity, words: impl Into<String>) -> Self {
        Self {
            state,
            quantity,
            update_period_ms: None,
            implied_watts: None,
            power_ratio: None,
            watts_now: None,
            power_limit_watts: None,
            board: None,
            uuid: None,
            words: words.into(),
            notes: Vec::new(),
        }
    }

    /// The board's UUID to its second dash, enough to tell boards apart in a table.
    pub fn short_uuid(&self) -> Option<&str> {
        let uuid = self.uuid.as_deref()?;
        let end = uuid.match_indices('-').nth(1).map_or(uuid.len(), |(at, _)| at);
        uuid.get(..end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_the_same_for_people_and_programs() {
        use {CheckState as S, Quantity as Q};
        for state in [S::Running, S::Passed, S::FellBack, S::Failed, S::Untested] {
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
        }
        for quantity in [Q::Counter, Q::PowerIntegrated, Q::PowerAveraged, Q::Declared] {
            assert_eq!(serde_json::to_value(quantity).unwrap(), quantity.as_str());
        }
    }

    #[test]
    fn a_uuid_is_cut_where_it_can_be() {
        let mut check = MeterCheck::untested(Source::Nvml);
        for (uuid, short) in [
            ("GPU-1b2c3d4e-aaaa-bbbb", "GPU-1b2c3d4e"),
            ("GPU-1", "GPU-1"),
            ("", ""),
        ] {
            check.uuid = Some(uuid.to_owned());
            assert_eq!(check.short_uuid(), Some(short));
        }
    }
}
