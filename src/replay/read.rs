//! Trace files: CSV, one row a request, the columns of the MESS+ authors' captures.
//!
//! `benchmark_name`, `input_text` and for each model X `label_X` (0 to 1, empty: unknown) and
//! `energy_consumption_X` (J, empty: unknown). Read if they are there: `category`, `prompt_tokens`,
//! `output_tokens_X`, `confidence_X`. Everything else is ignored. Rows are read one at a time and their texts are
//! not kept, only hashed.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use csv::StringRecord;

use super::trace::{Answer, Trace};
use crate::router::features;

/// What to keep of a trace.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// Only these models; all when empty.
    pub models: Vec<String>,
    /// Whether to hash the texts.
    pub texts: bool,
}

/// Why a trace cannot be read: what is wrong, where, and the mend.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct TraceError(String);

fn refuse(place: impl std::fmt::Display, what: impl std::fmt::Display) -> TraceError {
    TraceError(format!("{place}: {what}"))
}

/// Reads files, and of folders all their `.csv` files by name. `row` is told the number of rows so far, now and then.
pub fn read(paths: &[PathBuf], reading: &Reading, row: &mut dyn FnMut(usize)) -> Result<Trace, TraceError> {
    let mut files = vec![];
    for path in paths {
        if path.is_dir() {
            files.extend(folder(path)?);
        } else {
            files.push(path.clone());
        }
    }
    let mut trace = Trace::default();
    trace.has_confidence = true;
    for file in &files {
        read_file(file, reading, &mut trace, row)?;
    }
    if trace.requests.is_empty() {
        let names: Vec<_> = paths.iter().map(|p| p.display().to_string()).collect();
        return Err(refuse(
            names.join(", "),
            "no request is recorded there, give a trace with at least one row",
        ));
    }
    trace.settle().map_err(|(model, benchmark, what)| {
        TraceError(format!(
            "no answer of the model \"{model}\" in the benchmark \"{benchmark}\" has a known {what}: leave it out with --models"
        ))
    })?;
    Ok(trace)
}

fn folder(path: &Path) -> Result<Vec<PathBuf>, TraceError> {
    let unreadable = |e: std::io::Error| {
        refuse(
            path.display(),
            format!("the folder cannot be read ({e}), check its rights"),
        )
    };
    let mut files = vec![];
    for entry in path.read_dir().map_err(unreadable)? {
        let file = entry.map_err(unreadable)?.path();
        let ends = file.extension().is_some_and(|e| e.eq_ignore_ascii_case("csv"));
        if ends && file.is_file() {
            files.push(file);
        }
    }
    if files.is_empty() {
        return Err(refuse(
            path.display(),
            "the folder has no .csv file, name the trace itself",
        ));
    }
    files.sort();
    Ok(files)
}

/// Where a file keeps what.
struct Columns {
    text: Option<usize>,
    benchmark: usize,
    category: Option<usize>,
    prompt_tokens: Option<usize>,
    /// In the trace's order of models.
    models: Vec<ModelColumns>,
}

struct ModelColumns {
    name: String,
    label: usize,
    joules: usize,
    output_tokens: Option<usize>,
    confidence: Option<usize>,
}

impl Columns {
    fn find(head: &StringRecord, file: &str, reading: &Reading, trace: &Trace) -> Result<Self, TraceError> {
        let place = |name: &str| head.iter().position(|h| h.trim() == name);
        if let Some(twin) = head
            .iter()
            .enumerate()
            .find(|(at, name)| !name.is_empty() && place(name).is_some_and(|p| p < *at))
        {
            return Err(refuse(
                format!("{file}:1"),
                format!("the column \"{}\" is there twice, rename one", twin.1),
            ));
        }
        let required = |name: &str| {
            place(name).ok_or_else(|| {
                refuse(
                    format!("{file}:1"),
                    format!("the column \"{name}\" is missing, add it"),
                )
            })
        };
        let benchmark = required("benchmark_name")?;
        let text = if reading.texts {
            Some(required("input_text")?)
        } else {
            place("input_text")
        };
        let found: Vec<String> = head
            .iter()
            .filter_map(|h| h.trim().strip_prefix("label_"))
            .map(str::to_owned)
            .collect();
        let wanted = match (reading.models.is_empty(), trace.models.is_empty()) {
            (false, _) => &reading.models,
            (true, true) => &found,
            (true, false) => {
                let mut one: Vec<_> = found.iter().collect();
                let mut two: Vec<_> = trace.models.iter().collect();
                one.sort();
                two.sort();
                if one != two {
                    return Err(refuse(
                        format!("{file}:1"),
                        format!(
                            "it has the models {}, the files before it {}, name common ones with --models",
                            found.join(", "),
                            trace.models.join(", ")
                        ),
                    ));
                }
                &trace.models
            }
        };
        if wanted.is_empty() || wanted.len() > 64 {
            return Err(refuse(
                format!("{file}:1"),
                format!(
                    "{} columns are called label_MODEL, a trace needs 1 to 64 of them",
                    wanted.len()
                ),
            ));
        }
        let model = |name: &String| {
            let label = place(&format!("label_{name}")).ok_or_else(|| {
                refuse(
                    format!("{file}:1"),
                    format!("there is no model \"{name}\", it has {}", found.join(", ")),
                )
            })?;
            Ok(ModelColumns {
                name: name.clone(),
                label,
                joules: required(&format!("energy_consumption_{name}"))?,
                output_tokens: place(&format!("output_tokens_{name}")),
                confidence: place(&format!("confidence_{name}")),
            })
        };
        Ok(Self {
            text,
            benchmark,
            category: place("category"),
            prompt_tokens: place("prompt_tokens"),
            models: wanted.iter().map(model).collect::<Result<_, TraceError>>()?,
        })
    }
}

fn read_file(
    path: &Path,
    reading: &Reading,
    trace: &mut Trace,
    row: &mut dyn FnMut(usize),
) -> Result<(), TraceError> {
    let name = path.display().to_string();
    let file = File::open(path)
        .map_err(|e| refuse(&name, format!("the trace cannot be read ({e}), check its name")))?;
    let mut reader = csv::Reader::from_reader(BufReader::with_capacity(1 << 16, file));
    let head = reader.headers().map_err(|e| bad_row(&name, &e))?.clone();
    let columns = Columns::find(&head, &name, reading, trace)?;
    if trace.models.is_empty() {
        trace.models = columns.models.iter().map(|m| m.name.clone()).collect();
    }
    trace.counts_tokens |= columns.models.iter().any(|m| m.output_tokens.is_some());
    let mut record = StringRecord::new();
    let mut answers = Vec::with_capacity(columns.models.len());
    loop {
        match reader.read_record(&mut record) {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(e) => return Err(bad_row(&name, &e)),
        }
        let line = record.position().map_or(0, csv::Position::line);
        let cells = Cells {
            record: &record,
            head: &head,
            file: &name,
            line,
        };
        answers.clear();
        for model in &columns.models {
            answers.push(cells.answer(model)?);
        }
        trace.has_confidence &= answers.iter().all(|a| a.confidence.is_finite());
        let text = columns.text.map_or("", |at| &record[at]);
        let hashed = if reading.texts {
            features::hashed(text)
        } else {
            vec![]
        };
        let prompt_tokens = match columns.prompt_tokens {
            Some(at) => cells.count(at)?,
            // English and code come to some four characters a token.
            None => (text.chars().count() as u32).div_ceil(4),
        };
        let benchmark = record[columns.benchmark].trim();
        if benchmark.is_empty() {
            return Err(refuse(
                format!("{name}:{line}"),
                "benchmark_name is empty, write what the row belongs to",
            ));
        }
        let category = columns.category.map_or(benchmark, |at| record[at].trim());
        let benchmark = cells.name(&mut trace.benchmarks, benchmark, "benchmark_name")?;
        let category = cells.name(&mut trace.categories, category, "category")?;
        trace.push(benchmark, category, prompt_tokens, &hashed, &answers);
        if trace.requests.len().is_multiple_of(1024) {
            row(trace.requests.len());
        }
    }
}

/// What the CSV reader says of a row it cannot split.
fn bad_row(file: &str, error: &csv::Error) -> TraceError {
    let line = error.position().map_or(1, csv::Position::line);
    let what = match error.kind() {
        csv::ErrorKind::UnequalLengths {
            expected_len, len, ..
        } => {
            format!(
                "the row has {len} cells, the head {expected_len}, quote cells with commas and mend or remove the row"
            )
        }
        csv::ErrorKind::Utf8 { .. } => {
            "the row is no UTF-8 text, convert the file or remove the row".to_owned()
        }
        _ => format!("the row cannot be read ({error}), mend or remove it"),
    };
    refuse(format!("{file}:{line}"), what)
}

/// One row, with its place for refusals.
struct Cells<'a> {
    record: &'a StringRecord,
    head: &'a StringRecord,
    file: &'a str,
    line: u64,
}

impl Cells<'_> {
    fn answer(&self, model: &ModelColumns) -> Result<Answer, TraceError> {
        let label = self.number(
            model.label,
            "a share from 0 to 1, or nothing where it is unknown",
            |l| (0.0..=1.0).contains(&l),
        )?;
        let joules = self.number(
            model.joules,
            "joules above 0, or nothing where they are unknown",
            |j| j > 0.0 && j.is_finite(),
        )?;
        let confidence = model
            .confidence
            .map(|at| self.number(at, "a number, or nothing", f64::is_finite))
            .transpose()?;
        Ok(Answer {
            satisfied: label.unwrap_or(f64::NAN),
            judged: label.is_some(),
            joules: joules.unwrap_or(f64::NAN),
            output_tokens: model.output_tokens.map_or(Ok(0), |at| self.count(at))?,
            confidence: confidence.flatten().unwrap_or(f64::NAN),
        })
    }

    fn number(&self, at: usize, must: &str, sane: impl Fn(f64) -> bool) -> Result<Option<f64>, TraceError> {
        let cell = self.record[at].trim();
        if cell.is_empty() {
            return Ok(None);
        }
        match cell.parse().ok().filter(|number| sane(*number)) {
            Some(number) => Ok(Some(number)),
            None => Err(self.bad_cell(at, cell, must)),
        }
    }

    fn count(&self, at: usize) -> Result<u32, TraceError> {
        let must = "a whole number of tokens, or nothing";
        let number = self.number(at, must, |n| {
            (0.0..=f64::from(u32::MAX)).contains(&n) && n.fract() == 0.0
        })?;
        Ok(number.unwrap_or(0.0) as u32)
    }

    fn bad_cell(&self, at: usize, cell: &str, must: &str) -> TraceError {
        let shown: String = cell.chars().take(40).collect();
        refuse(
            format!("{}:{}", self.file, self.line),
            format!("{} is \"{shown}\", write {must}", self.head[at].trim()),
        )
    }

    /// The place of a name in the list of those seen.
    fn name(&self, names: &mut Vec<String>, name: &str, column: &str) -> Result<u16, TraceError> {
        // Rows of one kind come together.
        if let Some(place) = names.iter().rposition(|n| n == name) {
            return Ok(place as u16);
        }
        if names.len() >= 4096 {
            let what =
                format!("more than 4096 different values of {column}, give rows of one kind the same one");
            return Err(refuse(format!("{}:{}", self.file, self.line), what));
        }
        names.push(name.to_owned());
        Ok((names.len() - 1) as u16)
    }
}
