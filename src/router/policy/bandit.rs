//! Textbook bandits under a promise: `epsilon-greedy`, `ucb` and `thompson`.
//!
//! Each model is an arm. The promise enters as a Lagrangian: the arm of least e − λ·s̃ answers, e its expected cost in
//! units of the dearest arm's, s̃ what the bandit's index says of its satisfaction, and λ climbs while the promise is
//! missed and falls while it is kept, λ ← max(0, λ + η(α − s)) at every judged answer (dual ascent; Badanidiyuru,
//! Kleinberg & Slivkins, "Bandits with knapsacks", JACM 2018, for the idea). They look at no text and send no extra
//! answers: they learn from what they show.

use serde::{Deserialize, Serialize};

use super::{Choice, Rules, Sight, Standing, Verdict, World};
use crate::router::adapt::Remap;
use crate::router::beta::beta;
use crate::router::draw::Draw;
use crate::router::event::{Decision, Stage};
use crate::units::ModelId;

/// Step of the dual ascent.
const STEP: f64 = 0.2;
/// A satisfied answer is worth one answer of the dearest arm until anything is known.
const FIRST_PRICE: f64 = 1.0;
/// ε_t = min(1, CHANCE·arms/t) (Auer, Cesa-Bianchi & Fischer, "Finite-time analysis of the multiarmed bandit
/// problem", 2002, with c/d² = 5).
const CHANCE: f64 = 5.0;

/// What is believed of an arm when it is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Index {
    /// Its mean; now and then any arm.
    EpsilonGreedy,
    /// A draw from its Beta posterior.
    Thompson,
    /// Its mean and what it may be above that (UCB1).
    Ucb,
}

/// One arm at one service level: judged answers, and the satisfied ones among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Arm {
    judged: f64,
    satisfied: f64,
}

impl Arm {
    fn mean(&self) -> f64 {
        (self.satisfied + 1.0) / (self.judged + 2.0)
    }

    fn index(&self, index: Index, total: f64, draw: &mut Draw) -> f64 {
        match index {
            Index::EpsilonGreedy => self.mean(),
            Index::Thompson => beta(draw, 1.0 + self.satisfied, 1.0 + self.judged - self.satisfied),
            Index::Ucb if self.judged == 0.0 => 1.0,
            Index::Ucb => {
                let room = (2.0 * total.max(1.0).ln() / self.judged).sqrt();
                (self.satisfied / self.judged + room).min(1.0)
            }
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Level {
    arms: Vec<Arm>,
    decided: u64,
    price: f64,
}

impl Level {
    fn new(models: usize) -> Self {
        Self {
            arms: vec![Arm::default(); models],
            decided: 0,
            price: FIRST_PRICE,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bandit {
    index: Index,
    levels: Vec<Level>,
}

impl Bandit {
    pub fn new(index: Index, models: usize, slas: usize) -> Self {
        Self {
            index,
            levels: vec![Level::new(models); slas],
        }
    }

    pub fn fits(&self, index: Index, models: usize, slas: usize) -> bool {
        self.index == index && self.levels.len() == slas && self.levels.iter().all(|l| l.arms.len() == models)
    }

    fn explore_rate(&self, sla: usize) -> f64 {
        let level = &self.levels[sla];
        match self.index {
            Index::EpsilonGreedy => (CHANCE * level.arms.len() as f64 / (level.decided + 1) as f64).min(1.0),
            Index::Thompson | Index::Ucb => 0.0,
        }
    }
}

impl Rules for Bandit {
    fn choose(&self, world: &World, sight: &Sight, draw: &mut Draw) -> Choice {
        let level = &self.levels[sight.sla];
        let chance = self.explore_rate(sight.sla);
        let explored = draw.uniform() < chance;
        let dearest = sight.expected.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        let total: f64 = level.arms.iter().map(|arm| arm.judged).sum();
        let mut best = (world.order[0], f64::INFINITY);
        for &model in world.order {
            let place = model.index();
            let index = level.arms[place].index(self.index, total, draw);
            let score = sight.expected[place] / dearest - level.price * index;
            if score < best.1 {
                best = (model, score);
            }
        }
        let count = world.order.len();
        let model = if explored {
            ModelId(draw.below(count) as u16)
        } else {
            best.0
        };
        let satisfaction: Vec<f64> = level.arms.iter().map(Arm::mean).collect();
        let greedy = if model == best.0 { 1.0 - chance } else { 0.0 };
        Choice {
            model,
            explore: vec![],
            explored,
            propensity: chance / count as f64 + greedy,
            credited: satisfaction[model.index()],
            satisfaction,
            queue: level.price / STEP,
            price: level.price,
            // The choice looked at no text, so its labels may teach the base rates.
            stage: Stage::BaseRates,
        }
    }

    fn decided(&mut self, _world: &World, decision: &Decision) {
        self.levels[decision.sla.index()].decided += 1;
    }

    fn judged(&mut self, _world: &World, verdict: &Verdict) {
        let Verdict {
            decision,
            model,
            satisfied,
            withdrawn,
            ..
        } = *verdict;
        let weight = verdict.signed_weight();
        let level = &mut self.levels[decision.sla.index()];
        let arm = &mut level.arms[model.index()];
        arm.judged = (arm.judged + weight).max(0.0);
        arm.satisfied = (arm.satisfied + weight * satisfied).max(0.0);
        if model == decision.model && !withdrawn {
            level.price = (level.price + STEP * weight * (decision.alpha - satisfied)).max(0.0);
        }
    }

    fn reset(&mut self, sla: usize) {
        self.levels[sla] = Level::new(self.levels[sla].arms.len());
    }

    fn standing(&self, world: &World, sla: usize) -> Standing {
        let level = &self.levels[sla];
        Standing {
            queue: level.price / STEP,
            price: level.price,
            explore_rate: self.explore_rate(sla),
            ..world.by_single_models(sla)
        }
    }

    fn remap(&mut self, map: &Remap, restart: &[bool]) {
        for level in &mut self.levels {
            level.arms = map.models(&level.arms, |_| Arm::default());
        }
        let models = self.levels.first().map_or(0, |level| level.arms.len());
        self.levels = map.slas(&self.levels, |_| Level::new(models));
        for (level, restart) in self.levels.iter_mut().zip(restart) {
            if *restart {
                level.price = FIRST_PRICE;
            }
        }
    }
}
