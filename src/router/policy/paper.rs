//! `paper`: Algorithm 1 of MESS+ (arXiv 2505.19947) to the letter.
//!
//! ```text
//! p_t = min(1, c / t^(1/4)),  X_t ~ Bernoulli(p_t)
//! X_t = 1 or t = 1:  every model is queried, one SGD step on each true s, the largest model answers
//! otherwise:         m* = argmin_m V·E_m + Q_t·(α − ŝ_m)
//! Q_{t+1} = max(0, Q_t + α − s(m*, t))
//! ```
//!
//! Where the paper leaves a choice: E_m is the running mean of measured joules (as in the authors' server),
//! ties go to the smallest model, a request without feedback skips the queue update only, late feedback steps
//! the queue when it comes. The predictor is the paper's network where texts come with an embedding; a linear one on
//! hashed n-grams where they do not; where the router may not see texts, it is what minimises the paper's objective
//! without any: each model's mean over the explored answers.
//!
//! Theorem 1 of the paper: E(Q_t) ≤ max{αψ, VΔE/β} + √t, once after ψ steps the predictor finds a model that
//! satisfies with probability above α whenever Q is large enough.

use serde::{Deserialize, Serialize};

use super::{Choice, Rules, Sight, Standing, Verdict, World};
use crate::router::adapt::Remap;
use crate::router::draw::Draw;
use crate::router::event::{Context, Decision, Stage};
use crate::router::logistic::Plain;
use crate::router::mlp::Mlp;
use crate::router::queue::PaperQueue;
use crate::units::ModelId;

/// The paper's momentum. The linear heads' step is taken at once in its whole length, rate/(1 − momentum), which is what momentum
/// makes of a gradient in the end: a linear predictor of few samples has nothing to average.
const MOMENTUM: f64 = 0.9;

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Level {
    decided: u64,
    queue: PaperQueue,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Paper {
    levels: Vec<Level>,
    heads: Vec<Plain>,
    /// From the first label on a text with an embedding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    network: Option<Mlp>,
    /// Explored answers and the satisfied ones among them, per model.
    seen: Vec<(f64, f64)>,
}

impl Paper {
    pub fn new(models: usize, slas: usize) -> Self {
        Self {
            levels: vec![Level::default(); slas],
            heads: vec![Plain::default(); models],
            network: None,
            seen: vec![(0.0, 0.0); models],
        }
    }

    pub fn fits(&self, models: usize, slas: usize) -> bool {
        self.levels.len() == slas
            && self.heads.len() == models
            && self.network.as_ref().is_none_or(|network| network.fits(models))
            && self.seen.len() == models
    }

    /// ŝ per model, and who says so.
    fn satisfaction(&self, world: &World, context: &Context) -> (Vec<f64>, Stage) {
        let network = self.network.as_ref().filter(|_| world.config.knobs.context);
        if let Some(said) = network.and_then(|network| network.predict(context.embedding.as_ref())) {
            return (said, Stage::Embedding);
        }
        let said = if world.config.knobs.context {
            self.heads.iter().map(|h| h.predict(&context.features)).collect()
        } else {
            // Laplace's rule: a half before anything is seen, as the untrained predictor says.
            self.seen
                .iter()
                .map(|(all, good)| (good + 1.0) / (all + 2.0))
                .collect()
        };
        (said, Stage::Head)
    }

    /// A step of the network of the source in force; the first one makes it.
    fn teach_network(&mut self, world: &World, verdict: &Verdict) {
        let Some(source) = &world.config.embedding else {
            return;
        };
        if self.network.as_ref().map(Mlp::source) != Some(source) {
            self.network = Some(Mlp::new(source, world.order.len(), world.config.seed));
        }
        if let Some(network) = &mut self.network {
            let embedding = verdict.decision.context.embedding.as_ref();
            network.learn(
                verdict.model.index(),
                embedding,
                verdict.satisfied,
                world.config.knobs.paper_rate,
            );
        }
    }

    fn explore_rate(&self, world: &World, sla: usize) -> f64 {
        let t = (self.levels[sla].decided + 1) as f64;
        if t == 1.0 {
            1.0
        } else {
            (world.config.knobs.paper_c / t.powf(0.25)).min(1.0)
        }
    }
}

impl Rules for Paper {
    fn choose(&self, world: &World, sight: &Sight, draw: &mut Draw) -> Choice {
        let queue = self.levels[sight.sla].queue.0;
        let (satisfaction, stage) = self.satisfaction(world, sight.context);
        let chance = self.explore_rate(world, sight.sla);
        let explored = draw.uniform() < chance;
        let model = if explored {
            world.largest()
        } else {
            let objective = |m: ModelId| {
                let energy = world.costs.mean(m.index());
                world.config.knobs.paper_v * energy + queue * (sight.alpha - satisfaction[m.index()])
            };
            let mut best = (world.order[0], objective(world.order[0]));
            for &model in &world.order[1..] {
                let value = objective(model);
                if value < best.1 {
                    best = (model, value);
                }
            }
            best.0
        };
        let explore = world
            .order
            .iter()
            .copied()
            .filter(|m| explored && *m != model)
            .collect();
        Choice {
            model,
            explore,
            explored,
            propensity: if explored { chance } else { 1.0 - chance },
            credited: satisfaction[model.index()],
            satisfaction,
            queue,
            price: 0.0,
            stage,
        }
    }

    fn decided(&mut self, _world: &World, decision: &Decision) {
        self.levels[decision.sla.index()].decided += 1;
    }

    fn judged(&mut self, world: &World, verdict: &Verdict) {
        let Verdict {
            decision,
            model,
            satisfied,
            ..
        } = *verdict;
        let counts = model == decision.model && !verdict.withdrawn;
        let queue = &mut self.levels[decision.sla.index()].queue;
        if verdict.retracted {
            // Gradient steps are not taken back; the step of the label that replaces this one outweighs them.
            if counts {
                queue.0 = (queue.0 - decision.alpha + satisfied).max(0.0);
            }
            return;
        }
        if counts {
            queue.step(decision.alpha, satisfied);
        }
        if decision.explored {
            let rate = world.config.knobs.paper_rate / (1.0 - MOMENTUM);
            let (all, good) = &mut self.seen[model.index()];
            *all += 1.0;
            *good += satisfied;
            self.heads[model.index()].learn(&decision.context.features, satisfied, rate);
            self.teach_network(world, verdict);
        }
    }

    fn reset(&mut self, sla: usize) {
        self.levels[sla] = Level::default();
    }

    fn standing(&self, world: &World, sla: usize) -> Standing {
        Standing {
            queue: self.levels[sla].queue.0,
            v: world.config.knobs.paper_v,
            explore_rate: self.explore_rate(world, sla),
            ..world.by_single_models(sla)
        }
    }

    fn remap(&mut self, map: &Remap, restart: &[bool]) {
        self.seen = map.models(&self.seen, |_| (0.0, 0.0));
        self.heads = map.models(&self.heads, |_| Plain::default());
        if let Some(network) = &mut self.network {
            network.remap(map, self.heads.len());
        }
        self.levels = map.slas(&self.levels, |_| Level::default());
        for (level, restart) in self.levels.iter_mut().zip(restart) {
            if *restart {
                level.queue = PaperQueue::default();
            }
        }
    }
}
