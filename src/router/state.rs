//! Everything a router knows, as one value that is written down and read back.

use serde::{Deserialize, Serialize};

use super::adapt::Remap;
use super::config::{ConfigError, RouterConfig};
use super::cost::CostModel;
use super::dearness::Dearness;
use super::event::Decision;
use super::learner::Learner;
use super::memory::Memory;
use super::policy::PolicyState;
use super::report::Tally;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RouterState {
    /// Decisions carried out so far: the number of the next one, and what its randomness is drawn from.
    pub decisions: u64,
    pub learner: Learner,
    pub costs: CostModel,
    /// What topics say of joules, once there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dearness: Option<Dearness>,
    pub memory: Memory,
    pub tallies: Vec<Tally>,
    pub policy: PolicyState,
}

/// A router at rest, with the configuration its numbers belong to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RouterSnapshot {
    pub version: u32,
    pub config: RouterConfig,
    pub state: RouterState,
}

/// The version that this build writes and reads.
pub const VERSION: u32 = 1;

/// Model places from small to large.
pub fn sizes(config: &RouterConfig) -> Vec<usize> {
    config.by_size().into_iter().map(|m| m.index()).collect()
}

/// Mean promise.
fn promised(config: &RouterConfig) -> f64 {
    config.slas.iter().map(|sla| sla.alpha).sum::<f64>() / config.slas.len().max(1) as f64
}

fn learner(config: &RouterConfig) -> Learner {
    let (context, memory) = (config.knobs.context, config.knobs.memory);
    Learner::new(
        &sizes(config),
        config.slas.len(),
        promised(config),
        context,
        memory,
    )
}

impl RouterState {
    pub fn new(config: &RouterConfig) -> Self {
        let (models, slas) = (config.models.len(), config.slas.len());
        let mut learner = learner(config);
        learner.read_embeddings(config.embedding.as_deref());
        Self {
            decisions: 0,
            learner,
            costs: CostModel::new(&config.models),
            dearness: None,
            memory: Memory::default(),
            tallies: vec![Tally::new(models); slas],
            policy: PolicyState::new(config),
        }
    }

    /// Topics were found anew: what they say of joules is learnt again from the remembered bills.
    pub fn relearn_dearness(&mut self) {
        let mut dearness = Dearness::new(self.tallies.first().map_or(0, |tally| tally.served.len()));
        for entry in self.memory.oldest() {
            let Decision { sla, context, .. } = &entry.decision;
            let Some(gist) = self.learner.gist(context) else {
                return;
            };
            for (model, joules) in entry.bills() {
                let plain = self.costs.expected(sla.index(), model.index(), context);
                dearness.learn(model.index(), &gist, plain, joules);
            }
        }
        self.dearness = Some(dearness);
    }

    /// Carries the state over to another configuration: what is told apart by name stays, the rest starts
    /// fresh. A service level whose α changed starts with an empty queue.
    pub fn adapt(mut self, old: &RouterConfig, new: &RouterConfig) -> Self {
        let map = Remap::between(old, new);
        let models = new.models.len();
        let old_level = |sla: &super::config::SlaConfig| old.slas.iter().find(|o| o.name == sla.name);
        let restart: Vec<_> = new
            .slas
            .iter()
            .map(|sla| old_level(sla).is_none_or(|o| o.alpha != sla.alpha))
            .collect();
        self.memory.remap(&map);
        if old.knobs.context == new.knobs.context && old.knobs.memory == new.knobs.memory {
            self.learner.remap(&map, &sizes(new), promised(new), &self.memory);
        } else {
            self.learner = learner(new);
        }
        self.learner.read_embeddings(new.embedding.as_deref());
        self.costs.remap(&map, &new.models);
        for tally in &mut self.tallies {
            tally.remap(&map);
        }
        self.tallies = map.slas(&self.tallies, |_| Tally::new(models));
        if self.dearness.is_some() && !map.same_models() {
            self.relearn_dearness();
        }
        if old.policy.name() == new.policy.name() && !matches!(new.policy, super::config::Policy::Fixed(_)) {
            self.policy.rules_mut().remap(&map, &restart);
        } else {
            self.policy = PolicyState::new(new);
        }
        self
    }

    /// Whether every list has the length that the configuration asks for: a snapshot is foreign until it was
    /// checked.
    pub fn check(&self, config: &RouterConfig) -> Result<(), ConfigError> {
        let (models, slas) = (config.models.len(), config.slas.len());
        let complaint = if self.tallies.len() != slas || self.tallies.iter().any(|t| t.served.len() != models)
        {
            "its totals"
        } else if !self.learner.fits(models, slas) {
            "its predictor"
        } else if !self.costs.fits(models, slas) || self.dearness.as_ref().is_some_and(|d| !d.fits(models)) {
            "its cost model"
        } else if !self.policy.fits(config) {
            "its policy"
        } else if !self.memory.fits(models, slas) {
            "its remembered decisions"
        } else {
            return Ok(());
        };
        Err(ConfigError::Snapshot(format!("{complaint} are for another zoo")))
    }
}
