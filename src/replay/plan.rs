//! What is played, and the playing of it: every stream under every promise by every policy with every seed.

use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use super::cascade;
use super::clairvoyant;
use super::contender::{self, Contender};
use super::course::{Course, Shape, Stream, Swap, streams};
use super::offline::{self, Foreknowledge};
use super::play::{self, Traffic};
use super::results::{Results, Section};
use super::score::{Run, Score};
use super::summary::Row;
use super::trace::Trace;
use crate::router::{ConfigError, RouterConfig, SlaConfig};

/// The promises a replay plays under.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Alphas {
    /// For every stream that has none of its own.
    pub all: Vec<f64>,
    /// By stream.
    pub named: Vec<(String, f64)>,
}

impl FromStr for Alphas {
    type Err = String;

    /// `X,..` or `BENCHMARK=X,..`
    fn from_str(text: &str) -> Result<Self, String> {
        let mut alphas = Self::default();
        for item in text.split(',') {
            let (name, number) = item
                .rsplit_once('=')
                .map_or((None, item), |(name, number)| (Some(name), number));
            let alpha = number.trim().parse().ok().filter(|a| *a > 0.0 && *a < 1.0);
            let alpha = alpha.ok_or_else(|| {
                format!("\"{item}\" promises nothing, write X or BENCHMARK=X with X between 0 and 1, both excluded")
            })?;
            match name {
                Some(name) => alphas.named.push((name.trim().to_owned(), alpha)),
                None => alphas.all.push(alpha),
            }
        }
        Ok(alphas)
    }
}

impl Alphas {
    /// Those of a stream; where nothing is said, halfway between the cheapest and the best model's share of
    /// satisfied answers, in whole percent.
    fn of(&self, stream: &str, averages: &[(f64, f64)]) -> Vec<f64> {
        let named: Vec<f64> = self
            .named
            .iter()
            .filter(|(name, _)| name == stream)
            .map(|(_, a)| *a)
            .collect();
        if !named.is_empty() {
            return named;
        }
        if !self.all.is_empty() {
            return self.all.clone();
        }
        let cheapest = averages
            .iter()
            .copied()
            .fold((f64::INFINITY, 0.0), |a, b| if b.0 < a.0 { b } else { a });
        let best = averages.iter().map(|(_, rate)| *rate).fold(0.0, f64::max);
        vec![(50.0 * (cheapest.1 + best)).round().clamp(1.0, 99.0) / 100.0]
    }
}

/// What is played.
#[derive(Clone, Debug)]
pub struct Plan {
    pub contenders: Vec<Contender>,
    pub alphas: Alphas,
    /// Runs of each: with the seeds `first_seed`, `first_seed` + 1, ...
    pub seeds: usize,
    pub first_seed: u64,
    pub shape: Shape,
    /// Most requests of a stream.
    pub limit: usize,
    pub swap: Option<Swap>,
    pub traffic: Traffic,
    /// Whether the router may see the texts; they must have been read.
    pub context: bool,
}

/// Why a plan cannot be played.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PlanError {
    #[error("--alpha names the benchmark \"{0}\", the trace has {1}")]
    UnknownStream(String, String),
    #[error(transparent)]
    Router(#[from] ConfigError),
}

/// One policy on one stream under one promise with one seed.
struct Task<'a> {
    stream: &'a Stream,
    trained: Option<&'a Foreknowledge>,
    alpha: f64,
    contender: &'a Contender,
    seed: u64,
}

/// Plays all of it, on all cores. `progress` is told how many runs of how many are done.
pub fn replay(
    trace: &Trace,
    plan: &Plan,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Results, PlanError> {
    let streams = streams(trace, plan.shape);
    if let Some((unknown, _)) = plan
        .alphas
        .named
        .iter()
        .find(|(name, _)| streams.iter().all(|s| s.name != *name))
    {
        let names: Vec<_> = streams.iter().map(|s| s.name.as_str()).collect();
        return Err(PlanError::UnknownStream(unknown.clone(), names.join(", ")));
    }
    let mut kept = vec![];
    for (place, stream) in streams.iter().enumerate() {
        let averages = clairvoyant::averages(&Course::new(trace, stream, 0, usize::MAX, None));
        let alphas = plan.alphas.of(&stream.name, &averages).into_iter().enumerate();
        kept.extend(alphas.map(|(rank, alpha)| (place, rank, alpha)));
    }
    let trained: Vec<Option<Foreknowledge>> = streams
        .par_iter()
        .map(|stream| {
            plan.contenders
                .contains(&Contender::Logistic)
                .then(|| Foreknowledge::train(trace, stream))
        })
        .collect();
    let mut tasks = vec![];
    for (place, _, alpha) in &kept {
        for contender in &plan.contenders {
            for seed in 0..plan.seeds as u64 {
                tasks.push(Task {
                    stream: &streams[*place],
                    trained: trained[*place].as_ref(),
                    alpha: *alpha,
                    contender,
                    seed: plan.first_seed.wrapping_add(seed),
                });
            }
        }
    }
    let done = AtomicUsize::new(0);
    let runs: Vec<Run> = tasks
        .par_iter()
        .map(|task| {
            let run = run(trace, plan, task);
            progress(done.fetch_add(1, Ordering::Relaxed) + 1, tasks.len());
            run
        })
        .collect::<Result<_, _>>()?;
    let mut runs = runs.into_iter();
    let changed = plan.swap.is_some() || !plan.traffic.alphas.is_empty();
    let sections: Vec<Section> = kept
        .iter()
        .map(|(place, rank, alpha)| {
            let stream = &streams[*place];
            let row = |contender: &Contender| {
                let runs: Vec<Run> = runs.by_ref().take(plan.seeds).collect();
                let name = contender.name(&trace.models);
                (Row::of(name, stream.name.clone(), *alpha, changed, &runs), runs)
            };
            Section {
                stream: stream.name.clone(),
                rank: *rank,
                alpha: *alpha,
                rows: plan.contenders.iter().map(row).collect(),
            }
        })
        .collect();
    Ok(Results::new(trace.models.clone(), sections))
}

fn run(trace: &Trace, plan: &Plan, task: &Task) -> Result<Run, ConfigError> {
    let course = Course::new(trace, task.stream, task.seed, plan.limit, plan.swap);
    let change = plan
        .swap
        .map(|s| s.at)
        .or(plan.traffic.alphas.last().map(|(at, _)| *at));
    let mut score = Score::new(&course, change);
    let alpha = plan.traffic.mean_alpha(task.alpha, course.len());
    match task.contender {
        Contender::Routed { policy, context } => {
            let models = contender::infos(&trace.models, &trace.mean_joules);
            let sla = SlaConfig {
                name: "default".into(),
                alpha: task.alpha,
            };
            let mut config = RouterConfig::new(*policy, models, vec![sla], task.seed);
            config.knobs.context = *context && plan.context;
            play::play(&course, config, &plan.traffic, &mut score)?;
        }
        Contender::Educated => clairvoyant::educated(&course, alpha, &mut score),
        Contender::StaticMix => clairvoyant::static_mix(&course, alpha, false, &mut score),
        Contender::StaticMixCategory => clairvoyant::static_mix(&course, alpha, true, &mut score),
        Contender::Oracle => clairvoyant::oracle(&course, alpha, &mut score),
        Contender::Logistic => {
            let trained = task
                .trained
                .expect("trained before the runs for every plan that asks for it");
            offline::logistic(&course, trained, alpha, &mut score);
        }
        Contender::Cascade => cascade::cascade(&course, task.alpha, &plan.traffic, &mut score),
    }
    Ok(score.end())
}
