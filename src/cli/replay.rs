//! `messplus replay`: recorded traces through the router that serves, beside what it should beat.

use std::io::IsTerminal;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{Align, CliError, ReplayArgs, emit, table};
use crate::replay::contender::{self, Contender};
use crate::replay::plots;
use crate::replay::summary::Row;
use crate::replay::{Plan, Reading, Results, Shape, Swap, Trace, Traffic, read, replay as play};
use crate::router::Policy;
use crate::units::ModelId;

/// Runs the verb.
pub fn replay(args: &ReplayArgs) -> Result<(), CliError> {
    let texts = args.features == super::Features::Ngrams;
    let reading = Reading {
        models: args.models.clone(),
        texts,
    };
    let live = Live::start("rows");
    let trace = read(&args.trace, &reading, &mut |rows| live.count(rows))
        .map_err(|e| CliError::Usage(e.to_string()))?;
    live.end();
    let plan = plan(args, &trace)?;
    // Before the work: what cannot be written should be known now.
    std::fs::create_dir_all(&args.out).map_err(|e| unwritable(&args.out, &e))?;
    let live = Live::start("runs");
    let results = play(&trace, &plan, &|done, total| live.show(done, total))
        .map_err(|e| CliError::Usage(e.to_string()))?;
    live.end();
    write(&args.out, &results)?;
    emit(&if args.json {
        pretty(&results)
    } else {
        as_table(&results)
    });
    Ok(())
}

fn plan(args: &ReplayArgs, trace: &Trace) -> Result<Plan, CliError> {
    let usage = |what: String| CliError::Usage(what);
    let mut contenders: Vec<Contender> = vec![];
    let mut add = |contender: Contender| {
        if !contenders.contains(&contender) {
            contenders.push(contender);
        }
    };
    if !args.only {
        for model in 0..trace.models.len() {
            add(Contender::Routed {
                policy: Policy::Fixed(ModelId(model as u16)),
                context: true,
            });
        }
        for name in contender::REFERENCES {
            add(Contender::parse(name, &trace.models).map_err(usage)?);
        }
    }
    let all = args.policy.is_empty();
    let chosen = args
        .policy
        .iter()
        .map(String::as_str)
        .chain(contender::NAMES.into_iter().filter(|_| all));
    for name in chosen {
        add(Contender::parse(name, &trace.models).map_err(usage)?);
    }
    let swap = args
        .swap_at
        .as_deref()
        .map(|text| swap(text, trace))
        .transpose()?;
    let mut alphas = vec![];
    for text in &args.alpha_at {
        let parts = text
            .split_once(':')
            .and_then(|(at, alpha)| Some((at.parse().ok()?, alpha.parse().ok()?)));
        let sane = parts.filter(|(_, alpha): &(usize, f64)| *alpha > 0.0 && *alpha < 1.0);
        alphas.push(sane.ok_or_else(|| {
            usage(format!(
                "--alpha-at \"{text}\" is no change, write N:X, say 500:0.8"
            ))
        })?);
    }
    alphas.sort_by_key(|(at, _)| *at);
    Ok(Plan {
        contenders,
        alphas: args.alpha.clone().unwrap_or_default(),
        seeds: args.seeds,
        first_seed: args.seed,
        shape: match (args.mixed, args.chain) {
            (true, _) => Shape::Mixed,
            (_, true) => Shape::Chain,
            _ => Shape::Each,
        },
        limit: args.limit.unwrap_or(usize::MAX),
        swap,
        traffic: Traffic {
            concurrency: args.concurrency,
            delay: args.feedback_delay,
            share: args.feedback_share,
            alphas,
        },
        context: args.features == super::Features::Ngrams,
    })
}

/// `N` or `N:A,B`; without models, the two cheapest.
fn swap(text: &str, trace: &Trace) -> Result<Swap, CliError> {
    let usage = |what: String| CliError::Usage(format!("--swap-at \"{text}\" {what}"));
    let (at, models) = text
        .split_once(':')
        .map_or((text, None), |(at, models)| (at, Some(models)));
    let at = at
        .parse()
        .map_err(|_| usage("is no change, write N or N:MODEL,MODEL".into()))?;
    if trace.models.len() < 2 {
        return Err(usage("needs two models, the trace has one".into()));
    }
    let Some(models) = models else {
        return Ok(Swap { at, models: [0, 1] });
    };
    let (one, two) = models
        .split_once(',')
        .ok_or_else(|| usage("names one model, name two".into()))?;
    let place = |name: &str| {
        let place = trace.models.iter().position(|m| m == name);
        place.ok_or_else(|| {
            usage(format!(
                "names \"{name}\", the trace has {}",
                trace.models.join(", ")
            ))
        })
    };
    Ok(Swap {
        at,
        models: [place(one)?, place(two)?],
    })
}

fn write(out: &Path, results: &Results) -> Result<(), CliError> {
    let put = |name: &str, bytes: &[u8]| {
        let path = out.join(name);
        // Whole or not at all, also when somebody interrupts.
        let part = out.join(format!(".{name}.part"));
        std::fs::write(&part, bytes)
            .and_then(|()| std::fs::rename(&part, &path))
            .map_err(|e| unwritable(&path, &e))
    };
    put("replay.json", (pretty(results) + "\n").as_bytes())?;
    let csv = results
        .csv()
        .map_err(|e| CliError::Failed(format!("replay.csv cannot be made ({e})")))?;
    put("replay.csv", &csv)?;
    for (name, svg) in plots::draw(results).map_err(|e| CliError::Failed(e.to_string()))? {
        put(&name, svg.as_bytes())?;
    }
    Ok(())
}

fn unwritable(path: &Path, error: &std::io::Error) -> CliError {
    CliError::Failed(format!(
        "{} cannot be written ({error}): name another folder with --out",
        path.display()
    ))
}

fn pretty(results: &Results) -> String {
    serde_json::to_string_pretty(&results.json()).expect("names and numbers become JSON")
}

fn as_table(results: &Results) -> String {
    let mut columns = vec![
        ("benchmark", Align::Left),
        ("alpha", Align::Right),
        ("policy", Align::Left),
        ("MJ", Align::Right),
        ("±95%", Align::Right),
        ("unbilled", Align::Right),
        ("sat %", Align::Right),
        ("±95%", Align::Right),
        ("met %", Align::Right),
        ("explored %", Align::Right),
    ];
    // One column a model would not fit a terminal when they are many or have their full names.
    columns.push(("shown by %", Align::Left));
    let recovers = results.rows().any(|row| row.recovered.is_some());
    if recovers {
        columns.extend([("recovered %", Align::Right), ("after", Align::Right)]);
    }
    let cells = |row: &Row| {
        let percent = |share: f64| format!("{:.1}", 100.0 * share);
        let mut cells = vec![
            row.benchmark.clone(),
            format!("{}", (row.alpha * 1e4).round() / 1e4),
            row.policy.clone(),
            mega(row.cost_mj.mean),
            mega(row.cost_mj.ci95),
            mega(row.cost_mj_paper_accounting),
            format!("{:.2}", 100.0 * row.satisfaction.mean),
            format!("{:.2}", 100.0 * row.satisfaction.ci95),
            percent(row.sla_met_share),
            percent(row.explored_share),
        ];
        let calls: Vec<String> = row
            .calls
            .iter()
            .map(|share| format!("{:.0}", 100.0 * share))
            .collect();
        cells.push(calls.join("/"));
        if let Some((share, after)) = row.recovered {
            cells.extend([percent(share), format!("{after:.0}")]);
        }
        cells
    };
    let many = results
        .sections
        .iter()
        .any(|s| s.stream != results.sections[0].stream);
    let means = results.mean.iter().filter(|_| many);
    let rows = table(&columns, results.rows().chain(means).map(cells));
    format!("{rows}\n\nshown by: {}", results.models.join(" / "))
}

/// Megajoules to four figures: a tiny trace comes to a few joules.
fn mega(mj: f64) -> String {
    if mj == 0.0 || mj >= 0.01 {
        format!("{mj:.4}")
    } else {
        format!("{mj:.2e}")
    }
}

/// How far it is: a bar on a terminal, a line now and then elsewhere, all on standard error.
struct Live {
    what: &'static str,
    bar: Option<ProgressBar>,
    tenths: AtomicUsize,
}

impl Live {
    fn start(what: &'static str) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{prefix} {bar:30} {human_pos}/{human_len} {eta}");
            // The template is a constant; were it wrong, the plain bar would do.
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_prefix(what);
            bar
        });
        Self {
            what,
            bar,
            tenths: AtomicUsize::new(0),
        }
    }

    fn count(&self, done: usize) {
        if let Some(bar) = &self.bar {
            bar.set_position(done as u64);
        }
    }

    fn show(&self, done: usize, total: usize) {
        match &self.bar {
            Some(bar) => {
                bar.set_length(total as u64);
                bar.set_position(done as u64);
            }
            None => {
                let tenths = 10 * done / total.max(1);
                if self.tenths.fetch_max(tenths, Ordering::Relaxed) < tenths {
                    eprintln!("replay: {done} of {total} {}", self.what);
                }
            }
        }
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
