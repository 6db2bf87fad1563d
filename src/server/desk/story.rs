//! What became of a request: told to the client in the `messplus` object, and to the log as a record.

use std::time::SystemTime;

use serde_json::{Map, Value, json};

use crate::energy::RequestEnergy;
use crate::engine::{FinishReason, ModelFacts};
use crate::router::{Decision, LabelSource, RouterEvent};
use crate::server::wire::{DecisionObject, EnergyObject, Extension, Reference, Timing, Usage};
use crate::units::{Joules, ModelId, RequestId};

use super::pump::Spoken;

/// The policy's name for requests whose client chose.
pub(super) const NAMED: &str = "named";

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finish {
    Stop,
    Length,
    Cancelled,
    Failed,
}

impl Finish {
    /// Of several answers, the worst ending counts.
    pub fn of(spoken: &[Spoken]) -> Self {
        let cut = |said: &Spoken| {
            said.outcome
                .as_ref()
                .is_some_and(|done| done.finish == FinishReason::Length)
        };
        if spoken.iter().any(cut) {
            Self::Length
        } else {
            Self::Stop
        }
    }

    pub fn word(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
        }
    }
}

/// Everything worth keeping of a request.
pub(super) struct Story {
    pub request: RequestId,
    pub arrived_at: SystemTime,
    pub sla: Option<String>,
    pub facts: ModelFacts,
    pub decision: Option<Decision>,
    pub prompt: String,
    pub reference: Option<Reference>,
    pub answers: Vec<String>,
    pub usage: Usage,
    pub finish: Finish,
    pub timing: Timing,
    pub energy: Option<RequestEnergy>,
    /// Share of the answers that match the reference.
    pub judged: Option<f64>,
    /// What was said of the answers besides, once they were out.
    pub labels: Vec<Label>,
    /// Spent on a judge's verdicts.
    pub judging: Joules,
    pub explored: Vec<Explored>,
    /// Explored answers are still being made.
    pub exploring: bool,
    /// Labels are still to come that cost joules.
    pub labelling: bool,
    /// Spent on explored answers that were broken off.
    pub wasted: Joules,
    /// Why it failed.
    pub error: Option<String>,
}

/// What somebody other than a user said of a model's answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Label {
    pub model: ModelId,
    /// 0 to 1.
    pub satisfied: f64,
    /// Trust in it, 0 to 1.
    pub weight: f64,
    pub source: LabelSource,
}

/// Another model's answer to the same request, which the client does not see.
pub(super) struct Explored {
    pub model: ModelId,
    pub answers: Vec<String>,
    pub prompt_tokens: u32,
    pub cached_tokens: u32,
    pub completion_tokens: u32,
    pub seconds: f64,
    pub energy: Option<RequestEnergy>,
    pub judged: Option<f64>,
}

impl Explored {
    pub fn new(
        model: ModelId,
        said: Vec<Spoken>,
        energy: Option<RequestEnergy>,
        reference: Option<&Reference>,
    ) -> Self {
        let outcomes: Vec<_> = said.iter().filter_map(|said| said.outcome.clone()).collect();
        let answers: Vec<String> = said.into_iter().map(|said| said.text).collect();
        Self {
            model,
            prompt_tokens: outcomes.iter().map(|done| done.prompt_tokens).sum(),
            cached_tokens: outcomes.iter().map(|done| done.cached_tokens).sum(),
            completion_tokens: outcomes.iter().map(|done| done.completion_tokens).sum(),
            seconds: outcomes
                .iter()
                .map(|done| done.timing.total.as_secs_f64())
                .fold(0.0, f64::max),
            energy,
            judged: reference.map(|reference| share_matching(reference, &answers)),
            answers,
        }
    }

    pub fn is_settled(&self) -> bool {
        self.energy.is_some_and(|energy| energy.is_final)
    }

    /// Its joules: all of them stand in the exploration account.
    pub fn joules(&self) -> Joules {
        self.energy.map_or(Joules(0.0), |energy| energy.exploration)
    }

    /// The event that tells the router what it cost.
    pub fn finished(&self, request: RequestId) -> Option<RouterEvent> {
        self.energy?;
        Some(RouterEvent::Finished {
            request,
            model: self.model,
            prompt_tokens: self.prompt_tokens,
            cached_tokens: self.cached_tokens,
            output_tokens: self.completion_tokens,
            joules: self.joules(),
            exploration: true,
        })
    }
}

/// The share of answers that match.
pub(super) fn share_matching(reference: &Reference, answers: &[String]) -> f64 {
    let matching = answers.iter().filter(|answer| reference.judges(answer)).count();
    matching as f64 / answers.len().max(1) as f64
}

impl Story {
    /// Whether the joules of the answer itself are final.
    pub fn is_settled(&self) -> bool {
        self.energy.is_some_and(|energy| energy.is_final)
    }

    /// Whether all joules are final.
    pub fn is_final(&self) -> bool {
        self.is_settled()
            && !self.exploring
            && !self.labelling
            && self.explored.iter().all(Explored::is_settled)
    }

    /// Joules of all that was made beside the answer.
    pub fn exploration_joules(&self) -> f64 {
        self.explored.iter().map(|other| other.joules().0).sum::<f64>() + self.wasted.0 + self.judging.0
    }

    /// What each model answered, the one shown first.
    pub fn answers_by_model(&self) -> impl Iterator<Item = (ModelId, &[String])> {
        let shown = (self.facts.id, self.answers.as_slice());
        let others = self
            .explored
            .iter()
            .map(|other| (other.model, other.answers.as_slice()));
        std::iter::once(shown).chain(others)
    }

    /// The `messplus` object.
    pub fn extension(&self, models: &[ModelFacts]) -> Extension {
        Extension {
            request_id: self.request.to_string(),
            model: self.facts.name.clone(),
            policy: self.policy().to_owned(),
            decision: self
                .decision
                .as_ref()
                .map(|decision| decision_object(decision, self.sla.as_deref().unwrap_or_default(), models)),
            satisfied: self.judged,
            energy: self.energy_object(),
            timing: self.timing,
        }
    }

    fn policy(&self) -> &str {
        self.decision.as_ref().map_or(NAMED, |decision| &decision.policy)
    }

    fn energy_object(&self) -> EnergyObject {
        let energy = self.energy;
        let of = |part: fn(&RequestEnergy) -> Joules| energy.as_ref().map_or(0.0, |energy| part(energy).0);
        EnergyObject {
            joules: of(RequestEnergy::total),
            prefill_joules: of(|energy| energy.prefill),
            decode_joules: of(|energy| energy.decode),
            exploration_joules: self.exploration_joules(),
            source: energy
                .map_or("modelled", |energy| energy.source.as_str())
                .to_owned(),
            is_final: self.is_final(),
        }
    }
}

/// A decision with models by name.
pub(super) fn decision_object(decision: &Decision, sla: &str, models: &[ModelFacts]) -> DecisionObject {
    let by_name = |value: &dyn Fn(usize) -> Option<f64>| -> Map<String, Value> {
        let named = models
            .iter()
            .enumerate()
            .filter_map(|(at, facts)| Some((facts.name.clone(), json!(value(at)?))));
        named.collect()
    };
    DecisionObject {
        sla: sla.to_owned(),
        alpha: decision.alpha,
        explored: decision.explored,
        satisfaction: by_name(&|at| decision.satisfaction.get(at).copied()),
        expected_joules: by_name(&|at| decision.expected.get(at).map(|joules| joules.0)),
        queue: decision.queue,
    }
}
