//! What the tests of this room play with: a chance generator, a scripted meter, and a world with a known truth.

use std::collections::BTreeMap;
use std::future::Future;

use super::meter::{Meter, MeterError, Reading};
use super::records::{Account, StepRecord, StepRow};
use super::report::Source;
use crate::units::{Clock, DeviceId, Microjoules, ModelId, Moment, RequestId};

/// A small seeded generator (SplitMix64, Steele et al. 2014).
pub(super) struct Chance(pub(super) u64);

impl Chance {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub(super) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Normal with mean 0 and deviation 1, near enough: twelve uniforms.
    pub(super) fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }
}

pub(super) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
        .block_on(future)
}

/// A meter by the real clock: constant watts, and as much again while a recorded step ran.
pub(super) struct FakeMeter {
    watts: f64,
    worked: f64,
    tick: Option<f64>,
    clock: Clock,
}

impl FakeMeter {
    pub(super) fn instant(watts: f64, clock: Clock) -> Self {
        Self {
            watts,
            worked: 0.0,
            tick: None,
            clock,
        }
    }

    pub(super) fn ticking(watts: f64, tick: f64, clock: Clock) -> Self {
        Self {
            watts,
            worked: 0.0,
            tick: Some(tick),
            clock,
        }
    }
}

impl Meter for FakeMeter {
    fn source(&self) -> Source {
        if self.tick.is_some() {
            Source::Nvml
        } else {
            Source::Rapl
        }
    }

    fn describe(&self) -> String {
        "scripted".into()
    }

    fn observe(&mut self, step: &StepRecord) {
        self.worked += step.end.seconds_since(step.start);
    }

    fn read(&mut self, _now: Moment) -> Result<Reading, MeterError> {
        let seconds = self.clock.now().0 as f64 * 1e-9 + self.worked;
        let shown = self.tick.map_or(seconds, |tick| (seconds / tick).floor() * tick);
        Ok(Reading {
            counter: Microjoules((shown * self.watts * 1e6) as u64),
            power: None,
        })
    }

    fn reads_are_instant(&self) -> bool {
        self.tick.is_none()
    }
}

/// One model's true law: joules per prefill token, step, decoded token and context token.
pub(super) const TRUE_LAWS: [[f64; 4]; 3] = [
    [0.0016, 0.55, 0.012, 1.1e-5],
    [0.011, 2.6, 0.055, 4.5e-5],
    [0.085, 7.5, 0.30, 2.4e-4],
];
/// Seconds per prefill token and step, by model.
const TRUE_TIMES: [[f64; 2]; 3] = [[4e-6, 0.0045], [2.4e-5, 0.009], [1.7e-4, 0.0175]];

/// A run of a lane with its true energies.
pub(super) struct World {
    pub(super) steps: Vec<StepRecord>,
    /// True joules per step, idle apart.
    pub(super) joules: Vec<f64>,
    pub(super) truth: BTreeMap<RequestId, f64>,
    pub(super) lives: BTreeMap<RequestId, (Moment, Moment)>,
    pub(super) tokens: BTreeMap<RequestId, f64>,
    pub(super) end: Moment,
}

struct Live {
    id: RequestId,
    model: usize,
    prompt: u32,
    done: u32,
    left: u32,
}

impl World {
    /// Three models on one lane for `seconds`, requests arriving at `rate` a second, answers of `answer` tokens on
    /// average, a step's energy `noise` (relative) off its law. Before that each model runs alone for `alone` seconds,
    /// as when a server warms it up.
    pub(super) fn new(seed: u64, alone: f64, seconds: f64, rate: f64, answer: u64, noise: f64) -> Self {
        let mut chance = Chance(seed);
        let mut world = Self {
            steps: vec![],
            joules: vec![],
            truth: BTreeMap::new(),
            lives: BTreeMap::new(),
            tokens: BTreeMap::new(),
            end: Moment(0),
        };
        let (mut now, mut next_arrival, mut count, mut turn) = (2.0, 2.0, 0u64, 0usize);
        let mut live: Vec<Live> = vec![];
        while now < seconds {
            while next_arrival <= now {
                let rate = if now < 2.0 + 3.0 * alone { 16.0 } else { rate };
                next_arrival += -(1.0 - chance.unit()).ln() / rate;
                count += 1;
                let warming = (alone > 0.0)
                    .then(|| ((next_arrival - 2.0) / alone) as usize)
                    .filter(|m| *m < 3);
                let answer = if warming.is_some() { 24 } else { answer };
                let left = 1 + (answer / 2 + chance.below(answer)) as u32;
                let prompt = 20 + chance.below(800) as u32;
                let model = warming.unwrap_or(chance.below(3) as usize);
                live.push(Live {
                    id: RequestId(count),
                    model,
                    prompt,
                    done: 0,
                    left,
                });
            }
            turn += 1;
            let Some(model) = (0..3)
                .map(|m| (m + turn) % 3)
                .find(|m| live.iter().any(|l| l.model == *m))
            else {
                now = next_arrival;
                continue;
            };
            now += world.step(model, now, &mut live, &mut chance, noise);
            live.retain(|l| l.left > 0);
        }
        world.end = Moment(0).plus_seconds(now + 3.0);
        world
    }

    fn step(&mut self, model: usize, now: f64, live: &mut [Live], chance: &mut Chance, noise: f64) -> f64 {
        let mut budget = 512;
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
            let account = Account::Request(l.id);
            rows.push(StepRow {
                account,
                prefill_tokens: prefill,
                decode_tokens: decode,
                context: l.done,
            });
            let own = law[0] * f64::from(prefill) + law[2] * f64::from(decode) + law[3] * f64::from(l.done);
            shares.push((l.id, own, f64::from(prefill + decode)));
        }
        let prefill: u32 = rows.iter().map(|r| r.prefill_tokens).sum();
        let [per_token, per_step] = TRUE_TIMES[model];
        let seconds = (per_step + per_token * f64::from(prefill)) * (1.0 + 0.05 * chance.unit());
        let factor = 1.0 + noise * chance.normal();
        let (start, end) = (Moment(0).plus_seconds(now), Moment(0).plus_seconds(now + seconds));
        let mut total = 0.0;
        for (id, own, tokens) in &shares {
            let joules = (own + law[1] / shares.len() as f64) * factor;
            total += joules;
            *self.truth.entry(*id).or_default() += joules;
            *self.tokens.entry(*id).or_default() += tokens;
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

    /// True energy from the beginning to each of the rising `moments`, steps drawing even power, idle watts given by
    /// their integral.
    pub(super) fn energy_at(&self, moments: &[f64], idle: impl Fn(f64) -> f64) -> Vec<f64> {
        let (mut place, mut before) = (0, 0.0);
        moments
            .iter()
            .map(|&t| {
                while place < self.steps.len() && self.steps[place].end.0 as f64 * 1e-9 <= t {
                    before += self.joules[place];
                    place += 1;
                }
                let running = self.steps.get(place).map_or(0.0, |s| {
                    let (start, end) = (s.start.0 as f64 * 1e-9, s.end.0 as f64 * 1e-9);
                    ((t - start) / (end - start)).clamp(0.0, 1.0) * self.joules[place]
                });
                before + running + idle(t)
            })
            .collect()
    }
}
