//! Policies: one small file each. A policy reads the shared knowledge ([`World`]) and keeps what is its own.

pub mod bandit;
pub mod fixed;
pub mod mess_plus;
pub mod paper;
pub mod random;
pub mod threshold;

use serde::{Deserialize, Serialize};

use super::adapt::Remap;
use super::config::{Policy, RouterConfig};
use super::cost::CostModel;
use super::dearness::Dearness;
use super::draw::Draw;
use super::event::{Context, Decision, Stage};
use super::learner::Learner;
use super::memory::Memory;
use crate::units::ModelId;

/// What every policy may read.
#[derive(Clone, Copy, Debug)]
pub struct World<'a> {
    pub config: &'a RouterConfig,
    /// Models from small to large.
    pub order: &'a [ModelId],
    pub learner: &'a Learner,
    pub costs: &'a CostModel,
    /// What topics say of joules, once there are any.
    pub dearness: Option<&'a Dearness>,
    pub memory: &'a Memory,
}

impl World<'_> {
    pub fn largest(&self) -> ModelId {
        *self.order.last().expect("validated: at least one model")
    }

    /// Expected joules of answering a request with a model, now.
    pub fn joules(&self, sla: usize, model: usize, context: &Context) -> f64 {
        let plain = self.costs.expected(sla, model, context);
        match (self.dearness, self.learner.gist(context)) {
            (Some(dearness), Some(gist)) => plain * dearness.factor(model, &gist),
            _ => plain,
        }
    }

    /// The shared predictor's mean belief, per model.
    pub fn satisfaction(&self, sla: usize, context: &Context) -> Vec<f64> {
        (0..self.order.len())
            .map(|m| self.learner.belief(sla, m, context).mean)
            .collect()
    }

    /// What single models reach, for policies that do not know better; feasible while α lies within two deviations
    /// of the best one's rate.
    pub fn by_single_models(&self, sla: usize) -> Standing {
        let rates = (0..self.order.len()).map(|m| self.learner.rate(sla, m));
        let (mut lowest, mut best) = (1.0f64, (0.0, 0.0));
        for (rate, deviation) in rates {
            lowest = lowest.min(rate);
            if rate > best.0 {
                best = (rate, deviation);
            }
        }
        Standing {
            reachable: Some((lowest, best.0)),
            feasible: best.0 + 2.0 * best.1 >= self.config.slas[sla].alpha,
            ..Standing::default()
        }
    }
}

/// The request at hand.
#[derive(Clone, Copy, Debug)]
pub struct Sight<'a> {
    pub sla: usize,
    pub alpha: f64,
    pub context: &'a Context,
    /// Expected joules, per model.
    pub expected: &'a [f64],
}

/// A policy's answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    pub model: ModelId,
    pub explore: Vec<ModelId>,
    pub explored: bool,
    pub propensity: f64,
    pub satisfaction: Vec<f64>,
    pub credited: f64,
    pub queue: f64,
    pub price: f64,
    pub stage: Stage,
}

/// A label on one answer of a decision.
#[derive(Clone, Copy, Debug)]
pub struct Verdict<'a> {
    pub decision: &'a Decision,
    pub model: ModelId,
    pub satisfied: f64,
    pub weight: f64,
    /// The decision was withdrawn: the label teaches but does not count for the promise.
    pub withdrawn: bool,
    /// The label was in force and is not any more; the one that replaces it follows.
    pub retracted: bool,
}

impl Verdict<'_> {
    /// The weight with which the label moves what is a sum over labels: negative when it is taken back.
    pub fn signed_weight(&self) -> f64 {
        if self.retracted { -self.weight } else { self.weight }
    }
}

/// Where a service level stands with its policy.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Standing {
    pub queue: f64,
    /// V of the paper (per joule) or V′ of mess-plus (requests); 0 where the policy has none.
    pub v: f64,
    pub price: f64,
    /// Chance that the next request explores.
    pub explore_rate: f64,
    /// Least and greatest share of satisfied requests that any choice of models can reach, as far as is
    /// known.
    pub reachable: Option<(f64, f64)>,
    pub feasible: bool,
    /// Some model has not been judged often enough to be chosen.
    pub warming: bool,
}

/// What a policy does. `choose` only reads; the rest are the consequences of events.
pub trait Rules {
    fn choose(&self, world: &World, sight: &Sight, draw: &mut Draw) -> Choice;
    fn decided(&mut self, _world: &World, _decision: &Decision) {}
    fn judged(&mut self, _world: &World, _verdict: &Verdict) {}
    fn withdrawn(&mut self, _world: &World, _decision: &Decision) {}
    fn reset(&mut self, _sla: usize) {}
    fn standing(&self, world: &World, sla: usize) -> Standing;
    /// `restart` marks the service levels whose promise changed: what is owed under the old one is void.
    fn remap(&mut self, _map: &Remap, _restart: &[bool]) {}
}

/// The state of the policy in force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PolicyState {
    MessPlus(mess_plus::MessPlus),
    Paper(paper::Paper),
    Fixed(fixed::Fixed),
    Random(random::Random),
    Bandit(bandit::Bandit),
    Threshold(threshold::Threshold),
}

impl PolicyState {
    pub fn new(config: &RouterConfig) -> Self {
        let (models, slas) = (config.models.len(), config.slas.len());
        let bandit = |index| Self::Bandit(bandit::Bandit::new(index, models, slas));
        match config.policy {
            Policy::MessPlus => Self::MessPlus(mess_plus::MessPlus::new(models, slas)),
            Policy::Paper => Self::Paper(paper::Paper::new(models, slas)),
            Policy::Fixed(model) => Self::Fixed(fixed::Fixed { model }),
            Policy::Random => Self::Random(random::Random),
            Policy::EpsilonGreedy => bandit(bandit::Index::EpsilonGreedy),
            Policy::Thompson => bandit(bandit::Index::Thompson),
            Policy::Ucb => bandit(bandit::Index::Ucb),
            Policy::Threshold => Self::Threshold(threshold::Threshold::new(slas)),
        }
    }

    pub fn fits(&self, config: &RouterConfig) -> bool {
        let (models, slas) = (config.models.len(), config.slas.len());
        match (self, config.policy) {
            (Self::MessPlus(policy), Policy::MessPlus) => policy.fits(models, slas),
            (Self::Paper(policy), Policy::Paper) => policy.fits(models, slas),
            (Self::Fixed(policy), Policy::Fixed(model)) => policy.model == model,
            (Self::Random(_), Policy::Random) => true,
            (Self::Bandit(policy), Policy::EpsilonGreedy) => {
                policy.fits(bandit::Index::EpsilonGreedy, models, slas)
            }
            (Self::Bandit(policy), Policy::Thompson) => policy.fits(bandit::Index::Thompson, models, slas),
            (Self::Bandit(policy), Policy::Ucb) => policy.fits(bandit::Index::Ucb, models, slas),
            (Self::Threshold(policy), Policy::Threshold) => policy.fits(slas),
            _ => false,
        }
    }

    pub fn rules(&self) -> &dyn Rules {
        match self {
            Self::MessPlus(policy) => policy,
            Self::Paper(policy) => policy,
            Self::Fixed(policy) => policy,
            Self::Random(policy) => policy,
            Self::Bandit(policy) => policy,
            Self::Threshold(policy) => policy,
        }
    }

    pub fn rules_mut(&mut self) -> &mut dyn Rules {
        match self {
            Self::MessPlus(policy) => policy,
            Self::Paper(policy) => policy,
            Self::Fixed(policy) => policy,
            Self::Random(policy) => policy,
            Self::Bandit(policy) => policy,
            Self::Threshold(policy) => policy,
        }
    }
}
