//! `threshold`: the smallest model or the largest, by how much the text says the largest is better, as RouteLLM does
//! (Ong et al., "RouteLLM: learning to route LLMs with preference data", 2024).
//!
//! RouteLLM trains its predictor beforehand and leaves the threshold to the operator. Here the shared predictor
//! learns as it goes, and the threshold follows the promise: θ ← θ − η(α − s) at every judged answer.

use serde::{Deserialize, Serialize};

use super::{Choice, Rules, Sight, Standing, Verdict, World};
use crate::router::adapt::Remap;
use crate::router::draw::Draw;
use crate::router::event::Stage;
use crate::units::ModelId;

/// Step of the threshold: a dozen satisfied answers too few move it across the whole range of a predictor.
const STEP: f64 = 0.05;
/// Judged answers of both models before the predictor is listened to.
const FEWEST: u64 = 20;

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Level {
    /// The largest model answers where it is believed to be better by at least this much.
    threshold: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Threshold {
    levels: Vec<Level>,
}

impl Threshold {
    pub fn new(slas: usize) -> Self {
        Self {
            levels: vec![Level::default(); slas],
        }
    }

    pub fn fits(&self, slas: usize) -> bool {
        self.levels.len() == slas
    }
}

fn learning(world: &World) -> bool {
    [world.order[0], world.largest()]
        .iter()
        .any(|m| world.learner.labels(m.index()) < FEWEST)
}

impl Rules for Threshold {
    fn choose(&self, world: &World, sight: &Sight, draw: &mut Draw) -> Choice {
        let satisfaction = world.satisfaction(sight.sla, sight.context);
        let (weak, strong) = (world.order[0], world.largest());
        let gap = satisfaction[strong.index()] - satisfaction[weak.index()];
        let explored = learning(world) && weak != strong;
        let takes_strong = if explored {
            draw.below(2) == 1
        } else {
            gap >= self.levels[sight.sla].threshold
        };
        let model: ModelId = if takes_strong { strong } else { weak };
        Choice {
            model,
            explore: vec![],
            explored,
            propensity: if explored { 0.5 } else { 1.0 },
            credited: satisfaction[model.index()],
            satisfaction,
            queue: 0.0,
            price: 0.0,
            stage: if explored {
                Stage::BaseRates
            } else {
                world.learner.stage_for(sight.context)
            },
        }
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
        if model == decision.model && !withdrawn {
            let level = &mut self.levels[decision.sla.index()];
            let moved = level.threshold - STEP * weight * (decision.alpha - satisfied);
            level.threshold = moved.clamp(-1.0, 1.0);
        }
    }

    fn reset(&mut self, sla: usize) {
        self.levels[sla] = Level::default();
    }

    fn standing(&self, world: &World, sla: usize) -> Standing {
        Standing {
            explore_rate: if learning(world) { 1.0 } else { 0.0 },
            warming: learning(world),
            ..world.by_single_models(sla)
        }
    }

    fn remap(&mut self, map: &Remap, restart: &[bool]) {
        self.levels = map.slas(&self.levels, |_| Level::default());
        for (level, restart) in self.levels.iter_mut().zip(restart) {
            if *restart {
                *level = Level::default();
            }
        }
    }
}
