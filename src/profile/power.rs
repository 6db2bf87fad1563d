//! Power over time while one repeat runs: what the meter settled, moment by moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::grid::Cell;
use super::steps::{StepCount, StepMark};
use crate::energy::EnergyHandle;
use crate::units::{DeviceId, Microjoules, Moment};

/// Between two looks at the meter.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Shown before the first step and after the last.
const MARGIN: Duration = Duration::from_millis(150);

/// A device's counter and its steps over one repeat of a setting.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PowerTrace {
    #[serde(flatten)]
    pub cell: Cell,
    /// The counter as settled at each moment, rising in both.
    pub counter: Vec<(Moment, Microjoules)>,
    pub steps: Vec<StepMark>,
}

/// Looks at a device's counter until it is told to end.
pub struct PowerWatch {
    ended: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<Vec<(Moment, Microjoules)>>,
}

impl PowerWatch {
    /// Begins to look, and lets a short quiet pass.
    pub async fn start(energy: EnergyHandle, device: DeviceId) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let told = ended.clone();
        let task = tokio::spawn(async move {
            let mut counter: Vec<(Moment, Microjoules)> = Vec::new();
            while !told.load(Ordering::Relaxed) {
                let devices = energy.devices().await;
                if let Some(seen) = devices.iter().find(|d| d.device == device)
                    && counter.last().is_none_or(|(at, _)| *at < seen.as_of)
                {
                    counter.push((seen.as_of, seen.measured));
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
            counter
        });
        tokio::time::sleep(MARGIN).await;
        Self { ended, task }
    }

    /// Ends after a short quiet, so that the plot shows the power falling.
    pub async fn end(self, cell: &Cell, steps: StepCount) -> PowerTrace {
        tokio::time::sleep(MARGIN).await;
        self.ended.store(true, Ordering::Relaxed);
        // A look that panicked leaves the plot empty, not the measurement.
        let counter = self.task.await.unwrap_or_default();
        PowerTrace {
            cell: cell.clone(),
            counter,
            steps: steps.marks,
        }
    }
}
