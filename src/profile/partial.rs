//! What a run has measured so far, on the disk line by line, so that an interrupted run goes on where it was.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::grid::{Cell, Grid};
use super::power::PowerTrace;
use super::record::{Idle, Row};

/// The file's name in the folder of the results.
const NAME: &str = "profile.partial.jsonl";

/// What must be the same for measurements to belong together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    pub version: String,
    /// The zoo file's whole text.
    pub zoo: String,
    /// The meters, one a device.
    pub meters: Vec<String>,
    pub grid: Grid,
    pub most_repeats: usize,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Run(Fingerprint),
    Row(Row),
    Idle(Idle),
    Trace(PowerTrace),
}

/// Why the file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum PartialError {
    #[error("{path} cannot be written ({source}): name another folder with --out")]
    Write { path: PathBuf, source: std::io::Error },
    #[error("{path} cannot be read ({why}): start over with --fresh")]
    Read { path: PathBuf, why: String },
    #[error(
        "{path} holds an unfinished run of another zoo, meter or grid: repeat that command to finish it, start over \
         with --fresh, or name another folder with --out"
    )]
    Other { path: PathBuf },
}

/// The measurements so far.
#[derive(Debug)]
pub struct Partial {
    path: PathBuf,
    file: File,
    rows: Vec<Row>,
    idle: Vec<Idle>,
    traces: Vec<PowerTrace>,
}

impl Partial {
    /// Opens the file of `folder`, which is made when it is not there. `fresh`: forget an earlier run.
    pub fn open(folder: &Path, run: &Fingerprint, fresh: bool) -> Result<Self, PartialError> {
        let path = folder.join(NAME);
        let write = |source| PartialError::Write {
            path: path.clone(),
            source,
        };
        std::fs::create_dir_all(folder).map_err(write)?;
        let lines = if fresh { Vec::new() } else { read(&path)? };
        let (mut rows, mut idle, mut traces) = (Vec::new(), Vec::new(), Vec::new());
        let mut lines = lines.into_iter();
        match lines.next() {
            None => {}
            Some(Line::Run(found)) if found == *run => {}
            Some(_) => return Err(PartialError::Other { path }),
        }
        for line in lines {
            match line {
                Line::Row(row) => rows.push(row),
                Line::Idle(seen) => idle.push(seen),
                Line::Trace(trace) => traces.push(trace),
                Line::Run(_) => return Err(PartialError::Other { path }),
            }
        }
        // Written anew: a line cut short by a crash is thereby gone.
        let part = folder.join(format!(".{NAME}.part"));
        let mut partial = Self {
            file: File::create(&part).map_err(write)?,
            path: path.clone(),
            rows: Vec::new(),
            idle: Vec::new(),
            traces: Vec::new(),
        };
        partial.write(&Line::Run(run.clone()))?;
        for row in rows {
            partial.add_row(row)?;
        }
        for seen in idle {
            partial.add_idle(seen)?;
        }
        for trace in traces {
            partial.add_trace(trace)?;
        }
        std::fs::rename(&part, &path).map_err(write)?;
        partial.file = OpenOptions::new().append(true).open(&path).map_err(write)?;
        Ok(partial)
    }

    pub fn has(&self, cell: &Cell) -> bool {
        self.rows.iter().any(|row| row.cell == *cell)
    }

    pub fn rows(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter()
    }

    pub fn add_row(&mut self, row: Row) -> Result<(), PartialError> {
        self.write(&Line::Row(row.clone()))?;
        self.rows.push(row);
        Ok(())
    }

    pub fn add_idle(&mut self, idle: Idle) -> Result<(), PartialError> {
        self.write(&Line::Idle(idle.clone()))?;
        self.idle.push(idle);
        Ok(())
    }

    pub fn add_trace(&mut self, trace: PowerTrace) -> Result<(), PartialError> {
        self.write(&Line::Trace(trace.clone()))?;
        self.traces.push(trace);
        Ok(())
    }

    /// Rows, idle baselines and power traces.
    pub fn into_parts(self) -> (Vec<Row>, Vec<Idle>, Vec<PowerTrace>) {
        (self.rows, self.idle, self.traces)
    }

    fn write(&mut self, line: &Line) -> Result<(), PartialError> {
        let mut text = serde_json::to_string(line).expect("names and numbers become JSON");
        text.push('\n');
        let written = self
            .file
            .write_all(text.as_bytes())
            .and_then(|()| self.file.sync_data());
        written.map_err(|source| PartialError::Write {
            path: self.path.clone(),
            source,
        })
    }
}

/// The run in `folder` is finished and written elsewhere.
pub fn remove(folder: &Path) -> Result<(), PartialError> {
    let path = folder.join(NAME);
    std::fs::remove_file(&path).map_err(|source| PartialError::Write { path, source })
}

/// The lines of the file, none when it is not there. The last line may have been cut short and is then left out.
fn read(path: &Path) -> Result<Vec<Line>, PartialError> {
    let unreadable = |why: String| PartialError::Read {
        path: path.to_owned(),
        why,
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(error.to_string())),
    };
    let texts: Result<Vec<String>, _> = BufReader::new(file).lines().collect();
    let texts = texts.map_err(|e| unreadable(e.to_string()))?;
    let mut lines = Vec::new();
    for (at, text) in texts.iter().enumerate() {
        match serde_json::from_str(text) {
            Ok(line) => lines.push(line),
            Err(_) if at + 1 == texts.len() => {}
            Err(error) => return Err(unreadable(format!("line {}: {error}", at + 1))),
        }
    }
    Ok(lines)
}
