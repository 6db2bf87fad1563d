//! `messplus profile`: joules, watts and speed of every model by batch size and length.

use std::io::IsTerminal;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use super::signals::stop_signal;
use super::{Align, CliError, Plan, ProfileArgs, emit, house, meter_settings, table};
use crate::config::Zoo;
use crate::energy::{DeviceEnergy, EnergyHandle, IdlePolicy, MeterSettings, Source, open_meters};
use crate::engine::{Engine, EngineSettings};
use crate::profile::{
    self, Baseline, Bench, Cell, Change, Course, CourseError, Fingerprint, Grid, Partial, Profile, Progress,
    Room, Row, Skipped, StepWatch,
};
use crate::units::Clock;

/// The file that says a run is finished.
const RESULT: &str = "profile.json";
/// A board's counter is tested for its first seconds; until then nothing can be read.
const METER_PATIENCE: Duration = Duration::from_secs(10);

/// Runs the verb.
pub async fn profile(args: ProfileArgs) -> Result<(), CliError> {
    let failed = |error: &dyn std::fmt::Display| CliError::Failed(error.to_string());
    let usage = |error: &dyn std::fmt::Display| CliError::Usage(error.to_string());
    let mut zoo = Zoo::load(args.zoo.as_deref())?;
    let text = zoo_text(&args)?;
    keep_models(&mut zoo, &args.model)?;
    let plan = Plan::of(&zoo)?;
    plan.refuse_what_does_not_fit(&zoo)?;
    refuse_finished(&args)?;
    let stop = Arc::new(AtomicBool::new(false));
    let (told, signal) = (stop.clone(), stop_signal()?);
    tokio::spawn(async move {
        signal.await;
        told.store(true, Ordering::Relaxed);
        eprintln!("profile: stopping after the present repeat");
    });

    let settings = MeterSettings {
        models: zoo.models.iter().map(|m| m.name.clone()).collect(),
        ..meter_settings(&zoo.energy)
    };
    let bench = open(&zoo, &plan, &settings).await?;
    let devices = tested(&bench).await?;
    let meter = meter_of(&devices);
    let baseline = args
        .baseline
        .as_deref()
        .map(|folder| Baseline::read(folder, meter.as_str()))
        .transpose()
        .map_err(|e| usage(&e))?;
    let (grid, cells, skipped) = grid(&args, &bench, &plan)?;
    let run = Fingerprint {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        zoo: text,
        meters: devices
            .iter()
            .map(|d| format!("{}: {}", d.name, d.source))
            .collect(),
        grid,
        most_repeats: args.repeat as usize,
    };
    let mut partial = Partial::open(&args.out, &run, args.fresh).map_err(|e| usage(&e))?;
    let live = Live::start(cells.len());
    let course = Course {
        bench: &bench,
        cells: &cells,
        most_repeats: args.repeat as usize,
        stop: &stop,
        progress: &|progress| live.show(progress),
    };
    let ended = course.run(&mut partial).await;
    live.end();
    bench.engine.shutdown();
    bench.energy.shutdown().await;
    match ended {
        Ok(()) => {}
        Err(CourseError::Interrupted) => {
            return Err(CliError::Failed(format!(
                "interrupted after {} of {} settings, which {} keeps: the same command goes on from there",
                partial.rows().count(),
                cells.len(),
                args.out.display()
            )));
        }
        Err(error) => return Err(failed(&error)),
    }
    let (mut rows, idle, traces) = partial.into_parts();
    rows.sort_by_key(|row| cells.iter().position(|cell| *cell == row.cell));
    let profile = Profile {
        version: run.version,
        meter: meter.to_string(),
        meters: devices.iter().map(|d| d.meter.clone()).collect(),
        idle_policy: match settings.idle {
            IdlePolicy::Separate => "separate".to_owned(),
            IdlePolicy::Shared => "shared".to_owned(),
        },
        finished_at: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| d.as_secs()),
        rows,
        idle,
        skipped,
    };
    let changes = baseline.map(|earlier| earlier.changes(&profile));
    write(&args.out, &profile, &traces, changes.as_deref())?;
    profile::remove(&args.out).map_err(|e| failed(&e))?;
    let json = json(&profile, changes.as_deref());
    emit(&if args.json {
        json
    } else {
        as_table(&profile, changes.as_deref())
    });
    eprintln!("profile: {} shows it", args.out.join("report.html").display());
    Ok(())
}

/// The zoo file's text, by which an interrupted run knows its zoo again.
fn zoo_text(args: &ProfileArgs) -> Result<String, CliError> {
    let Some(path) = &args.zoo else {
        return Ok("the demo zoo".to_owned());
    };
    std::fs::read_to_string(path).map_err(|e| {
        CliError::Usage(format!(
            "{} cannot be read ({e}): name a zoo file",
            path.display()
        ))
    })
}

fn keep_models(zoo: &mut Zoo, names: &[String]) -> Result<(), CliError> {
    if names.is_empty() {
        return Ok(());
    }
    if let Some(unknown) = names
        .iter()
        .find(|name| zoo.models.iter().all(|m| m.name != **name))
    {
        let known: Vec<&str> = zoo.models.iter().map(|m| m.name.as_str()).collect();
        return Err(CliError::Usage(format!(
            "--model \"{unknown}\" is not in the zoo, which has {}",
            known.join(", ")
        )));
    }
    zoo.models.retain(|model| names.contains(&model.name));
    Ok(())
}

fn refuse_finished(args: &ProfileArgs) -> Result<(), CliError> {
    let path = args.out.join(RESULT);
    if !args.fresh && path.exists() {
        return Err(CliError::Usage(format!(
            "{} holds a finished run: name another folder with --out, or overwrite it with --fresh",
            args.out.display()
        )));
    }
    Ok(())
}

async fn open(zoo: &Zoo, plan: &Plan, settings: &MeterSettings) -> Result<Bench, CliError> {
    let failed = |error: &dyn std::fmt::Display| CliError::Failed(error.to_string());
    let specs = house::specs(zoo, plan)?;
    let lanes = house::lanes(&specs);
    let clock = Clock::start();
    let meters = open_meters(settings, &lanes).map_err(|e| failed(&e))?;
    let energy = EnergyHandle::start(meters, &lanes, settings, clock, None);
    let steps = Arc::new(StepWatch::new(energy.clone()));
    let sink = steps.clone();
    let engine_settings = EngineSettings {
        max_queue: EngineSettings::default().max_rows,
        prefix_cache: false,
        ..EngineSettings::default()
    };
    let loading = tokio::task::spawn_blocking(move || Engine::start(&specs, engine_settings, clock, sink));
    let engine = loading.await.map_err(|e| failed(&e))?.map_err(|e| failed(&e))?;
    Ok(Bench {
        engine,
        energy,
        steps,
    })
}

/// The devices, once their meters are no longer on trial.
async fn tested(bench: &Bench) -> Result<Vec<DeviceEnergy>, CliError> {
    let since = Instant::now();
    loop {
        let devices = bench.energy.devices().await;
        let waits = devices
            .iter()
            .find(|d| d.check.state == crate::energy::CheckState::Running);
        match waits {
            None => return Ok(devices),
            Some(device) if since.elapsed() > METER_PATIENCE => {
                return Err(CliError::Failed(format!(
                    "the meter of {} does not answer: `messplus check` says what it can measure",
                    device.name
                )));
            }
            Some(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// The least sure of the meters names the whole run.
fn meter_of(devices: &[DeviceEnergy]) -> Source {
    devices.iter().map(|d| d.source).max().unwrap_or(Source::Modelled)
}

fn grid(args: &ProfileArgs, bench: &Bench, plan: &Plan) -> Result<(Grid, Vec<Cell>, Vec<Skipped>), CliError> {
    let sorted = |values: &[usize]| {
        let mut values = values.to_vec();
        values.sort_unstable();
        values.dedup();
        values
    };
    let grid = Grid {
        batch: sorted(&args.batch),
        prompt_tokens: sorted(&args.prompt_tokens),
        output_tokens: sorted(&args.output_tokens),
    };
    let rooms: Vec<Room> = bench
        .engine
        .models()
        .iter()
        .map(|facts| {
            let device = plan.devices.iter().find(|d| d.name == facts.device_name);
            Room {
                facts,
                kv_bytes: device.map_or(0, |d| d.kv_bytes),
                max_rows: EngineSettings::default().max_rows,
            }
        })
        .collect();
    let (cells, skipped) = grid.cells(&rooms);
    for left in &skipped {
        eprintln!("profile: left out {}: {}", left.cell, left.why);
    }
    if cells.is_empty() {
        return Err(CliError::Usage(
            "no setting fits any model: lower --batch, --prompt-tokens or --output-tokens".to_owned(),
        ));
    }
    Ok((grid, cells, skipped))
}

fn write(
    out: &Path,
    profile: &Profile,
    traces: &[profile::PowerTrace],
    changes: Option<&[Change]>,
) -> Result<(), CliError> {
    let put = |name: &str, bytes: &[u8]| {
        let path = out.join(name);
        // Whole or not at all, also when somebody interrupts.
        let part = out.join(format!(".{name}.part"));
        let written = std::fs::write(&part, bytes).and_then(|()| std::fs::rename(&part, &path));
        written.map_err(|e| {
            CliError::Failed(format!(
                "{} cannot be written ({e}): make room, and the same command goes on",
                path.display()
            ))
        })
    };
    let plots = profile::draw(profile, traces).map_err(|e| CliError::Failed(e.to_string()))?;
    for plot in &plots {
        put(&format!("{}.svg", plot.name), plot.svg.as_bytes())?;
    }
    let csv = profile.csv();
    let csv = csv.map_err(|e| CliError::Failed(format!("profile.csv cannot be made ({e})")))?;
    put("profile.csv", &csv)?;
    put("report.html", profile::page(profile, &plots, changes).as_bytes())?;
    // Last: it says that the run is finished.
    put(RESULT, (json(profile, changes) + "\n").as_bytes())
}

fn json(profile: &Profile, changes: Option<&[Change]>) -> String {
    let mut json = profile.json();
    if let (Some(changes), Some(json)) = (changes, json.as_object_mut()) {
        json.insert("baseline".into(), json!(changes));
    }
    serde_json::to_string_pretty(&json).expect("names and numbers become JSON")
}

fn as_table(profile: &Profile, changes: Option<&[Change]>) -> String {
    let mut columns = vec![
        ("model", Align::Left),
        ("batch", Align::Right),
        ("prompt", Align::Right),
        ("answer", Align::Right),
        ("J/request", Align::Right),
        ("±95%", Align::Right),
        ("prefill mJ/tok", Align::Right),
        ("decode mJ/tok", Align::Right),
        ("W", Align::Right),
        ("tok/s", Align::Right),
        ("first ms", Align::Right),
        ("token ms", Align::Right),
    ];
    if changes.is_some() {
        columns.push(("J now/then", Align::Right));
    }
    let cells = |row: &Row| {
        let some = |value: Option<f64>, digits: usize| {
            value.map_or_else(|| "–".to_owned(), |v| format!("{v:.digits$}"))
        };
        let share = 100.0 * row.half_width("joules_per_request") / row.joules_per_request.max(1e-12);
        let mut cells = vec![
            row.cell.model.clone(),
            row.cell.batch.to_string(),
            row.cell.prompt_tokens.to_string(),
            row.cell.output_tokens.to_string(),
            format!("{:.4}", row.joules_per_request),
            format!("{share:.1} %"),
            format!("{:.3}", row.prefill_joules_per_token * 1e3),
            some(row.decode_joules_per_token.map(|j| j * 1e3), 3),
            format!("{:.1}", row.watts),
            format!("{:.1}", row.tokens_per_second),
            format!("{:.1}", row.time_to_first_token_ms),
            some(row.inter_token_ms, 2),
        ];
        if let Some(changes) = changes {
            let change = changes.iter().find(|change| change.cell == row.cell);
            cells.push(change.map_or_else(
                || "new".to_owned(),
                |c| format!("{:.3}{}", c.joules_ratio, if c.is_real() { "" } else { " ≈" }),
            ));
        }
        cells
    };
    let rows = table(&columns, profile.rows.iter().map(cells));
    format!(
        "{rows}\n\nmeter: {}; idle {:.1} W",
        profile.meter,
        profile.idle_watts()
    )
}

/// How far it is: a bar on a terminal, a line a setting elsewhere, all on standard error.
struct Live {
    bar: Option<ProgressBar>,
    total: usize,
    started: Instant,
    /// Settings done when this process began; they took none of its time.
    earlier: std::sync::OnceLock<usize>,
}

impl Live {
    fn start(total: usize) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(total as u64), ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("profile {bar:20} {pos}/{len} {wide_msg}");
            // The template is a constant; were it wrong, the plain bar would do.
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        Self {
            bar,
            total,
            started: Instant::now(),
            earlier: std::sync::OnceLock::new(),
        }
    }

    fn show(&self, progress: &Progress) {
        let earlier = *self.earlier.get_or_init(|| progress.done);
        let mine = progress.done - earlier;
        let left = (mine > 0).then(|| {
            let each = self.started.elapsed().as_secs_f64() / mine as f64;
            let seconds = each * (self.total - progress.done) as f64;
            format!(", {} left", HumanDuration(Duration::from_secs_f64(seconds)))
        });
        let so_far = progress
            .so_far
            .map(|(joules, half)| format!(", {:.4} J ± {:.1} %", joules.0, 100.0 * half));
        let repeats = match progress.repeats {
            0 => format!("up to {} repeats", progress.most_repeats),
            n => format!("repeat {n} of up to {}", progress.most_repeats),
        };
        let line = format!(
            "{}: {repeats}{}{}",
            progress.cell,
            so_far.unwrap_or_default(),
            left.unwrap_or_default()
        );
        match &self.bar {
            Some(bar) => {
                bar.set_position(progress.done as u64);
                bar.set_message(line);
            }
            None if progress.repeats == 0 => {
                eprintln!("profile {}/{}: {line}", progress.done + 1, self.total)
            }
            None => {}
        }
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
