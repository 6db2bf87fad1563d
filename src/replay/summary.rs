//! Runs over seeds, drawn together: what a row of the result says.

use serde_json::{Map, Value, json};

use super::score::{Point, Run};
use crate::statistics::Spread;

/// One policy on one stream under one promise, over all seeds; or the mean of such rows over streams.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub policy: String,
    pub benchmark: String,
    pub alpha: f64,
    pub seeds: usize,
    pub requests: usize,
    /// Megajoules of a run, exploration billed.
    pub cost_mj: Spread,
    /// The same without the extra answers of exploration, as the paper's table counts.
    pub cost_mj_paper_accounting: f64,
    pub satisfaction: Spread,
    /// Share of runs at α or above at their end.
    pub sla_met_share: f64,
    /// Share of answers shown, per model of the trace.
    pub calls: Vec<f64>,
    pub explored_share: f64,
    pub queue_most: f64,
    /// Share of runs that recovered after a change, and the mean of the requests they took; None without a change.
    pub recovered: Option<(f64, f64)>,
}

const MEGA: f64 = 1e-6;

impl Row {
    /// Draws together the runs of one policy, stream and α; all over the same requests.
    /// `changed`: recovery from a change is of interest.
    pub fn of(policy: String, benchmark: String, alpha: f64, changed: bool, runs: &[Run]) -> Self {
        let each = |of: &dyn Fn(&Run) -> f64| runs.iter().map(of).collect::<Vec<_>>();
        let mean = |of: &dyn Fn(&Run) -> f64| each(of).iter().sum::<f64>() / runs.len().max(1) as f64;
        let models = runs.first().map_or(0, |run| run.calls.len());
        let share = |count: u64, run: &Run| count as f64 / run.requests.max(1) as f64;
        let recoveries: Vec<f64> = runs
            .iter()
            .filter_map(|r| r.recovered)
            .map(|r| r as f64)
            .collect();
        Self {
            policy,
            benchmark,
            alpha,
            seeds: runs.len(),
            requests: runs.first().map_or(0, |run| run.requests),
            cost_mj: Spread::of(&each(&|r| MEGA * r.true_joules())),
            cost_mj_paper_accounting: mean(&|r| MEGA * r.joules),
            satisfaction: Spread::of(&each(&Run::satisfaction)),
            sla_met_share: mean(&|r| f64::from(u8::from(r.met()))),
            calls: (0..models).map(|m| mean(&|r| share(r.calls[m], r))).collect(),
            explored_share: mean(&|r| share(r.explored, r)),
            queue_most: runs.iter().map(|r| r.most_queue).fold(0.0, f64::max),
            recovered: changed.then(|| {
                let count = recoveries.len() as f64;
                (
                    count / runs.len() as f64,
                    recoveries.iter().sum::<f64>() / count.max(1.0),
                )
            }),
        }
    }

    /// The mean over streams. `runs` are the streams' runs, seed by seed in the same order: the spread is that of
    /// a seed's mean over the streams.
    pub fn mean(policy: String, rows: &[&Row], runs: &[&[Run]]) -> Self {
        let streams = rows.len().max(1) as f64;
        let mean = |of: &dyn Fn(&Row) -> f64| rows.iter().map(|r| of(r)).sum::<f64>() / streams;
        let seeds = runs.iter().map(|r| r.len()).min().unwrap_or(0);
        let by_seed = |of: &dyn Fn(&Run) -> f64| {
            let seed = |n: usize| runs.iter().map(|r| of(&r[n])).sum::<f64>() / streams;
            Spread::of(&(0..seeds).map(seed).collect::<Vec<_>>())
        };
        let models = rows.first().map_or(0, |row| row.calls.len());
        Self {
            policy,
            benchmark: "mean".into(),
            alpha: mean(&|r| r.alpha),
            seeds,
            requests: mean(&|r| r.requests as f64).round() as usize,
            cost_mj: by_seed(&|r| MEGA * r.true_joules()),
            cost_mj_paper_accounting: mean(&|r| r.cost_mj_paper_accounting),
            satisfaction: by_seed(&Run::satisfaction),
            sla_met_share: mean(&|r| r.sla_met_share),
            calls: (0..models).map(|m| mean(&|r| r.calls[m])).collect(),
            explored_share: mean(&|r| r.explored_share),
            queue_most: rows.iter().map(|r| r.queue_most).fold(0.0, f64::max),
            recovered: None,
        }
    }

    pub fn json(&self, models: &[String]) -> Value {
        let calls: Map<String, Value> = models
            .iter()
            .zip(&self.calls)
            .map(|(name, share)| (name.clone(), json!(share)))
            .collect();
        let mut row = json!({
            "policy": self.policy,
            "benchmark": self.benchmark,
            "alpha": self.alpha,
            "seeds": self.seeds,
            "requests": self.requests,
            "cost_mj": self.cost_mj.mean,
            "cost_mj_sd": self.cost_mj.sd,
            "cost_mj_ci95": self.cost_mj.ci95,
            "cost_mj_paper_accounting": self.cost_mj_paper_accounting,
            "satisfaction": self.satisfaction.mean,
            "satisfaction_sd": self.satisfaction.sd,
            "satisfaction_ci95": self.satisfaction.ci95,
            "sla_met_share": self.sla_met_share,
            "calls": calls,
            "explored_share": self.explored_share,
            "queue_most": self.queue_most,
        });
        if let (Some((share, requests)), Some(row)) = (self.recovered, row.as_object_mut()) {
            row.insert("recovered_share".into(), json!(share));
            row.insert("recovered_after".into(), json!(requests));
        }
        row
    }
}

/// A curve over seeds: at each moment the mean, and the band from the 10th to the 90th percentile.
#[derive(Clone, Debug, PartialEq)]
pub struct Band {
    pub requests: Vec<usize>,
    pub mean: Vec<f64>,
    pub low: Vec<f64>,
    pub high: Vec<f64>,
}

impl Band {
    pub fn of(runs: &[Run], value: impl Fn(&Point) -> f64) -> Self {
        let points = runs.iter().map(|r| r.curve.len()).min().unwrap_or(0);
        let mut band = Self {
            requests: vec![],
            mean: vec![],
            low: vec![],
            high: vec![],
        };
        for at in 0..points {
            let mut values: Vec<f64> = runs.iter().map(|r| value(&r.curve[at])).collect();
            values.sort_by(f64::total_cmp);
            let quantile = |share: f64| values[((values.len() - 1) as f64 * share).round() as usize];
            band.requests.push(runs[0].curve[at].requests);
            band.mean.push(values.iter().sum::<f64>() / values.len() as f64);
            band.low.push(quantile(0.1));
            band.high.push(quantile(0.9));
        }
        band
    }
}
