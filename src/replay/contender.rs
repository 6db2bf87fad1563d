//! Who is compared: the router's own policies, and references that know more than any router can.

use crate::router::{ModelInfo, Policy};

/// One row of the result, per stream.
#[derive(Clone, Debug, PartialEq)]
pub enum Contender {
    /// A policy of the router, played through the functions that serve; `context` false: it may not see the text.
    Routed { policy: Policy, context: bool },
    /// Draws a model by lot, knowing the models' average satisfaction.
    Educated,
    /// The cheapest lot over models that meets α, knowing average satisfaction and joules.
    StaticMix,
    /// The same with one lot a category.
    StaticMixCategory,
    /// Knows every answer beforehand.
    Oracle,
    /// Trained beforehand on half of the labels.
    Logistic,
    /// Small first, then larger.
    Cascade,
}

/// Rows that are printed whatever `--policy` names, after each single model's.
pub const REFERENCES: [&str; 7] = [
    "random",
    "educated",
    "static-mix",
    "oracle",
    "thompson",
    "ucb",
    "paper",
];

/// What `--policy` may name; `fixed:NAME` besides.
pub const NAMES: [&str; 14] = [
    "random",
    "educated",
    "static-mix",
    "static-mix-category",
    "oracle",
    "logistic",
    "cascade",
    "paper",
    "mess-plus",
    "mess-plus-no-context",
    "epsilon-greedy",
    "thompson",
    "ucb",
    "threshold",
];

impl Contender {
    pub fn parse(name: &str, models: &[String]) -> Result<Self, String> {
        let plain = |policy| Self::Routed {
            policy,
            context: true,
        };
        Ok(match name {
            "educated" => Self::Educated,
            "static-mix" => Self::StaticMix,
            "static-mix-category" => Self::StaticMixCategory,
            "oracle" => Self::Oracle,
            "logistic" => Self::Logistic,
            "cascade" => Self::Cascade,
            "mess-plus-no-context" => Self::Routed {
                policy: Policy::MessPlus,
                context: false,
            },
            _ => plain(
                Policy::parse(name, &infos(models, &vec![1.0; models.len()]))
                    .map_err(|error| error.to_string())?,
            ),
        })
    }

    pub fn name(&self, models: &[String]) -> String {
        match self {
            Self::Routed {
                policy: Policy::Fixed(model),
                ..
            } => format!("fixed:{}", models[model.index()]),
            Self::Routed {
                policy,
                context: true,
            } => policy.name().into(),
            Self::Routed {
                policy,
                context: false,
            } => format!("{}-no-context", policy.name()),
            Self::Educated => "educated".into(),
            Self::StaticMix => "static-mix".into(),
            Self::StaticMixCategory => "static-mix-category".into(),
            Self::Oracle => "oracle".into(),
            Self::Logistic => "logistic".into(),
            Self::Cascade => "cascade".into(),
        }
    }
}

/// The zoo as the router is told of it. A trace says nothing of sizes; what an answer costs stands for them.
pub fn infos(models: &[String], mean_joules: &[f64]) -> Vec<ModelInfo> {
    let info = |(name, joules): (&String, &f64)| ModelInfo {
        name: name.clone(),
        parameters: (joules * 1e6).clamp(1.0, 1e15) as u64,
    };
    models.iter().zip(mean_joules).map(info).collect()
}
