//! What the operator decides: the zoo, the promises, the policy, and the knobs with their defaults.

use serde::{Deserialize, Serialize};

use crate::units::ModelId;

/// A service level's place in the configuration: the index of its `[[sla]]` table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SlaId(pub u16);

impl SlaId {
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Who decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// The default: Algorithm 1's guarantee, mended for a server (see [`super::policy::mess_plus`]).
    MessPlus,
    /// Algorithm 1 of arXiv 2505.19947 to the letter.
    Paper,
    /// One model answers everything.
    Fixed(ModelId),
    /// Every model is equally likely.
    Random,
    /// Bandits under a Lagrangian (see [`super::policy::bandit`]): what simpler methods come to.
    EpsilonGreedy,
    Thompson,
    Ucb,
    /// The smallest or the largest model by a predictor's threshold (see [`super::policy::threshold`]).
    Threshold,
}

impl Policy {
    /// Reads the zoo file's `router.policy`: `mess-plus`, `paper`, `random`, `fixed:NAME`, `epsilon-greedy`,
    /// `thompson` (or `bandit`), `ucb` or `threshold`.
    pub fn parse(text: &str, models: &[ModelInfo]) -> Result<Self, ConfigError> {
        match text {
            "mess-plus" => Ok(Self::MessPlus),
            "paper" => Ok(Self::Paper),
            "random" => Ok(Self::Random),
            "epsilon-greedy" => Ok(Self::EpsilonGreedy),
            "thompson" | "bandit" => Ok(Self::Thompson),
            "ucb" => Ok(Self::Ucb),
            "threshold" => Ok(Self::Threshold),
            _ => {
                let name = text
                    .strip_prefix("fixed:")
                    .ok_or_else(|| ConfigError::UnknownPolicy(text.to_owned()))?;
                let place = models.iter().position(|m| m.name == name);
                let place = place.ok_or_else(|| ConfigError::UnknownModel(name.to_owned()))?;
                Ok(Self::Fixed(ModelId(place as u16)))
            }
        }
    }

    /// The policy's name as the zoo file writes it, without a fixed model's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::MessPlus => "mess-plus",
            Self::Paper => "paper",
            Self::Fixed(_) => "fixed",
            Self::Random => "random",
            Self::EpsilonGreedy => "epsilon-greedy",
            Self::Thompson => "thompson",
            Self::Ucb => "ucb",
            Self::Threshold => "threshold",
        }
    }
}

/// One model of the zoo, as far as the router needs to know it before anything was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelInfo {
    pub name: String,
    /// Parameters active per token. Only ratios matter: they rank the models and give the first guess of
    /// their cost.
    pub parameters: u64,
}

/// One promise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SlaConfig {
    pub name: String,
    /// Promised long-run share of satisfied requests, in (0, 1).
    pub alpha: f64,
}

/// Everything the router is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RouterConfig {
    pub policy: Policy,
    pub models: Vec<ModelInfo>,
    pub slas: Vec<SlaConfig>,
    pub seed: u64,
    /// Whose embeddings come with the texts ([`super::Embedding::source`]); nobody's by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedding: Option<String>,
    #[serde(default)]
    pub knobs: Knobs,
}

impl RouterConfig {
    pub fn new(policy: Policy, models: Vec<ModelInfo>, slas: Vec<SlaConfig>, seed: u64) -> Self {
        Self {
            policy,
            models,
            slas,
            seed,
            embedding: None,
            knobs: Knobs::default(),
        }
    }

    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.models.is_empty() || self.models.len() > 64 {
            return Err(ConfigError::Models(self.models.len()));
        }
        if self.slas.is_empty() || self.slas.len() > 1024 {
            return Err(ConfigError::Slas(self.slas.len()));
        }
        let mut names: Vec<_> = self.models.iter().map(|m| &m.name).collect();
        names.sort();
        if let Some(twin) = names.windows(2).find(|w| w[0] == w[1]) {
            return Err(ConfigError::Twice(twin[0].clone()));
        }
        let mut names: Vec<_> = self.slas.iter().map(|s| &s.name).collect();
        names.sort();
        if let Some(twin) = names.windows(2).find(|w| w[0] == w[1]) {
            return Err(ConfigError::Twice(twin[0].clone()));
        }
        for sla in &self.slas {
            if !(sla.alpha > 0.0 && sla.alpha < 1.0) {
                return Err(ConfigError::Alpha {
                    name: sla.name.clone(),
                    alpha: sla.alpha,
                });
            }
        }
        if let Policy::Fixed(model) = self.policy
            && model.index() >= self.models.len()
        {
            return Err(ConfigError::UnknownModel(format!("number {}", model.0)));
        }
        Ok(())
    }

    /// Models from the smallest to the largest: the order in which ties are broken.
    pub fn by_size(&self) -> Vec<ModelId> {
        let mut order: Vec<_> = (0..self.models.len()).map(|m| ModelId(m as u16)).collect();
        order.sort_by_key(|m| self.models[m.index()].parameters);
        order
    }

    /// The most capable model as far as sizes tell.
    pub fn largest(&self) -> ModelId {
        *self.by_size().last().expect("validated: at least one model")
    }
}

/// What may be tuned. No default needs tuning per zoo: everything but `paper_v` is dimensionless.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Knobs {
    /// `paper`: c of p_t = min(1, c / t^(1/4)). The paper's 0.1.
    pub paper_c: f64,
    /// `paper`: V, per joule. The paper's 1e-4.
    pub paper_v: f64,
    /// `paper`: learning rate of the predictor's SGD. The paper's .03 to .08.
    pub paper_rate: f64,
    /// `mess-plus`: V′, in requests: being V′ requests behind the reserve doubles the price of a satisfied answer.
    pub patience: f64,
    /// `mess-plus`: requests within which a debt is to be paid back: the price is that of α + debt/repay.
    pub repay: f64,
    /// `mess-plus`: requests within which a surplus is to be spent.
    pub spend: f64,
    /// `mess-plus`: most requests of surplus that are remembered.
    pub credit: f64,
    /// `mess-plus`: most requests of debt that are remembered while the promise can be kept.
    pub debt: f64,
    /// `mess-plus`: requests to stay ahead of the promise: this many, as many times the scale on which the queue
    /// wanders, and `reserve_spread` standard deviations of what is unjudged.
    pub reserve: f64,
    pub reserve_spread: f64,
    /// `mess-plus`: standard deviations by which the quality of a model that is neither the smallest nor the largest is
    /// overestimated on purpose until it has answered often, so that it is tried before dearer ones are believed to
    /// be needed.
    pub optimism: f64,
    /// `mess-plus`: judged answers before a model counts as known.
    pub warm_labels: u32,
    /// `mess-plus`: p_t = min(explore_most, explore_rate / √t).
    pub explore_rate: f64,
    pub explore_most: f64,
    /// `mess-plus`: chance of asking any model at all, so that a change is noticed.
    pub explore_floor: f64,
    /// `mess-plus`: most joules of extra answers, as a share of all joules spent.
    pub explore_budget: f64,
    /// Whether the text of a request may be used (false: base rates only).
    pub context: bool,
    /// How many decisions are remembered while they wait for feedback.
    pub remembered: usize,
    /// Observations after which an old one has lost most of its weight in the base rates.
    pub memory: f64,
}

impl Default for Knobs {
    fn default() -> Self {
        Self {
            paper_c: 0.1,
            paper_v: 1e-4,
            paper_rate: 0.05,
            patience: 20.0,
            repay: 300.0,
            spend: 300.0,
            credit: 100.0,
            debt: 80.0,
            reserve: 4.2,
            reserve_spread: 1.6,
            optimism: 2.0,
            warm_labels: 20,
            explore_rate: 1.0,
            explore_most: 0.2,
            explore_floor: 0.001,
            explore_budget: 0.05,
            context: true,
            remembered: 4096,
            memory: 4000.0,
        }
    }
}

/// Why a router cannot be built.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ConfigError {
    #[error(
        "the router knows no policy \"{0}\": write mess-plus, paper, random, fixed:NAME, bandit, epsilon-greedy, thompson, ucb or threshold"
    )]
    UnknownPolicy(String),
    #[error("the zoo has no model \"{0}\": name one of its [[model]] tables")]
    UnknownModel(String),
    #[error("a router needs 1 to 64 models, the zoo has {0}: add or remove [[model]] tables")]
    Models(usize),
    #[error("a router needs 1 to 1024 service levels, the zoo has {0}: add or remove [[sla]] tables")]
    Slas(usize),
    #[error("the name \"{0}\" is used twice: rename one of them")]
    Twice(String),
    #[error("alpha of the service level \"{name}\" is {alpha}: it must lie between 0 and 1, both excluded")]
    Alpha { name: String, alpha: f64 },
    #[error("the router's saved state does not fit itself: {0}; remove the snapshot to start afresh")]
    Snapshot(String),
}
