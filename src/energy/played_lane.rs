//! A lane played in virtual time: three models take turns, batches of up to 16 rows, prompts in chunks beside answers
//! under way, bursts and pauses. Every step's joules follow a known law, so every request's true joules are known.

use std::collections::BTreeMap;

use super::records::{Account, StepRecord, StepRow};
use super::test_world::Chance;
use crate::units::{DeviceId, ModelId, Moment, RequestId};

/// One model's true law: joules per prefill token, step, decoded token and context token.
pub(super) const TRUE_LAWS: [[f64; 4]; 3] = [
    [0.0016, 0.55, 0.012, 1.1e-5],
    [0.011, 2.6, 0.055, 4.5e-5],
    [0.085, 7.5, 0.30, 2.4e-4],
];
/// Seconds per prefill token and step, by model.
const TRUE_TIMES: [[f64; 2]; 3] = [[4e-6, 0.0045], [2.4e-5, 0.009], [1.7e-4, 0.0175]];
/// Requests a second while each model is alone.
const WARMING_RATE: f64 = 16.0;
const WARMING_ANSWER: u64 = 24;
/// Seconds that are watched after the last step: longer than a gap takes to be told and a mean to run out.
const AFTERWARDS: f64 = 6.0;
/// Prompt tokens of one step.
const BUDGET: u32 = 512;

/// What the lane is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Traffic {
    pub(super) seed: u64,
    /// The first request comes here.
    pub(super) begin: f64,
    /// Before the mixture each model runs alone for so long, as when a server warms it up.
    pub(super) alone: f64,
    /// The last request comes here.
    pub(super) seconds: f64,
    /// Bursts a second, their requests on average, and how many models they are spread over.
    pub(super) rate: f64,
    pub(super) burst: u64,
    /// Nothing comes in the last so many seconds of every so many.
    pub(super) pause: (f64, f64),
    /// Tokens of an answer, on average, and the longest prompt.
    pub(super) answer: u64,
    pub(super) prompt: u64,
    /// A step's energy is off its law by this deviation, relative.
    pub(super) noise: f64,
}

impl Traffic {
    /// Conversations of some seconds.
    pub(super) const LONG: Self = Self {
        seed: 1,
        begin: 0.4,
        alone: 4.0,
        seconds: 150.0,
        rate: 2.0,
        burst: 2,
        pause: (3.0, 20.0),
        answer: 150,
        prompt: 800,
        noise: 0.02,
    };
}

/// A run of the lane with its true energies.
pub(super) struct PlayedLane {
    pub(super) steps: Vec<StepRecord>,
    /// True joules per step, idle apart.
    pub(super) joules: Vec<f64>,
    pub(super) truth: BTreeMap<RequestId, f64>,
    pub(super) lives: BTreeMap<RequestId, (Moment, Moment)>,
    pub(super) end: Moment,
}

struct Live {
    id: RequestId,
    model: usize,
    prompt: u32,
    done: u32,
    left: u32,
}

impl PlayedLane {
    pub(super) fn new(traffic: &Traffic) -> Self {
        let mut chance = Chance(traffic.seed);
        let mut lane = Self {
            steps: vec![],
            joules: vec![],
            truth: BTreeMap::new(),
            lives: BTreeMap::new(),
            end: Moment(0),
        };
        let mixed = traffic.begin + 3.0 * traffic.alone;
        let (mut now, mut next, mut count, mut turn) = (traffic.begin, traffic.begin, 0u64, 0usize);
        let mut live: Vec<Live> = vec![];
        while now < traffic.seconds || !live.is_empty() {
            while next <= now && next < traffic.seconds {
                let warming = (next < mixed).then(|| ((next - traffic.begin) / traffic.alone) as usize);
                let together = if warming.is_some() {
                    1
                } else {
                    1 + chance.below(2 * traffic.burst - 1)
                };
                for _ in 0..together {
                    count += 1;
                    live.push(request(count, warming, traffic, &mut chance));
                }
                let rate = if warming.is_some() {
                    WARMING_RATE
                } else {
                    traffic.rate
                };
                next += -(1.0 - chance.unit()).ln() / rate;
                let (pause, every) = traffic.pause;
                if warming.is_none() && next % every > every - pause {
                    next = (next / every).ceil() * every;
                }
            }
            turn += 1;
            let busy = |m: &usize| live.iter().any(|l| l.model == *m);
            let Some(model) = (0..3).map(|m| (m + turn) % 3).find(busy) else {
                now = next;
                continue;
            };
            now += lane.step(model, now, &mut live, &mut chance, traffic.noise);
            live.retain(|l| l.left > 0);
        }
        lane.end = lane
            .steps
            .last()
            .map_or(Moment(0), |step| step.end)
            .plus_seconds(AFTERWARDS);
        lane
    }

    fn step(&mut self, model: usize, now: f64, live: &mut [Live], chance: &mut Chance, noise: f64) -> f64 {
        let mut budget = BUDGET;
        let mut rows = vec![];
        let mut shares = vec![];
        let law = TRUE_LAWS[model];
        for l in live.iter_mut().filter(|l| l.model == model).take(16) {
            let prefill = (l.prompt - l.done.min(l.prompt)).min(budget);
            budget -= prefill;
            let decode = u32::from(l.done >= l.prompt);
            if prefill + decode == 0 {
                continue;
            }
            l.done += prefill + decode;
            l.left -= decode;
            rows.push(StepRow {
                account: Account::Request(l.id),
                prefill_tokens: prefill,
                decode_tokens: decode,
                context: l.done,
            });
            let own = law[0] * f64::from(prefill) + law[2] * f64::from(decode) + law[3] * f64::from(l.done);
            shares.push((l.id, own));
        }
        let prefill: u32 = rows.iter().map(|r| r.prefill_tokens).sum();
        let [per_token, per_step] = TRUE_TIMES[model];
        let seconds = (per_step + per_token * f64::from(prefill)) * (1.0 + 0.05 * chance.unit());
        let factor = 1.0 + noise * chance.normal();
        let (start, end) = (Moment(0).plus_seconds(now), Moment(0).plus_seconds(now + seconds));
        let mut total = 0.0;
        for (id, own) in &shares {
            let joules = (own + law[1] / shares.len() as f64) * factor;
            total += joules;
            *self.truth.entry(*id).or_default() += joules;
            self.lives.entry(*id).or_insert((start, end)).1 = end;
        }
        self.joules.push(total);
        self.steps.push(StepRecord {
            device: DeviceId(0),
            model: ModelId(model as u16),
            start,
            end,
            rows,
        });
        seconds + 2e-4 * chance.unit()
    }
}

fn request(count: u64, warming: Option<usize>, traffic: &Traffic, chance: &mut Chance) -> Live {
    let answer = if warming.is_some() {
        WARMING_ANSWER
    } else {
        traffic.answer
    };
    let left = 1 + (answer / 2 + chance.below(answer)) as u32;
    let prompt = 20 + chance.below(traffic.prompt) as u32;
    let model = warming.unwrap_or(chance.below(3) as usize);
    Live {
        id: RequestId(count),
        model,
        prompt,
        done: 0,
        left,
    }
}
