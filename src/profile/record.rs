//! What a run found, as plain data: rows, idle baselines, the files `profile.json` and `profile.csv`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::bench::Sample;
use super::grid::{Cell, Skipped};
use crate::engine::ModelFacts;
use crate::statistics::Spread;
use crate::units::Watts;

/// The measured quantities of a row, by the names they have in the files.
pub const QUANTITIES: [&str; 7] = [
    "joules_per_request",
    "prefill_joules_per_token",
    "decode_joules_per_token",
    "watts",
    "tokens_per_second",
    "time_to_first_token_ms",
    "inter_token_ms",
];

/// One setting, measured: means over repeats, `None` where there is nothing to measure (no second token, no wait for it).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    #[serde(flatten)]
    pub cell: Cell,
    pub device: String,
    pub dtype: String,
    pub repeats: usize,
    /// Batches run one after the other within a repeat.
    pub rounds: usize,
    pub joules_per_request: f64,
    pub prefill_joules_per_token: f64,
    pub decode_joules_per_token: Option<f64>,
    /// Mean power of the device, idle included.
    pub watts: f64,
    /// Generated tokens of all answers together.
    pub tokens_per_second: f64,
    pub time_to_first_token_ms: f64,
    pub inter_token_ms: Option<f64>,
    /// Half of the 95 % interval of each mean, by the name of the quantity.
    pub ci95: BTreeMap<String, f64>,
}

/// The power of a model's device while nothing ran, before and after its settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Idle {
    pub model: String,
    pub before_watts: Watts,
    pub after_watts: Watts,
}

/// A finished run.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    pub version: String,
    /// `nvml`, `rapl` or `modelled`: the least sure of the devices' meters.
    pub meter: String,
    /// The meters in words, one a device.
    pub meters: Vec<String>,
    /// Who pays for idle watts: `separate` or `shared`.
    pub idle_policy: String,
    /// Seconds since 1970.
    pub finished_at: u64,
    pub rows: Vec<Row>,
    pub idle: Vec<Idle>,
    pub skipped: Vec<Skipped>,
}

impl Row {
    /// `samples` are not empty.
    pub fn of(cell: &Cell, facts: &ModelFacts, rounds: usize, samples: &[Sample]) -> Self {
        let all = |of: &dyn Fn(&Sample) -> Option<f64>| -> Option<Spread> {
            let values: Option<Vec<f64>> = samples.iter().map(of).collect();
            values.map(|values| Spread::of(&values))
        };
        let ms = |d: std::time::Duration| d.as_secs_f64() * 1e3;
        let spreads = [
            all(&|s| Some(s.joules_per_request.0)),
            all(&|s| Some(s.prefill_per_token.0)),
            all(&|s| s.decode_per_token.map(|j| j.0)),
            all(&|s| Some(s.watts.0)),
            all(&|s| Some(s.tokens_per_second)),
            all(&|s| Some(ms(s.time_to_first_token))),
            all(&|s| s.inter_token.map(ms)),
        ];
        let mean = |at: usize| spreads[at].map(|s| s.mean);
        let always = |at: usize| mean(at).unwrap_or_default();
        Self {
            cell: cell.clone(),
            device: facts.device_name.clone(),
            dtype: facts.dtype.clone(),
            repeats: samples.len(),
            rounds,
            joules_per_request: always(0),
            prefill_joules_per_token: always(1),
            decode_joules_per_token: mean(2),
            watts: always(3),
            tokens_per_second: always(4),
            time_to_first_token_ms: always(5),
            inter_token_ms: mean(6),
            ci95: QUANTITIES
                .iter()
                .zip(&spreads)
                .filter_map(|(name, spread)| Some(((*name).to_owned(), (*spread)?.ci95)))
                .collect(),
        }
    }

    /// The means in the order of [`QUANTITIES`].
    pub fn quantities(&self) -> [Option<f64>; 7] {
        [
            Some(self.joules_per_request),
            Some(self.prefill_joules_per_token),
            self.decode_joules_per_token,
            Some(self.watts),
            Some(self.tokens_per_second),
            Some(self.time_to_first_token_ms),
            self.inter_token_ms,
        ]
    }

    /// Half of a quantity's 95 % interval; 0 where it was not measured.
    pub fn half_width(&self, quantity: &str) -> f64 {
        self.ci95.get(quantity).copied().unwrap_or_default()
    }

    /// Joules of a request over all its tokens, prompt and answer.
    pub fn joules_per_token(&self) -> f64 {
        self.joules_per_request / (self.cell.prompt_tokens + self.cell.output_tokens) as f64
    }
}

impl Profile {
    /// Mean idle power over all baselines.
    pub fn idle_watts(&self) -> f64 {
        let both = self.idle.iter().flat_map(|i| [i.before_watts.0, i.after_watts.0]);
        let (sum, count) = both.fold((0.0, 0.0), |(sum, count), watts| (sum + watts, count + 1.0));
        if count > 0.0 { sum / count } else { 0.0 }
    }

    /// `profile.json`.
    pub fn json(&self) -> Value {
        json!({
            "version": self.version,
            "meter": self.meter,
            "meters": self.meters,
            "idle": self.idle_policy,
            "idle_watts": self.idle_watts(),
            "idle_baselines": self.idle,
            "finished_at": self.finished_at,
            "rows": self.rows,
            "skipped": self.skipped,
        })
    }

    /// `profile.csv`: one row a setting, each quantity followed by half of its 95 % interval, empty where there is none.
    pub fn csv(&self) -> Result<Vec<u8>, csv::Error> {
        let mut out = csv::Writer::from_writer(Vec::new());
        let head = [
            "meter",
            "model",
            "device",
            "dtype",
            "batch",
            "prompt_tokens",
            "output_tokens",
            "repeats",
            "rounds",
        ];
        let quantities = QUANTITIES
            .iter()
            .flat_map(|name| [(*name).to_owned(), format!("{name}_ci95")]);
        out.write_record(head.map(str::to_owned).into_iter().chain(quantities))?;
        for row in &self.rows {
            let cell = &row.cell;
            let setting = [
                self.meter.clone(),
                cell.model.clone(),
                row.device.clone(),
                row.dtype.clone(),
                cell.batch.to_string(),
                cell.prompt_tokens.to_string(),
                cell.output_tokens.to_string(),
                row.repeats.to_string(),
                row.rounds.to_string(),
            ];
            let text = |value: Option<f64>| value.map(|v| v.to_string()).unwrap_or_default();
            let measured = QUANTITIES
                .iter()
                .zip(row.quantities())
                .flat_map(|(name, mean)| [text(mean), text(row.ci95.get(*name).copied())]);
            out.write_record(setting.into_iter().chain(measured))?;
        }
        out.into_inner().map_err(|e| csv::Error::from(e.into_error()))
    }
}
