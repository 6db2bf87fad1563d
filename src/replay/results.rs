//! Everything a replay came to, and how it is written down.

use serde_json::{Value, json};

use super::score::Run;
use super::summary::Row;

/// One stream under one promise: a row a policy, with its runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Section {
    pub stream: String,
    /// Which of the stream's promises this is, from 0.
    pub rank: usize,
    pub alpha: f64,
    pub rows: Vec<(Row, Vec<Run>)>,
}

/// The whole result.
#[derive(Clone, Debug, PartialEq)]
pub struct Results {
    /// In rising mean joules.
    pub models: Vec<String>,
    pub sections: Vec<Section>,
    /// Means over the streams: a row a policy, and one for each of the promises where the streams have several.
    pub mean: Vec<Row>,
}

impl Results {
    pub fn new(models: Vec<String>, sections: Vec<Section>) -> Self {
        let ranks = sections.iter().map(|s| s.rank + 1).max().unwrap_or(0);
        let mut mean = vec![];
        for rank in 0..ranks {
            let of_rank: Vec<&Section> = sections.iter().filter(|s| s.rank == rank).collect();
            for place in 0..of_rank[0].rows.len() {
                let rows: Vec<&Row> = of_rank.iter().map(|s| &s.rows[place].0).collect();
                let runs: Vec<&[Run]> = of_rank.iter().map(|s| s.rows[place].1.as_slice()).collect();
                mean.push(Row::mean(rows[0].policy.clone(), &rows, &runs));
            }
        }
        Self {
            models,
            sections,
            mean,
        }
    }

    pub fn rows(&self) -> impl Iterator<Item = &Row> {
        self.sections
            .iter()
            .flat_map(|s| s.rows.iter().map(|(row, _)| row))
    }

    /// `replay.json`
    pub fn json(&self) -> Value {
        let rows: Vec<Value> = self.rows().map(|row| row.json(&self.models)).collect();
        let mean: Vec<Value> = self.mean.iter().map(|row| row.json(&self.models)).collect();
        json!({"rows": rows, "mean": mean})
    }

    /// `replay.csv`: the rows, then the means, with one column `calls_MODEL` a model.
    pub fn csv(&self) -> Result<Vec<u8>, csv::Error> {
        let mut writer = csv::Writer::from_writer(vec![]);
        let mut head: Vec<String> = [
            "policy",
            "benchmark",
            "alpha",
            "seeds",
            "requests",
            "cost_mj",
            "cost_mj_sd",
            "cost_mj_ci95",
            "cost_mj_paper_accounting",
            "satisfaction",
            "satisfaction_sd",
            "satisfaction_ci95",
            "sla_met_share",
            "explored_share",
            "queue_most",
            "recovered_share",
            "recovered_after",
        ]
        .map(str::to_owned)
        .into();
        head.extend(self.models.iter().map(|m| format!("calls_{m}")));
        writer.write_record(&head)?;
        for row in self.rows().chain(&self.mean) {
            let mut cells = vec![row.policy.clone(), row.benchmark.clone()];
            let numbers = [row.alpha, row.seeds as f64, row.requests as f64];
            let spreads = [
                row.cost_mj.mean,
                row.cost_mj.sd,
                row.cost_mj.ci95,
                row.cost_mj_paper_accounting,
                row.satisfaction.mean,
                row.satisfaction.sd,
                row.satisfaction.ci95,
                row.sla_met_share,
                row.explored_share,
                row.queue_most,
            ];
            cells.extend(numbers.iter().chain(&spreads).map(f64::to_string));
            match row.recovered {
                Some((share, after)) => cells.extend([share.to_string(), after.to_string()]),
                None => cells.extend([String::new(), String::new()]),
            }
            cells.extend(row.calls.iter().map(f64::to_string));
            writer.write_record(&cells)?;
        }
        writer.into_inner().map_err(|error| error.into_error().into())
    }
}
