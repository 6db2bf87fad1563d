//! `mess-plus`, the default policy.
//!
//! Score of model m for request r: e(r,m) − λ·ŝ(r,m), the least wins. e is the expected cost in units of the
//! dearest model's mean answer. λ is read from the curve of prices ([`crate::router::price`]) at the target
//! α + b + Q⁺/H − (surplus beyond the reserve)/H′, Q the signed queue ([`crate::router::queue`]) in requests, b what
//! predictions of chosen answers were too high by of late: debts are paid back within H = `repay` requests, at a price
//! that may exceed twice the promise's own the further the greater the debt, and without limit from [`PRESSING_DEBT`];
//! surplus is spent within H′ = `spend`. Where
//! requests are alike a curve has few steps and many targets one price; the reserve then decides on which side of
//! it to stay, so it is built at today's price and never by a dearer one.
//!
//! The reserve is what keeps the end of a stream, whenever it comes, above α: on the step in force the queue drifts
//! down by `room` and wanders by σ² = α(1 − α) a request, so it is distributed about exponentially with scale
//! σ²/(2·room) above its reserve, and `reserve` such scales leave few ends in debt.
//!
//! A model is believed to be near α until it has answered; those between the smallest and the largest are
//! overestimated on purpose until they are known (`optimism`), so that a dear model must be needed, not merely
//! surer. An unknown model gets only as many unjudged answers as could be paid back; where no label ever comes the
//! largest is left.
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
//! Let ŝ⁺ be the most that the curve reaches and q̄ = max{H(ŝ⁺ − α), [`PRESSING_DEBT`]}. Where Q > q̄ the target lies
//! beyond ŝ⁺ and no price is too high: λ is that of the curve's last step, and every request gets the model believed to
//! be the best. Assume: (A1) that choice satisfies with
//! probability ≥ α + δ given the past, δ > 0: the promise is feasible with room δ and the predictor ranks well
//! enough to find it (a model that answers for the sake of learning does so while Q ≤ 0 or is believed to reach α);
//! (A2) |U_t| ≤ u: feedback may be late, but it comes, and at most u requests' worth of prediction error is
//! outstanding; (A3) q̄ lies below `debt`. Let Q° = Q + U be the queue with all labels in; it moves
//! by at most 1 per request. With Y = (Q° − q̄ − u)⁺, Y > 0 implies Q > q̄, hence
//! E(Y²_{t+1}) ≤ E(Y²_t) − 2δE(Y_t) + 1 always; summed over t, the time average of E(Y) is at most 1/(2δ), and from
//! (2)
//!
//! ```text
//! average over t ≤ T of E[D_t]  ≤  q̄ + u + 1/(2δ) + E[forgiven],   (3)
//! ```
//!
//! a constant number of requests: the violation vanishes as 1/T, where Algorithm 1's bound vanishes as 1/√T.
//! (2) is exact and tested as a property; (3) rests on A1 to A3, and is checked by simulation (`streams.rs`). It is
//! loose: once the curve is right the queue stays near −reserve. With feedback missing for good U_T is a sum of
//! prediction errors: calibrated predictions make it grow as √T, which `reserve_spread` keeps in hand as far as
//! `credit` reaches; predictions biased by β make it βT, and no router without labels can know. Where α is out of
//! reach the level is flagged, its debt is bounded by [`HOPELESS_DEBT`], and (3) is void.

use serde::{Deserialize, Serialize};

use super::{Choice, Rules, Sight, Standing, Verdict, World};
use crate::router::adapt::Remap;
use crate::router::draw::Draw;
use crate::router::event::{Context, Decision, Stage};
use crate::router::explore::{self, Candidate, Terms};
use crate::router::learner::Belief;
use crate::router::memory::Remembered;
use crate::router::price::{Curve, DEAREST};
use crate::router::queue::{HOPELESS_DEBT, SignedQueue};
use crate::units::ModelId;

/// Requests over which the price is computed.
const WINDOW: usize = 192;
/// Requests between two computations of the price, at most.
const RESOLVE: u64 = 100;
/// Unseen answers that are asked for before their labels are missed.
const TRUST: f64 = 32.0;
/// Answers of an unknown model that may wait for their judgement whatever the promise.
const FEW: f64 = 3.0;
/// And as many as this times `repay`·(1 − α)²: a request earns at most 1 − α, so that near 1 little can be borne.
const BEARABLE: f64 = 2.15;
/// And as many as this times its judged ones: where half of the labels never come, as many answers stay open as are judged.
const PACE: f64 = 1.0;
/// Requests over which the reserve is built up after a change of the promise.
const BUILD: f64 = 500.0;
/// Debt in requests above which a shortfall of what is reachable is reported.
const DOUBTFUL_DEBT: f64 = 4.0;
/// Labels of a model, and debt in requests, at which optimism about it is half gone or so.
const HOPE_MEMORY: f64 = 150.0;
/// A model is hoped to be better than α by at most this share of what is left to certainty.
const HOPED_ROOM: f64 = 0.25;
const HOPE_DEBT: f64 = 20.0;
/// How much faster debt halves the optimism about the middle models than that about the largest grows.
const SOBERING: f64 = 0.3;
/// A debt makes satisfaction this many times dearer than the promise does, at most, and the more of it the more, until
/// no price is too high: paid back in haste, a first debt would be paid back by the dearest models.
const DEARER: f64 = 2.0;
const PRESSING_DEBT: f64 = 60.0;
const LEAST_PRICE: f64 = 1e-3;
/// Least distance that the promise is believed to keep from what the next better choice reaches.
const LEAST_ROOM: f64 = 0.01;
const BIAS_MEMORY: f64 = 500.0;
const BIAS_SHRINKAGE: f64 = 50.0;
/// The same where the promise is concerned: slower than the queue, which sees every error itself.
const AIM_SHRINKAGE: f64 = 300.0;

/// How far predictions of chosen answers are off: the chosen one tends to be the overrated one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Bias {
    count: f64,
    mean: f64,
}

impl Bias {
    fn add(&mut self, error: f64, weight: f64) {
        self.count = (self.count + weight).clamp(0.0, BIAS_MEMORY);
        if self.count > 1e-9 {
            self.mean += weight * (error - self.mean) / self.count;
        }
    }

    fn correction(&self, shrinkage: f64) -> f64 {
        self.mean * self.count / (self.count + shrinkage)
    }
}

/// One service level.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Level {
    queue: SignedQueue,
    decided: u64,
    unsolved: u64,
    /// What every price buys, as believed when it was last computed; none before the first request.
    #[serde(default)]
    curve: Option<Curve>,
    /// The same without optimism.
    #[serde(default)]
    sober: Curve,
    /// The most that any choice reaches, without optimism.
    #[serde(default)]
    highest: f64,
    /// The promise was changed: the models are known, so the new reserve may take its time.
    #[serde(default)]
    promised_anew: bool,
    /// Requests to stay ahead.
    #[serde(default)]
    reserve: f64,
    /// Joules of the dearest model's mean answer when the price was computed.
    unit: f64,
    hopeless: bool,
    /// The best that is believed to be reachable falls short, and debt has piled up: reported, while debts still count.
    #[serde(default)]
    doubtful: bool,
    bias: Bias,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MessPlus {
    levels: Vec<Level>,
    /// Answers shown that are not judged, per model.
    open: Vec<f64>,
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
            open: vec![0.0; models],
            unseen_asked: 0.0,
            unseen_judged: 0.0,
            spent: 0.0,
            spent_unseen: 0.0,
        }
    }

    pub fn fits(&self, models: usize, slas: usize) -> bool {
        self.levels.len() == slas && self.open.len() == models
    }

    /// Share of unseen answers that get judged, believed to be 1 until enough were asked for.
    fn unseen_yield(&self) -> f64 {
        ((self.unseen_judged + TRUST) / self.unseen_asked.max(TRUST)).min(1.0)
    }

    /// Requests by which the level is behind where it wants to be.
    fn behind(&self, world: &World, sla: usize) -> f64 {
        let (level, knobs) = (&self.levels[sla], &world.config.knobs);
        // Credit is bounded, so a reserve beyond it could never be reached and would cost joules for ever.
        let built = if level.promised_anew {
            (level.decided as f64 / BUILD).min(1.0)
        } else {
            1.0
        };
        let reserve = built * (level.reserve + knobs.reserve_spread * level.queue.uncertainty());
        level.queue.value + reserve.min(0.5 * knobs.credit)
    }

    fn price(&self, world: &World, sla: usize) -> f64 {
        let (level, knobs) = (&self.levels[sla], &world.config.knobs);
        let behind = self.behind(world, sla);
        let alpha = world.config.slas[sla].alpha;
        let curve = match &level.curve {
            Some(curve) => curve,
            None => return DEAREST,
        };
        let debt = level.queue.value.max(0.0);
        // What is promised, in the currency of predictions: who is chosen by what texts tell tends to be overrated.
        let aim = match world.learner.stage() {
            Stage::BaseRates => alpha,
            _ => alpha - level.bias.correction(AIM_SHRINKAGE).min(0.0),
        };
        let base = curve.price(aim + debt / knobs.repay + behind.min(0.0) / knobs.spend);
        let usual = (DEARER * curve.price(aim).max(level.sober.price(aim))).clamp(LEAST_PRICE, DEAREST);
        let most = usual * (DEAREST / usual).powf((debt / PRESSING_DEBT).min(1.0).powf(1.5));
        // Where requests are alike many promises have one price: this side of it the lesser model, beyond it the better.
        (base.min(most) * (1.0 + behind / knobs.patience).clamp(0.5, 2.0)).min(DEAREST)
    }

    /// What a model is taken to satisfy: the middle ones are overestimated on purpose, the less so the better they
    /// are known and the more the level owes. The smallest is cheap enough to be tried anyway; the largest would cost
    /// the most if it were overrated, so only debt speaks for it.
    fn hoped(world: &World, alpha: f64, debt: f64, model: ModelId, belief: &Belief) -> f64 {
        // Near 0 and 1 a debt takes longer to pay back.
        let bearable = HOPE_DEBT * 4.0 * alpha * (1.0 - alpha);
        let debt = debt.max(0.0);
        let optimism = world.config.knobs.optimism;
        if model == world.largest() {
            // A level in debt whose last resort failed a few times must ask it again.
            return (belief.mean + optimism * debt / (debt + bearable) * belief.deviation).min(1.0);
        }
        if model == world.order[0] {
            return belief.mean;
        }
        let known = world.learner.labels(model.index()) as f64 / HOPE_MEMORY;
        let deviations = optimism / ((1.0 + known).sqrt() * (1.0 + SOBERING * debt / bearable));
        // Good enough with some room, not more: hope is no reason to let the smallest answer instead.
        let enough = alpha + HOPED_ROOM * (1.0 - alpha);
        (belief.mean + deviations * belief.deviation).min(enough.max(belief.mean))
    }

    /// Models that may answer, from small to large. While nothing is known of a model and as many of its answers wait
    /// for their judgement as could be paid back if they were bad, neither it nor a smaller one answers: what the
    /// larger ones seem to earn meanwhile is not known either.
    fn allowed<'a>(&self, world: &World<'a>, alpha: f64) -> &'a [ModelId] {
        let knobs = &world.config.knobs;
        let bearable = FEW + BEARABLE * knobs.repay * (1.0 - alpha).powi(2);
        let unknown = |m: &ModelId| {
            let labels = world.learner.labels(m.index());
            labels < u64::from(knobs.warm_labels) && self.open[m.index()] >= bearable + PACE * labels as f64
        };
        let last = world.order.len() - 1;
        let first = world.order[..last]
            .iter()
            .rposition(unknown)
            .map_or(0, |at| at + 1);
        &world.order[first..]
    }

    fn warming(world: &World) -> bool {
        let labels = world
            .order
            .iter()
            .map(|m| world.learner.labels(m.index()))
            .sum::<u64>();
        labels < u64::from(world.config.knobs.warm_labels)
    }

    fn solve(&mut self, world: &World, sla: usize) {
        let same = |r: &&Remembered| r.decision.sla.index() == sla;
        let recent: Vec<_> = world
            .memory
            .newest()
            .filter(same)
            .take(WINDOW)
            .map(|r| &r.decision.context)
            .collect();
        let cost = |model: &ModelId, context: &Context| world.joules(sla, model.index(), context);
        let costs: Vec<Vec<f64>> = recent
            .iter()
            .map(|c| world.order.iter().map(|m| cost(m, c)).collect())
            .collect();
        let count = recent.len().max(1) as f64;
        let mean = |place: usize| costs.iter().map(|row| row[place]).sum::<f64>() / count;
        let unit = (0..world.order.len()).map(mean).fold(f64::MIN_POSITIVE, f64::max);
        let debt = self.levels[sla].queue.value;
        let alpha = world.config.slas[sla].alpha;
        let (mut rows, mut plain, mut highest) = (vec![], vec![], 0.0);
        for (context, costs) in recent.iter().zip(&costs) {
            let beliefs = world
                .order
                .iter()
                .map(|m| world.learner.belief(sla, m.index(), context));
            let (mut best, mut row, mut sober) = (0.0f64, vec![], vec![]);
            for ((m, cost), belief) in world.order.iter().zip(costs).zip(beliefs) {
                best = best.max(belief.mean);
                row.push((cost / unit, Self::hoped(world, alpha, debt, *m, &belief)));
                sober.push((cost / unit, belief.mean));
            }
            rows.push(row);
            plain.push(sober);
            highest += best / count;
        }
        let curve = Curve::of(&rows);
        let knobs = &world.config.knobs;
        let room = (curve.reach(1.5 * curve.price(alpha)) - alpha).max(LEAST_ROOM);
        let largest = world.largest().index();
        let deviation = world.learner.rate(sla, largest).1;
        let known = world.learner.labels(largest) >= u64::from(world.config.knobs.warm_labels);
        let level = &mut self.levels[sla];
        level.reserve = knobs.reserve * (1.0 + alpha * (1.0 - alpha) / (2.0 * room));
        level.doubtful = known && highest < alpha && level.queue.value > DOUBTFUL_DEBT;
        level.hopeless = known && highest + 2.0 * deviation < alpha;
        level.curve = Some(curve);
        level.sober = Curve::of(&plain);
        level.highest = highest;
        level.unit = unit;
        level.unsolved = 0;
    }

    fn closed(&mut self, model: ModelId) {
        let open = &mut self.open[model.index()];
        *open = (*open - 1.0).max(0.0);
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
        let candidates: Vec<Candidate> = self
            .allowed(world, sight.alpha)
            .iter()
            .map(|m| {
                let (cost, belief) = (sight.expected[m.index()] / unit, &beliefs[m.index()]);
                Candidate {
                    model: *m,
                    cost,
                    score: cost - price * Self::hoped(world, sight.alpha, level.queue.value, *m, belief),
                    hope: cost - price * belief.high,
                    presentable: level.queue.value <= 0.0 || belief.mean >= sight.alpha,
                }
            })
            .collect();
        let cheaper = |best: usize, place: usize| candidates[place].score < candidates[best].score;
        let best =
            (1..candidates.len()).fold(0, |best, place| if cheaper(best, place) { place } else { best });
        let rate = explore::rate(knobs.explore_rate, knobs.explore_most, world.learner.settled());
        let terms = Terms {
            // Where nobody judges, asking would teach nothing; close to certainty a bad answer is hard to make good.
            rate: if world.learner.settled() == 0 {
                0.0
            } else {
                rate * (8.0 * sight.alpha * (1.0 - sight.alpha)).min(1.0).powi(2)
            },
            shadow_yield: self.unseen_yield(),
            shadows_allowed: self.spent_unseen <= knobs.explore_budget * self.spent,
            floor: knobs.explore_floor,
        };
        let plan = explore::plan(&candidates, best, &terms, draw);
        let (explored, propensity) = (plan.explores(), plan.propensity);
        let model = plan.serve.unwrap_or(candidates[best].model);
        let credited = beliefs[model.index()].mean + level.bias.correction(BIAS_SHRINKAGE);
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
        }
        self.open[decision.model.index()] += 1.0;
        let level = &mut self.levels[sla];
        level.queue.dispatched(decision.alpha, decision.credited);
        level.decided += 1;
        level.unsolved += 1;
        if level.curve.is_none() || level.unsolved >= RESOLVE.min(8 + level.decided / 8) {
            self.solve(world, sla);
        }
        self.clip(world, sla);
    }

    fn judged(&mut self, world: &World, verdict: &Verdict) {
        let Verdict {
            decision,
            model,
            satisfied,
            withdrawn,
            ..
        } = *verdict;
        let (sla, weight) = (decision.sla.index(), verdict.signed_weight());
        if model != decision.model {
            self.unseen_judged += weight.signum();
            return;
        }
        if verdict.retracted {
            self.open[model.index()] += 1.0;
        } else {
            self.closed(model);
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
        self.closed(decision.model);
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
            reachable: level.curve.as_ref().map(|curve| (curve.lowest, level.highest)),
            feasible: !level.hopeless && !level.doubtful,
            warming,
        }
    }

    fn remap(&mut self, map: &Remap, restart: &[bool]) {
        self.open = map.models(&self.open, |_| 0.0);
        self.levels = map.slas(&self.levels, |_| Level::default());
        for (level, restart) in self.levels.iter_mut().zip(restart) {
            level.curve = None;
            level.unit = 0.0;
            level.unsolved = RESOLVE;
            level.hopeless = false;
            level.doubtful = false;
            if *restart {
                level.decided = 0;
                level.promised_anew = true;
                level.queue = SignedQueue::default();
            }
        }
    }
}
