//! One line of the report: what was measured, what it should reach, and whether it does.

use serde::Serialize;
use serde_json::{Map, Value};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Passed,
    Failed,
    /// There is no bar; the figure is told.
    Told,
    /// It was not run to its end, or not at all.
    Cut,
}

impl Verdict {
    pub fn of(passed: bool) -> Self {
        if passed { Self::Passed } else { Self::Failed }
    }

    pub fn word(self) -> &'static str {
        match self {
            Self::Passed => "ok",
            Self::Failed => "FAILED",
            Self::Told => "",
            Self::Cut => "cut",
        }
    }
}

#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub what: String,
    pub found: String,
    pub bar: String,
    pub verdict: Verdict,
    /// The figures behind it.
    pub numbers: Map<String, Value>,
}

impl Row {
    pub fn new(what: &str, found: String, bar: &str, verdict: Verdict) -> Self {
        Self {
            what: what.to_owned(),
            found,
            bar: bar.to_owned(),
            verdict,
            numbers: Map::new(),
        }
    }

    pub fn told(what: &str, found: String) -> Self {
        Self::new(what, found, "", Verdict::Told)
    }

    /// At least `bar` of `share` must be reached.
    pub fn at_least(what: &str, share: f64, bar: f64, of: &str, found: &str) -> Self {
        Self::new(
            what,
            format!("{:.1} % of {of}; {found}", 100.0 * share),
            &format!("≥ {:.0} %", 100.0 * bar),
            Verdict::of(share >= bar),
        )
        .with("share", share)
    }

    pub fn cut(what: &str, why: String) -> Self {
        Self::new(what, why, "", Verdict::Cut)
    }

    pub fn with(mut self, name: &str, number: impl Into<Value>) -> Self {
        self.numbers.insert(name.to_owned(), number.into());
        self
    }
}
