//! One measurement: a batch of requests sent together, as often as the meter needs to tell, and what it came to.

use std::sync::Arc;
use std::time::Duration;

use super::grid::Cell;
use super::steps::{StepCount, StepWatch};
use crate::energy::{Account, DeviceEnergy, EnergyHandle, RequestEnergy};
use crate::engine::{Engine, EngineError, Event, Job, ModelFacts, Outcome, Sampling};
use crate::units::{DeviceId, Joules, Microjoules, RequestId, TokenId, Watts};

/// A repeat spans at least so many changes of the counter, so that its two ends weigh little.
const LEAST_TICKS: f64 = 10.0;
/// And at least this long, so that a scheduler's hiccup weighs little.
const LEAST_SECONDS: f64 = 0.25;
/// An end token less likely than this is never drawn: answers are as long as they are meant to be.
const FORBIDDEN: f32 = -1e9;

/// Why a measurement could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    #[error("{cell}: {source}")]
    Engine { cell: Cell, source: EngineError },
    #[error("{cell}: its joules were never told")]
    Unsettled { cell: Cell },
    #[error("{cell}: an answer ended after {got} tokens of {wanted}")]
    Short { cell: Cell, got: u32, wanted: usize },
    #[error("the meter of {device} is gone")]
    NoMeter { device: String },
}

/// What one repeat came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    pub joules_per_request: Joules,
    /// Over the tokens that were really computed.
    pub prefill_per_token: Joules,
    /// Over the tokens after the first, which comes with the prompt; `None` when there are none.
    pub decode_per_token: Option<Joules>,
    /// Of the whole device, idle included.
    pub watts: Watts,
    /// Of all answers together.
    pub tokens_per_second: f64,
    pub time_to_first_token: Duration,
    /// Between two tokens of an answer; `None` for answers of one token.
    pub inter_token: Option<Duration>,
    /// The meter was away for a part of it, so that its joules are partly guessed.
    pub has_gap: bool,
}

/// A repeat with what the plots need of it.
pub struct Repeat {
    pub sample: Sample,
    /// From sending the first request to the last token, without the wait for the meter.
    pub lasted: Duration,
    pub steps: StepCount,
}

/// The engine under measurement, its prefix cache off: a prompt found there would cost nothing.
pub struct Bench {
    pub engine: Engine,
    pub energy: EnergyHandle,
    pub steps: Arc<StepWatch>,
}

/// The answers of one batch.
struct Round {
    outcomes: Vec<Outcome>,
    energies: Vec<RequestEnergy>,
}

impl Bench {
    pub fn facts(&self, model: &str) -> Option<&ModelFacts> {
        self.engine.models().iter().find(|facts| facts.name == model)
    }

    pub async fn device(&self, device: DeviceId, name: &str) -> Result<DeviceEnergy, BenchError> {
        let devices = self.energy.devices().await;
        let found = devices.into_iter().find(|d| d.device == device);
        found.ok_or_else(|| BenchError::NoMeter {
            device: name.to_owned(),
        })
    }

    /// Mean power of a device over at least `lasting`, by settled readings alone.
    pub async fn watts_over(
        &self,
        device: DeviceId,
        name: &str,
        lasting: Duration,
    ) -> Result<Watts, BenchError> {
        let before = self.device(device, name).await?;
        let ticks = before.tick_seconds.map_or(0.0, |tick| LEAST_TICKS * tick);
        tokio::time::sleep(lasting.max(Duration::from_secs_f64(ticks))).await;
        let after = self.device(device, name).await?;
        Ok(mean_watts(&before, &after))
    }

    /// How many rounds a repeat takes, given how long one round took.
    pub fn rounds(&self, round: Duration, device: &DeviceEnergy) -> usize {
        let ticks = device.tick_seconds.map_or(0.0, |tick| LEAST_TICKS * tick);
        let seconds = round.as_secs_f64().max(1e-4);
        (ticks.max(LEAST_SECONDS) / seconds).ceil().clamp(1.0, 10_000.0) as usize
    }

    /// Runs a cell `rounds` times in a row. `seed` decides the prompts.
    pub async fn repeat(
        &self,
        cell: &Cell,
        facts: &ModelFacts,
        rounds: usize,
        seed: u64,
    ) -> Result<Repeat, BenchError> {
        let before = self.device(facts.device, &facts.device_name).await?;
        self.steps.take();
        let (mut answers, mut seconds) = (Vec::new(), 0.0);
        for round in 0..rounds {
            let asked = std::time::Instant::now();
            answers.push(self.round(cell, facts, seed.wrapping_add(round as u64)).await?);
            seconds += asked.elapsed().as_secs_f64();
        }
        let (outcomes, energies) = self.settle(cell, answers).await?;
        let steps = self.steps.take();
        let after = self.device(facts.device, &facts.device_name).await?;
        let round = Round { outcomes, energies };
        Ok(Repeat {
            sample: round.sample(&steps, seconds, &before, &after),
            lasted: Duration::from_secs_f64(seconds),
            steps,
        })
    }

    /// One batch; gives the requests and how they ended.
    async fn round(
        &self,
        cell: &Cell,
        facts: &ModelFacts,
        seed: u64,
    ) -> Result<Vec<(RequestId, Outcome)>, BenchError> {
        let failed = |source| BenchError::Engine {
            cell: cell.clone(),
            source,
        };
        let mut streams = Vec::new();
        for place in 0..cell.batch {
            let id = RequestId::fresh();
            let job = job(
                cell,
                facts,
                id,
                seed.wrapping_mul(1_000_003).wrapping_add(place as u64),
            );
            streams.push((id, self.engine.submit(job).map_err(failed)?));
        }
        let mut outcomes = Vec::new();
        for (id, mut stream) in streams {
            let outcome = loop {
                match stream.recv().await {
                    Some(Event::Done(outcome)) => break outcome,
                    Some(Event::Failed(error)) => return Err(failed(error)),
                    Some(Event::Text { .. }) => {}
                    None => return Err(failed(EngineError::ShuttingDown)),
                }
            };
            self.energy.finished(id);
            if outcome.completion_tokens as usize != cell.output_tokens {
                return Err(BenchError::Short {
                    cell: cell.clone(),
                    got: outcome.completion_tokens,
                    wanted: cell.output_tokens,
                });
            }
            outcomes.push((id, outcome));
        }
        Ok(outcomes)
    }

    async fn settle(
        &self,
        cell: &Cell,
        rounds: Vec<Vec<(RequestId, Outcome)>>,
    ) -> Result<(Vec<Outcome>, Vec<RequestEnergy>), BenchError> {
        let (mut outcomes, mut energies) = (Vec::new(), Vec::new());
        for (id, outcome) in rounds.into_iter().flatten() {
            let energy = self.energy.settled(id).await.filter(|energy| energy.is_final);
            energies.push(energy.ok_or_else(|| BenchError::Unsettled { cell: cell.clone() })?);
            outcomes.push(outcome);
        }
        Ok((outcomes, energies))
    }
}

impl Round {
    fn sample(&self, steps: &StepCount, seconds: f64, before: &DeviceEnergy, after: &DeviceEnergy) -> Sample {
        let requests = self.outcomes.len() as f64;
        let sum = |of: fn(&RequestEnergy) -> Joules| self.energies.iter().map(|e| of(e).0).sum::<f64>();
        let (prefill, decode) = (sum(|e| e.prefill), sum(|e| e.decode));
        let tokens: u64 = self.outcomes.iter().map(|o| u64::from(o.completion_tokens)).sum();
        let first = self
            .outcomes
            .iter()
            .map(|o| o.timing.first_token)
            .sum::<Duration>();
        let waits: u64 = self
            .outcomes
            .iter()
            .map(|o| u64::from(o.completion_tokens) - 1)
            .sum();
        let waiting = self
            .outcomes
            .iter()
            .map(|o| o.timing.total.saturating_sub(o.timing.first_token));
        let waiting = waiting.sum::<Duration>().as_secs_f64();
        Sample {
            joules_per_request: Joules((prefill + decode) / requests),
            prefill_per_token: Joules(prefill / steps.prefill_tokens.max(1) as f64),
            decode_per_token: (steps.decode_tokens > 0).then(|| Joules(decode / steps.decode_tokens as f64)),
            watts: mean_watts(before, after),
            tokens_per_second: tokens as f64 / seconds,
            time_to_first_token: first.div_f64(requests),
            inter_token: (waits > 0).then(|| Duration::from_secs_f64(waiting / waits as f64)),
            has_gap: self.energies.iter().any(|e| e.source != after.source)
                || after.gap_seconds > before.gap_seconds,
        }
    }
}

/// Mean power between two looks at a device; 0 when nothing was settled between them.
pub fn mean_watts(before: &DeviceEnergy, after: &DeviceEnergy) -> Watts {
    let seconds = after.as_of.seconds_since(before.as_of);
    let energy = Microjoules(after.measured.0.saturating_sub(before.measured.0));
    Watts(if seconds > 0.0 {
        energy.joules().0 / seconds
    } else {
        0.0
    })
}

/// A greedy answer of exactly the cell's length to a prompt of random tokens.
fn job(cell: &Cell, facts: &ModelFacts, id: RequestId, seed: u64) -> Job {
    Job {
        account: Account::Request(id),
        model: facts.id,
        prompt: prompt(cell.prompt_tokens, facts, seed),
        max_tokens: cell.output_tokens as u32,
        sampling: Sampling {
            temperature: 0.0,
            logit_bias: facts.end_tokens.iter().map(|token| (*token, FORBIDDEN)).collect(),
            ..Sampling::default()
        },
        stop: Vec::new(),
        logprobs: None,
        constraint: None,
    }
}

/// Tokens drawn evenly from the vocabulary, those that end an answer left out.
fn prompt(tokens: usize, facts: &ModelFacts, seed: u64) -> Vec<TokenId> {
    let mut state = seed;
    let mut draw = || {
        // SplitMix64 (Steele, Lea and Flood 2014).
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        TokenId(((z ^ (z >> 31)) % facts.vocabulary.max(1) as u64) as u32)
    };
    let lasts = facts.end_tokens.len() < facts.vocabulary;
    (0..tokens)
        .map(|_| {
            let mut token = draw();
            while lasts && facts.end_tokens.contains(&token) {
                token = draw();
            }
            token
        })
        .collect()
}
