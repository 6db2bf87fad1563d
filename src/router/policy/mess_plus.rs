//! `mess-plus`, the default policy.
//!
//! Score of model m for request r: e(r,m) − (λ + max(1, λ)·(Q + reserve)/V′)·ŝ(r,m), the least wins. e is the
//! expected cost in units of the dearest model's mean answer, λ the dual price ([`crate::router::price`]), Q
//! the signed queue ([`crate::router::queue`]), V′ a patience in requests. λ does the work, Q corrects what λ
//! gets wrong, so V′ hardly matters. A model may be chosen once it has half of `warm_labels` judged answers; until
//! then it is only asked in order to learn, and the largest model, which always may, answers.
//!
//! # What holds
//!
//! Write D_T for Σ over the first T requests of α − s, the debt in requests; the violation is D_T/T. From
//! inequality (1) of [`crate::router::queue`], with Q_0 = 0 and whatever the predictor does,
//!
//! ```text
//! D_T ≤ Q_T + forgiven + U_T,   U_T = Σ over unjudged requests of ŝ − s.   (2)
//! ```
//!
//! To bound Q_T, assume: (A1) there is a price p̄ below the cap at which every choice, exploring included,
//! satisfies with probability ≥ α + δ given the past, δ > 0: the promise is feasible with room δ and the
//! predictor ranks well enough to find it (while Q > 0 only models believed to reach α are shown for the sake
//! of learning); (A2) |U_t| ≤ u: feedback may be late, but it comes, and at most u requests' worth of
//! prediction error is outstanding. Where Q > V′p̄ ≥ V′(p̄ − λ)/max(1, λ) the price exceeds p̄. Let Q° = Q +
//! U be the queue with all labels in; it moves by at most 1 per request. With Y = (Q° − V′p̄ − u)⁺, Y > 0
//! implies Q > V′p̄, hence E(Y²_{t+1}) ≤ E(Y²_t) − 2δE(Y_t) + 1 always; summed over t, the time average of
//! E(Y) is at most 1/(2δ), and from (2)
//!
//! ```text
//! average over t ≤ T of E[D_t]  ≤  V′p̄ + u + 1/(2δ) + E[forgiven],   (3)
//! ```
//!
//! a constant number of requests: the violation vanishes as 1/T, where Algorithm 1's bound vanishes as 1/√T.
//! (2) is exact and tested as a property; (3) rests on A1 and A2, starts when the warm start ends, and is
//! loose: V′p̄ becomes V′(p̄ − λ)/λ, near 0, once λ has found the price. With feedback missing for good U_T
//! is a sum of prediction errors: calibrated predictions make it grow as √T, which `reserve_spread` keeps in
//! hand as far as `credit` reaches; predictions biased by β make it βT, and no router without labels can
//! know. Where α is out of reach the level is flagged, its debt is bounded by [`HOPELESS_DEBT`], and (3) is
//! void.

use serde::{Deserialize, Serialize};

use super::{Choice, Rules, Sight, Standing, Verdict, World};
use crate::router::adapt::Remap;
use crate::router::draw::Draw;
use crate::router::event::{Context, Decision};
use crate::router::explore::{self, Candidate, Terms};
use crate::router::learner::Belief;
use crate::router::memory::Remembered;
use crate::router::price::{self, DEAREST, Dual};
use crate::router::queue::{HOPELESS_DEBT, SignedQueue};
use crate::router::warm::{self, Waiting};
use crate::units::ModelId;

/// Requests over which the price is computed.
const WINDOW: usize = 192;
/// Requests between two computations of the price, at most.
const RESOLVE: u64 = 100;
/// Unseen answers that are asked for before their labels are missed.
const TRUST: f64 = 32.0;
const BIAS_MEMORY: f64 = 500.0;
const BIAS_SHRINKAGE: f64 = 50.0;

/// How far predictions of chosen answers are off: the chosen one tends to be the overrated one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Bias {
    count: f64,
    mean: f64,
}

impl Bias {
    fn add(&mut self, error: f64, weight: f64) {
        self.count = (self.count + weight).min(BIAS_MEMORY);
        if self.count > 0.0 {
            self.mean += weight * (error - self.mean) / self.count;
        }
    }

    fn correction(&self) -> f64 {
        self.mean * self.count / (self.count + BIAS_SHRINKAGE)
    }
}

/// One service level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Level {
    queue: SignedQueue,
    decided: u64,
    unsolved: u64,
    dual: Option<Dual>,
    /// Joules of the dearest model's mean answer when the price was computed.
    unit: f64,
    hopeless: bool,
    bias: Bias,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MessPlus {
    levels: Vec<Level>,
    /// Times each model was asked in order to learn.
    asked: Vec<u64>,
    unseen_asked: f64,
    unseen_judged: f64,
    /// Expected joules decided on, and those of unseen answers after the warm start.
    spent: f64,
    spent_unseen: f64,
}

impl MessPlus {
    pub fn new(models: usize, slas: usize) -> Self {
        Self {
            levels: vec![Level::default(); slas],
            asked: vec![0; models],
            unseen_asked: 0.0,
            unseen_judged: 0.0,
            spent: 0.0,
            spent_unseen: 0.0,
        }
    }

    pub fn fits(&self, models: usize, slas: usize) -> bool {
        self.levels.len() == slas && self.asked.len() == models
    }

    /// Share of unseen answers that get judged, believed to be 1 until enough were asked for.
    fn unseen_yield(&self) -> f64 {
        ((self.unseen_judged + TRUST) / self.unseen_asked.max(TRUST)).min(1.0)
    }

    fn price(&self, world: &World, sla: usize) -> f64 {
        let (level, knobs) = (&self.levels[sla], &world.config.knobs);
        let base = level.dual.map_or(1.0, |d| d.price);
        // Credit is bounded, so a reserve beyond it could never be reached and would cost joules for ever.
        let reserve =
            (knobs.reserve + knobs.reserve_spread * level.queue.uncertainty()).min(0.5 * knobs.credit);
        (base + base.max(1.0) * (level.queue.value + reserve) / knobs.patience).clamp(0.0, DEAREST)
    }

    /// Models that may be chosen, from small to large.
    fn eligible(world: &World) -> Vec<ModelId> {
        let needed = u64::from(world.config.knobs.warm_labels.div_ceil(2));
        let largest = world.largest();
        let enough = |m: &ModelId| *m == largest || world.learner.labels(m.index()) >= needed;
        world.order.iter().copied().filter(enough).collect()
    }

    /// Models that must still be asked.
    fn waiting(&self, world: &World, expected: &[f64], unit: f64) -> Vec<Waiting> {
        let needed = u64::from(world.config.knobs.warm_labels);
        let largest = world.largest();
        let waits = |m: &ModelId| *m != largest && world.learner.labels(m.index()) < needed;
        let waiting = |model: ModelId| {
            let place = model.index();
            Waiting {
                model,
                asked: self.asked[place],
                cost: expected[place] / unit,
            }
        };
        world.order.iter().copied().filter(waits).map(waiting).collect()
    }

    /// Whether some model may not be chosen yet.
    fn warming(world: &World) -> bool {
        Self::eligible(world).len() < world.order.len()
    }

    fn solve(&mut self, world: &World, sla: usize) {
        let eligible = Self::eligible(world);
        let same = |r: &&Remembered| r.decision.sla.index() == sla;
        let recent: Vec<_> = world
            .memory
            .newest()
            .filter(same)
            .take(WINDOW)
            .map(|r| &r.decision.context)
            .collect();
        let cost = |model: &ModelId, context: &Context| world.costs.expected(sla, model.index(), context);
        let mean = |model| recent.iter().map(|c| cost(model, c)).sum::<f64>() / recent.len().max(1) as f64;
        let unit = world.order.iter().map(mean).fold(f64::MIN_POSITIVE, f64::max);
        let row = |context: &&Context| {
            let entry = |m: &ModelId| {
                (
                    cost(m, context) / unit,
                    world.learner.belief(sla, m.index(), context).mean,
                )
            };
            eligible.iter().map(entry).collect::<Vec<_>>()
        };
        let rows: Vec<_> = recent.iter().map(row).collect();
        let alpha = world.config.slas[sla].alpha;
        let level = &mut self.levels[sla];
        level.dual = price::solve(&rows, alpha);
        level.unit = unit;
        level.unsolved = 0;
        let largest = world.largest().index();
        let deviation = world.learner.rate(sla, largest).1;
        let known = world.learner.labels(largest) >= u64::from(world.config.knobs.warm_labels);
        level.hopeless = known && level.dual.is_some_and(|d| d.highest + 2.0 * deviation < alpha);
    }

    fn clip(&mut self, world: &World, sla: usize) {
        let (knobs, level) = (&world.config.knobs, &mut self.levels[sla]);
        let debt = if level.hopeless { HOPELESS_DEBT } else { knobs.debt };
        level.queue.clip(knobs.credit, debt);
    }
}

impl Rules for MessPlus {
    fn choose(&self, world: &World, sight: &Sight, draw: &mut Draw) -> Choice {
        let (level, knobs) = (&self.levels[sight.sla], &world.config.knobs);
        let count = world.order.len();
        let beliefs: Vec<Belief> = (0..count)
            .map(|m| world.learner.belief(sight.sla, m, sight.context))
            .collect();
        let dearest = sight.expected.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        let unit = if level.unit > 0.0 { level.unit } else { dearest };
        let price = self.price(world, sight.sla);
        let eligible = Self::eligible(world);
        let candidates: Vec<Candidate> = eligible
            .iter()
            .map(|m| {
                let (cost, belief) = (sight.expected[m.index()] / unit, beliefs[m.index()]);
                Candidate {
                    model: *m,
                    cost,
                    score: cost - price * belief.mean,
                    hope: cost - price * belief.high,
                    presentable: level.queue.value <= 0.0 || belief.mean >= sight.alpha,
                }
            })
            .collect();
        let row: Vec<_> = eligible
            .iter()
            .zip(&candidates)
            .map(|(m, c)| (c.cost, beliefs[m.index()].mean))
            .collect();
        let best = price::choose(&row, price);
        let mut waiting = self.waiting(world, sight.expected, unit);
        waiting.retain(|w| w.model != eligible[best]);
        let shown_judged = world.learner.labels(world.largest().index()) > 0;
        let warm = warm::plan(
            &waiting,
            knobs.warm_labels,
            self.unseen_yield(),
            shown_judged,
            draw,
        );
        let plan = warm.unwrap_or_else(|| {
            let terms = Terms {
                rate: explore::rate(knobs.explore_rate, knobs.explore_most, world.learner.settled()),
                shadow_yield: self.unseen_yield(),
                shadows_allowed: self.spent_unseen <= knobs.explore_budget * self.spent,
                floor: knobs.explore_floor,
            };
            explore::plan(&candidates, best, &terms, draw)
        });
        let (explored, propensity) = (plan.explores(), plan.propensity);
        let model = plan.serve.unwrap_or(eligible[best]);
        let credited = beliefs[model.index()].mean + level.bias.correction();
        Choice {
            model,
            explore: plan.unseen,
            explored,
            propensity,
            satisfaction: beliefs.iter().map(|b| b.mean).collect(),
            credited: credited.clamp(0.0, 1.0),
            queue: level.queue.value,
            price,
            stage: world.learner.stage_for(sight.context),
        }
    }

    fn decided(&mut self, world: &World, decision: &Decision) {
        let sla = decision.sla.index();
        let warm = Self::warming(world);
        self.spent += decision.expected[decision.model.index()].0;
        for extra in &decision.explore {
            let joules = decision.expected[extra.index()].0;
            self.spent += joules;
            self.spent_unseen += if warm { 0.0 } else { joules };
            self.unseen_asked += 1.0;
            self.asked[extra.index()] += 1;
        }
        if decision.explored && decision.explore.is_empty() {
            self.asked[decision.model.index()] += 1;
        }
        let level = &mut self.levels[sla];
        level.queue.dispatched(decision.alpha, decision.credited);
        level.decided += 1;
        level.unsolved += 1;
        if level.unsolved >= RESOLVE.min(8 + level.decided / 8) {
            self.solve(world, sla);
        }
        self.clip(world, sla);
    }

    fn judged(&mut self, world: &World, verdict: &Verdict) {
        let Verdict {
            decision,
            model,
            satisfied,
            weight,
            withdrawn,
        } = *verdict;
        let sla = decision.sla.index();
        if model != decision.model {
            self.unseen_judged += 1.0;
            return;
        }
        let level = &mut self.levels[sla];
        level
            .bias
            .add(satisfied - decision.satisfaction[model.index()], weight);
        if !withdrawn {
            level.queue.judged(decision.credited, satisfied, weight);
            self.clip(world, sla);
        }
    }

    fn withdrawn(&mut self, world: &World, decision: &Decision) {
        let sla = decision.sla.index();
        self.levels[sla]
            .queue
            .withdrawn(decision.alpha, decision.credited);
        self.clip(world, sla);
    }

    fn reset(&mut self, sla: usize) {
        self.levels[sla] = Level::default();
    }

    fn standing(&self, world: &World, sla: usize) -> Standing {
        let (level, knobs) = (&self.levels[sla], &world.config.knobs);
        let warming = Self::warming(world);
        Standing {
            queue: level.queue.value,
            v: knobs.patience,
            price: self.price(world, sla),
            explore_rate: explore::rate(knobs.explore_rate, knobs.explore_most, world.learner.settled()),
            reachable: level.dual.map(|d| (d.lowest, d.highest)),
            feasible: !level.hopeless,
            warming,
        }
    }

    fn remap(&mut self, map: &Remap, restart: &[bool]) {
        self.asked = map.models(&self.asked, |_| 0);
        self.levels = map.slas(&self.levels, |_| Level::default());
        for (level, restart) in self.levels.iter_mut().zip(restart) {
            level.dual = None;
            level.unit = 0.0;
            level.unsolved = RESOLVE;
            level.hopeless = false;
            if *restart {
                level.queue = SignedQueue::default();
            }
        }
    }
}
