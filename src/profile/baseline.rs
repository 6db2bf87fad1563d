//! A run beside an earlier one, setting by setting.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::grid::Cell;
use super::record::{Profile, Row};

/// Why an earlier run cannot be compared with.
#[derive(Debug, thiserror::Error)]
pub enum BaselineError {
    #[error("{path} cannot be read ({why}): --baseline takes a folder that `messplus profile --out` wrote")]
    Read { path: PathBuf, why: String },
    #[error(
        "the joules of {path} are `{theirs}` and those of this run `{ours}`: different meters count different things, \
         so compare with a run of the same meter"
    )]
    Meter {
        path: PathBuf,
        theirs: String,
        ours: String,
    },
}

/// An earlier run.
#[derive(Clone, Debug, Deserialize)]
pub struct Baseline {
    pub meter: String,
    pub rows: Vec<Row>,
}

/// One setting in both runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    #[serde(flatten)]
    pub cell: Cell,
    /// Now over then.
    pub joules_ratio: f64,
    /// Half of the ratio's 95 % interval, from both runs' intervals.
    pub joules_ratio_ci95: f64,
    pub tokens_per_second_ratio: f64,
}

impl Change {
    /// Whether the joules differ by more than both runs' intervals explain.
    pub fn is_real(&self) -> bool {
        (self.joules_ratio - 1.0).abs() > self.joules_ratio_ci95
    }
}

impl Baseline {
    /// The earlier run of `folder`, which must have had the meter `ours`.
    pub fn read(folder: &Path, ours: &str) -> Result<Self, BaselineError> {
        let path = folder.join("profile.json");
        let refuse = |why: String| BaselineError::Read {
            path: path.clone(),
            why,
        };
        let text = std::fs::read_to_string(&path).map_err(|e| refuse(e.to_string()))?;
        let read: Self = serde_json::from_str(&text).map_err(|e| refuse(e.to_string()))?;
        if read.meter != ours {
            return Err(BaselineError::Meter {
                path,
                theirs: read.meter,
                ours: ours.to_owned(),
            });
        }
        Ok(read)
    }

    /// The settings that both runs have.
    pub fn changes(&self, profile: &Profile) -> Vec<Change> {
        let pair = |now: &Row| {
            let then = self.rows.iter().find(|then| then.cell == now.cell)?;
            (then.joules_per_request > 0.0 && then.tokens_per_second > 0.0).then(|| change(now, then))
        };
        profile.rows.iter().filter_map(pair).collect()
    }
}

fn change(now: &Row, then: &Row) -> Change {
    let ratio = now.joules_per_request / then.joules_per_request;
    let relative = |row: &Row| row.half_width("joules_per_request") / row.joules_per_request.max(1e-12);
    Change {
        cell: now.cell.clone(),
        joules_ratio: ratio,
        joules_ratio_ci95: ratio * relative(now).hypot(relative(then)),
        tokens_per_second_ratio: now.tokens_per_second / then.tokens_per_second,
    }
}
