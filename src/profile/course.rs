//! The course of a profiling run: what is left to do, in order, each setting repeated until its mean is known well
//! enough.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::bench::{Bench, BenchError, Repeat, Sample};
use super::grid::Cell;
use super::partial::{Partial, PartialError};
use super::power::{PowerTrace, PowerWatch};
use super::record::{Idle, Row};
use crate::statistics::Spread;
use crate::units::{Joules, Watts};

/// Repeats before an interval is believed.
const LEAST_REPEATS: usize = 3;
/// A setting is done when half of its interval is at most this share of the mean joules of a request.
const TIGHT: f64 = 0.05;
/// Repeats that fell into a gap of the meter are made again, so many times in a row.
const MOST_GAPS: usize = 3;
/// Quiet before and after the settings of each model.
const IDLE: Duration = Duration::from_secs(2);
/// How long work and rests alternate at most until it is known how late a meter shows what was spent. Until then the end
/// of every burst would be booked as idle.
const LEARNING: Duration = Duration::from_secs(60);

/// Why a run ended early.
#[derive(Debug, thiserror::Error)]
pub enum CourseError {
    #[error(transparent)]
    Bench(#[from] BenchError),
    #[error(transparent)]
    Partial(#[from] PartialError),
    #[error("{cell}: the meter was away in {MOST_GAPS} repeats in a row, so its joules cannot be told")]
    Gaps { cell: Cell },
    #[error("interrupted")]
    Interrupted,
}

/// How far a run is.
#[derive(Clone, Debug)]
pub struct Progress<'a> {
    pub cell: &'a Cell,
    /// Settings finished, earlier runs included, and all of them.
    pub done: usize,
    pub total: usize,
    /// Repeats of the present setting so far, and at most.
    pub repeats: usize,
    pub most_repeats: usize,
    /// Mean joules of a request and half of its interval as a share of it, from the second repeat on.
    pub so_far: Option<(Joules, f64)>,
}

/// A run.
pub struct Course<'a> {
    pub bench: &'a Bench,
    pub cells: &'a [Cell],
    /// Repeats of one setting at most.
    pub most_repeats: usize,
    /// Set when the run is to stop after the present repeat.
    pub stop: &'a AtomicBool,
    pub progress: &'a (dyn Fn(&Progress) + Sync),
}

impl Course<'_> {
    /// Measures what `partial` does not hold yet. Every finished setting is in it, on the disk, before the next begins.
    pub async fn run(&self, partial: &mut Partial) -> Result<(), CourseError> {
        for of_model in self.cells.chunk_by(|a, b| a.model == b.model) {
            let left: Vec<Cell> = of_model
                .iter()
                .filter(|cell| !partial.has(cell))
                .cloned()
                .collect();
            if left.is_empty() {
                continue;
            }
            let model = &left[0].model;
            self.learn_lag(&left[0]).await?;
            let before = self.idle(model).await?;
            // Power over time is drawn for the setting that is fullest.
            let fullest = of_model.last();
            for cell in &left {
                let (row, trace) = self
                    .cell(cell, partial.rows().count(), fullest == Some(cell))
                    .await?;
                partial.add_row(row)?;
                if let Some(trace) = trace {
                    partial.add_trace(trace)?;
                }
            }
            let after = self.idle(model).await?;
            partial.add_idle(Idle {
                model: model.clone(),
                before_watts: before,
                after_watts: after,
            })?;
        }
        Ok(())
    }

    /// Lets the energy thread find its meter's lag, on a setting that is to be measured anyway.
    async fn learn_lag(&self, cell: &Cell) -> Result<(), CourseError> {
        let facts = self
            .bench
            .facts(&cell.model)
            .expect("cells are made of the engine's models");
        let begun = Instant::now();
        let mut round = None;
        for seed in 0.. {
            let device = self.bench.device(facts.device, &facts.device_name).await?;
            if device.lag_is_found || begun.elapsed() > LEARNING {
                break;
            }
            self.go_on()?;
            let rounds = round.map_or(1, |round| self.bench.rounds(round, &device));
            let burst = self.bench.repeat(cell, facts, rounds, seed).await?;
            round = Some(burst.lasted.div_f64(rounds as f64));
            // A rest as long as the work: the edges between them are what a lag shows in.
            tokio::time::sleep(burst.lasted).await;
        }
        Ok(())
    }

    async fn idle(&self, model: &str) -> Result<Watts, CourseError> {
        self.go_on()?;
        let facts = self
            .bench
            .facts(model)
            .expect("cells are made of the engine's models");
        Ok(self
            .bench
            .watts_over(facts.device, &facts.device_name, IDLE)
            .await?)
    }

    async fn cell(
        &self,
        cell: &Cell,
        done: usize,
        traced: bool,
    ) -> Result<(Row, Option<PowerTrace>), CourseError> {
        let facts = self
            .bench
            .facts(&cell.model)
            .expect("cells are made of the engine's models");
        let show = |samples: &[Sample]| {
            let spread = joules(samples);
            (self.progress)(&Progress {
                cell,
                done,
                total: self.cells.len(),
                repeats: samples.len(),
                most_repeats: self.most_repeats,
                so_far: (samples.len() > 1)
                    .then(|| (Joules(spread.mean), spread.ci95 / spread.mean.max(1e-12))),
            });
        };
        show(&[]);
        // The first batch meets cold memory and tells how long one takes; the second is as the others will be.
        let mut round = Duration::ZERO;
        for warm_up in 0..2 {
            self.go_on()?;
            round = self.bench.repeat(cell, facts, 1, warm_up).await?.lasted;
        }
        let device = self.bench.device(facts.device, &facts.device_name).await?;
        let rounds = self.bench.rounds(round, &device);
        let mut samples: Vec<Sample> = Vec::new();
        let mut gaps = 0;
        while samples.len() < self.most_repeats && !(samples.len() >= LEAST_REPEATS && is_tight(&samples)) {
            self.go_on()?;
            let seed = 1_000 * (samples.len() + gaps + 1) as u64;
            let Repeat { sample, .. } = self.bench.repeat(cell, facts, rounds, seed).await?;
            if sample.has_gap {
                gaps += 1;
                if gaps == MOST_GAPS {
                    return Err(CourseError::Gaps { cell: cell.clone() });
                }
                continue;
            }
            gaps = 0;
            samples.push(sample);
            show(&samples);
        }
        let mut trace = None;
        if traced {
            // A repeat of its own: looking at the meter so often would weigh on one that counts.
            let watch = PowerWatch::start(self.bench.energy.clone(), facts.device).await;
            let repeat = self.bench.repeat(cell, facts, rounds, 0).await?;
            trace = Some(watch.end(cell, repeat.steps).await);
        }
        Ok((Row::of(cell, facts, rounds, &samples), trace))
    }

    fn go_on(&self) -> Result<(), CourseError> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(CourseError::Interrupted);
        }
        Ok(())
    }
}

fn joules(samples: &[Sample]) -> Spread {
    Spread::of(&samples.iter().map(|s| s.joules_per_request.0).collect::<Vec<_>>())
}

fn is_tight(samples: &[Sample]) -> bool {
    let spread = joules(samples);
    spread.ci95 <= TIGHT * spread.mean
}
