//! What the router is asked, what it answers, and everything that may ever change it.
//! All plain data: an event written to a log and read back changes a router exactly as it did the first time.

use serde::{Deserialize, Serialize};

use super::config::SlaId;
use super::embedding::Embedding;
use super::features::DIMENSIONS;
use crate::units::{Joules, ModelId, RequestId};

/// How busy a model's lane is now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Occupancy {
    /// Requests of this model in its running batch.
    pub running: u32,
    /// Requests of this model waiting for admission.
    pub waiting: u32,
}

/// A request that needs a model.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    pub request: RequestId,
    pub sla: SlaId,
    /// The user's text: what features are taken from.
    pub text: &'a str,
    /// Prompt tokens under each model's own tokenizer; a shorter list repeats its last entry.
    pub prompt_tokens: &'a [u32],
    /// Most tokens the answer may have.
    pub max_tokens: u32,
    /// Per model, now; missing entries are idle.
    pub occupancy: &'a [Occupancy],
}

/// What a decision saw, kept so that feedback can be learnt from days later.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Context {
    /// Hashed n-grams of the text, sorted, distinct.
    pub features: Vec<u16>,
    /// The text as a vector, where somebody made one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedding: Option<Embedding>,
    /// The kind of request it was taken for, when kinds are told apart.
    pub cluster: Option<u16>,
    pub prompt_tokens: Vec<u32>,
    /// Requests running beside it, per model.
    pub company: Vec<u32>,
    pub max_tokens: u32,
}

/// Which predictor the choice listened to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// One satisfaction rate per model and service level.
    #[default]
    BaseRates,
    /// One rate per model and inferred kind of request.
    Clusters,
    /// One regression over what texts are about.
    Topics,
    /// The learned head over the text's words.
    Head,
    /// The learned head over the text's embedding.
    Embedding,
}

/// Who answers a request, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    pub request: RequestId,
    pub sla: SlaId,
    pub policy: String,
    pub alpha: f64,
    /// The model whose answer the client gets.
    pub model: ModelId,
    /// Models that must answer too, unseen by the client, so that their quality is learnt.
    pub explore: Vec<ModelId>,
    /// True when the choice was made to learn rather than to save.
    pub explored: bool,
    /// Probability with which exactly this choice (model and extra models) was drawn.
    pub propensity: f64,
    /// Predicted chance of satisfaction, per model.
    pub satisfaction: Vec<f64>,
    /// What the virtual queue was credited with at dispatch: the served model's prediction, corrected for how
    /// far predictions of chosen answers were off of late.
    pub credited: f64,
    /// Expected joules of answering, per model.
    pub expected: Vec<Joules>,
    /// The virtual queue that the choice saw, in requests; positive = behind the promise.
    pub queue: f64,
    /// What a satisfied answer was worth, in answers of the dearest model (0 where the policy has no price).
    pub price: f64,
    pub stage: Stage,
    /// The decision's number, from 0.
    pub number: u64,
    pub context: Context,
}

impl Decision {
    /// Whether it speaks only of models, service levels and features that exist, in numbers that make sense.
    pub fn fits(&self, models: usize, slas: usize) -> bool {
        let features = &self.context.features;
        self.sla.index() < slas
            && self.model.index() < models
            && self
                .explore
                .iter()
                .all(|m| m.index() < models && *m != self.model)
            && self.satisfaction.len() == models
            && self.expected.len() == models
            && self
                .satisfaction
                .iter()
                .chain([&self.alpha, &self.credited])
                .all(|s| (0.0..=1.0).contains(s))
            && self.expected.iter().all(|e| e.0.is_finite() && e.0 >= 0.0)
            && features.iter().all(|f| usize::from(*f) < DIMENSIONS)
            && self.context.embedding.as_ref().is_none_or(Embedding::fits)
    }
}

/// Who says that an answer satisfies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LabelSource {
    User,
    Reference,
    Agreement,
    Judge,
}

impl LabelSource {
    /// Whether its word on an answer stands against the other's: the promise is about the user; a reference knows,
    /// a judge reads, agreement with the largest model guesses.
    pub fn outranks(self, other: Self) -> bool {
        let rank = |source| match source {
            Self::User => 3,
            Self::Reference => 2,
            Self::Judge => 1,
            Self::Agreement => 0,
        };
        rank(self) > rank(other)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Reference => "reference",
            Self::Agreement => "agreement",
            Self::Judge => "judge",
        }
    }
}

/// The only things that change a router.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum RouterEvent {
    /// A decision is being carried out.
    Decided(Box<Decision>),
    /// An answer is complete and its joules are final.
    Finished {
        request: RequestId,
        model: ModelId,
        prompt_tokens: u32,
        /// Prompt tokens that were found in the prefix cache and not computed; 0 in logs of earlier builds.
        #[serde(default)]
        cached_tokens: u32,
        output_tokens: u32,
        joules: Joules,
        /// An extra answer that the client does not see.
        exploration: bool,
    },
    /// An answer was judged. A judgement by who [outranks](LabelSource::outranks) the first replaces it while the
    /// router remembers the request; any other second one changes nothing. `decision` may carry the original decision, for one that
    /// [`super::Router::remembers`] no more.
    Judged {
        request: RequestId,
        model: ModelId,
        /// 0 to 1.
        satisfied: f64,
        /// Trust in the label, 0 to 1.
        weight: f64,
        source: LabelSource,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        decision: Option<Box<Decision>>,
    },
    /// No judgement of this request will come: its prediction stands.
    Expired { request: RequestId },
    /// The request was never answered (cancelled, failed): it does not count for its promise.
    Withdrawn { request: RequestId },
    /// The operator forgives the past of one service level: its queue and counts start again.
    Reset { sla: SlaId },
}
