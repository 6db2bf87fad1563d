//! `messplus gpu-check`: does everything that runs on a GPU compute what it should there, and how near does it come to
//! what the hardware allows? Models have random weights in published shapes, so nothing is fetched.

mod device;
mod hosted;
mod row;
mod scale;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use self::row::{Row, Verdict};
use self::scale::Scale;
use super::{Align, CliError, GpuCheckArgs, emit, table};
use crate::hub::published_shape;
use crate::model::{GpuBench, RandomShape};

/// Seconds that each part is given; what would begin with less left is cut.
const PARTS: [(&str, u64); 5] = [
    ("kernels", 60),
    ("invariance", 15),
    ("decoder", 60),
    ("hosted", 90),
    ("mixed", 45),
];

/// The report as it grows: every row is said and kept at once, so that a run that is cut off has told what it found.
struct Report<'a> {
    rows: Vec<Row>,
    device: String,
    json: Option<&'a Path>,
    began: Instant,
    ends: Instant,
}

impl Report<'_> {
    fn add(&mut self, row: Row) {
        tracing::info!(
            bar = row.bar,
            verdict = row.verdict.word(),
            "{}: {}",
            row.what,
            row.found
        );
        self.rows.push(row);
        self.keep();
    }

    fn all(&mut self, what: &str, rows: Result<Vec<Row>, String>) {
        match rows {
            Ok(rows) => rows.into_iter().for_each(|row| self.add(row)),
            Err(reason) => self.add(Row::new(what, reason, "", Verdict::Failed)),
        }
    }

    /// Whether there is time for a part; if not, its rows are told as cut.
    fn has_time_for(&mut self, part: &str) -> bool {
        let needs = PARTS.iter().find(|(name, _)| *name == part);
        let needs = Duration::from_secs(needs.map_or(0, |(_, seconds)| *seconds));
        let left = self.ends.saturating_duration_since(Instant::now());
        if left >= needs {
            return true;
        }
        let why = format!(
            "{} s are left, and it takes about {}",
            left.as_secs(),
            needs.as_secs()
        );
        self.add(Row::cut(part, why));
        false
    }

    fn keep(&self) {
        let Some(path) = self.json else { return };
        if let Err(error) = std::fs::write(path, format!("{:#}", self.as_json())) {
            tracing::warn!(%error, "{} cannot be written", path.display());
        }
    }

    fn as_json(&self) -> Value {
        json!({
            "device": self.device,
            "seconds": self.began.elapsed().as_secs_f64(),
            "failed": self.rows.iter().filter(|row| row.verdict == Verdict::Failed).count(),
            "rows": self.rows,
        })
    }
}

/// Runs the verb.
pub async fn gpu_check(args: GpuCheckArgs) -> Result<(), CliError> {
    let shape = |name: &str| {
        published_shape(name)
            .map(|shape| RandomShape {
                name: shape.name,
                config: shape.config,
            })
            .ok_or_else(|| CliError::Failed(format!("no shape is called {name}")))
    };
    let scale = Scale::of_a_gpu(
        shape("llama-3.2-1b")?,
        shape("llama-3.1-8b")?,
        shape("qwen3-14b")?,
    );
    check(&args, &scale).await
}

async fn check(args: &GpuCheckArgs, scale: &Scale) -> Result<(), CliError> {
    let failed = |e: &dyn std::fmt::Display| CliError::Failed(e.to_string());
    let bench = GpuBench::open(args.device).map_err(|e| failed(&e))?;
    let began = Instant::now();
    let mut report = Report {
        rows: Vec::new(),
        device: bench.name().to_owned(),
        json: args.json.as_deref(),
        began,
        ends: began + Duration::from_secs_f64(60.0 * args.minutes),
    };
    if report.has_time_for("kernels") {
        device::kernels(&bench, scale)
            .into_iter()
            .for_each(|row| report.add(row));
    }
    let (roofline, rows) = device::roofline(&bench, scale).map_err(|e| failed(&e))?;
    report.all("roofline", Ok(rows));
    if report.has_time_for("invariance") {
        report.all(
            "invariance",
            device::invariance(&bench, scale).map_err(|e| e.to_string()),
        );
    }
    if report.has_time_for("decoder") {
        report.all(
            "decoder",
            device::decoder(&bench, scale, &roofline).map_err(|e| e.to_string()),
        );
    }
    drop(bench);
    if report.has_time_for("hosted") {
        together(args, scale, &mut report).await;
    }
    if let Some(path) = &args.peer {
        peers(path, &mut report);
    }
    emit(&as_table(&report));
    let failures = report
        .rows
        .iter()
        .filter(|row| row.verdict == Verdict::Failed)
        .count();
    match failures {
        0 => Ok(()),
        1 => Err(CliError::Failed("1 line above failed".to_owned())),
        _ => Err(CliError::Failed(format!("{failures} lines above failed"))),
    }
}

/// Three models on one device.
async fn together(args: &GpuCheckArgs, scale: &Scale, report: &mut Report<'_>) {
    // Loading blocks.
    let hosted = tokio::task::block_in_place(|| hosted::start(scale, args.device));
    let mut hosted = match hosted {
        Ok(hosted) => hosted,
        Err(reason) => {
            return report.add(Row::new(
                "three models hosted together",
                reason,
                "",
                Verdict::Failed,
            ));
        }
    };
    report.all("idle", hosted.idle(scale).await.map(|row| vec![row]));
    for model in [0, 1] {
        for &batch in &scale.batches {
            report.all(
                "joules",
                hosted.joules(scale, model, batch).await.map(|row| vec![row]),
            );
        }
    }
    if report.has_time_for("mixed") {
        report.all("mixed traffic", hosted.mixed(scale).await);
    }
    hosted.close().await;
}

/// What transformers reached on the same device in the same run, as `scripts/peers/transformers_gpu.py` wrote it down.
fn peers(path: &Path, report: &mut Report<'_>) {
    let read = std::fs::read(path).map_err(|e| e.to_string());
    let peer: Value = match read.and_then(|bytes| serde_json::from_slice(&bytes).map_err(|e| e.to_string())) {
        Ok(peer) => peer,
        Err(reason) => return report.add(Row::cut("transformers", reason)),
    };
    let own = |key: &str, report: &Report<'_>| {
        let rows = report.rows.iter();
        let row = rows
            .into_iter()
            .find(|row| row.numbers.get("key").is_some_and(|found| found == key))?;
        row.numbers["tokens_per_second"].as_f64()
    };
    for (key, what, bar) in [
        (
            "decode_1",
            "one stream against transformers, static cache and torch.compile",
            1.5,
        ),
        (
            "decode_64",
            "64 streams against transformers' continuous batching",
            2.0,
        ),
    ] {
        let row = match (own(key, report), peer[key]["tokens_per_second"].as_f64()) {
            (Some(own), Some(theirs)) => {
                let ratio = own / theirs;
                let found = format!("{ratio:.2} ×: {own:.0} against {theirs:.0} tokens/s");
                Row::new(what, found, &format!("≥ {bar} ×"), Verdict::of(ratio >= bar))
                    .with("ratio", ratio)
                    .with("theirs", theirs)
            }
            (own, _) => {
                let why = match own {
                    None => "not measured here".to_owned(),
                    Some(_) => peer[key]["error"]
                        .as_str()
                        .unwrap_or("they were not measured")
                        .to_owned(),
                };
                Row::cut(what, why)
            }
        };
        report.add(row);
    }
}

fn as_table(report: &Report<'_>) -> String {
    let columns = [
        ("what", Align::Left),
        ("found", Align::Left),
        ("bar", Align::Left),
        ("", Align::Left),
    ];
    let rows = report.rows.iter().map(|row| {
        vec![
            row.what.clone(),
            row.found.clone(),
            row.bar.clone(),
            row.verdict.word().to_owned(),
        ]
    });
    format!(
        "{}, {:.0} s\n\n{}",
        report.device,
        report.began.elapsed().as_secs_f64(),
        table(&columns, rows)
    )
}
