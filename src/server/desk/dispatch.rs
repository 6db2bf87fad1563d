//! The moment of choice: a model is decided on, its jobs are submitted, and the decision enters the log.

use std::time::Duration;

use serde_json::{Value, json};

use crate::engine::{EngineError, JobStream, ModelFacts};
use crate::router::{self, Decision, Embedding};
use crate::server::metrics::Ending;
use crate::server::wire::{Ask, Target};
use crate::store::Commit;
use crate::units::{ModelId, RequestId};

use super::plan::{Aim, Plan};
use super::record::explained_decision;
use super::story::NAMED;
use super::{DeskError, Inner};

/// A request whose jobs run.
pub(super) struct Dispatched {
    pub facts: ModelFacts,
    /// `None` when the client named the model.
    pub decision: Option<Decision>,
    pub streams: Vec<JobStream>,
    /// Resolves when the decision is durable.
    pub decided: Option<Commit>,
    pub explorations: Vec<Exploration>,
}

/// Another model's answer to the same prompts, in the making.
pub(super) struct Exploration {
    /// An identity of its own, so that its joules are told apart from those of other explored models.
    pub account: RequestId,
    pub model: ModelId,
    pub streams: Vec<JobStream>,
}

impl Inner {
    /// Refuses at once what the queue has no room for, before anything is tokenised, read or decided.
    pub(super) fn check_room(&self, ask: &Ask) -> Result<(), DeskError> {
        let refused = self.engine.check_room();
        if refused.is_err() {
            let (model, sla) = match &ask.target {
                Target::Named { model } => (self.engine.models().iter().find(|m| m.name == *model), None),
                Target::Auto { sla, .. } => (None, self.slas.iter().find(|name| *name == sla)),
            };
            let model = model.map(|facts| facts.id);
            self.metrics
                .ended(model, sla.map(String::as_str), Ending::Rejected);
        }
        Ok(refused?)
    }

    /// `embedding` is what [`Inner::look`] saw of the text.
    pub(super) fn dispatch(
        &self,
        plan: &Plan,
        embedding: Option<Embedding>,
    ) -> Result<Dispatched, DeskError> {
        match &plan.aim {
            Aim::Named(model) => {
                let facts = self.facts(*model)?.clone();
                let streams = self.submit_all(plan, &facts, None)?;
                Ok(Dispatched {
                    facts,
                    decision: None,
                    streams,
                    decided: None,
                    explorations: Vec::new(),
                })
            }
            Aim::Routed { name, .. } => {
                let (decision, streams, decided) = self.with_router_ask(plan, |ask| {
                    self.docket
                        .decide(ask, embedding, |decision| self.carry_out(plan, decision, name))
                })?;
                let facts = self.facts(decision.model)?.clone();
                if decision.explored {
                    self.metrics.explored(name);
                }
                let explorations = self.explore(plan, &decision);
                Ok(Dispatched {
                    facts,
                    decision: Some(decision),
                    streams,
                    decided: Some(decided),
                    explorations,
                })
            }
        }
    }

    /// What the router would decide; nothing is submitted or logged.
    pub(super) fn preview(&self, plan: &Plan, embedding: Option<Embedding>) -> Result<Value, DeskError> {
        match &plan.aim {
            Aim::Routed { name, .. } => {
                let decision = self.fitted(
                    plan,
                    self.with_router_ask(plan, |ask| self.docket.preview(ask, embedding)),
                );
                Ok(explained_decision(&decision, name, self.engine.models()))
            }
            Aim::Named(model) => Ok(json!({"policy": NAMED, "model": self.facts(*model)?.name})),
        }
    }

    fn with_router_ask<T>(&self, plan: &Plan, then: impl FnOnce(&router::Ask<'_>) -> T) -> T {
        let sla = match &plan.aim {
            Aim::Routed { sla, .. } => *sla,
            Aim::Named(_) => router::SlaId(0),
        };
        let lanes = self.engine.occupancy();
        let occupancy: Vec<router::Occupancy> = lanes
            .iter()
            .map(|lane| router::Occupancy {
                running: lane.running,
                waiting: lane.waiting,
            })
            .collect();
        then(&router::Ask {
            request: plan.request,
            sla,
            text: &plan.words,
            prompt_tokens: &plan.prompt_tokens(),
            max_tokens: plan.max_tokens(self.engine.models()),
            occupancy: &occupancy,
        })
    }

    /// Submits the jobs of a decision before it is logged: what the queue refuses was never decided.
    fn carry_out(
        &self,
        plan: &Plan,
        decision: Decision,
        sla: &str,
    ) -> Result<(Decision, Vec<JobStream>), DeskError> {
        let decision = self.with_referee(plan, self.fitted(plan, decision));
        let facts = self.facts(decision.model)?;
        let streams = self.submit_all(plan, facts, Some(sla))?;
        Ok((decision, streams))
    }

    /// A decision for a model whose context is too short for this request passes to the fitting model that is
    /// likeliest to satisfy.
    fn fitted(&self, plan: &Plan, mut decision: Decision) -> Decision {
        decision.explore.retain(|model| plan.fits(*model));
        if !plan.fits(decision.model) {
            let hope = |model: &ModelId| decision.satisfaction.get(model.index()).copied().unwrap_or(0.0);
            let fitting = self
                .engine
                .models()
                .iter()
                .map(|facts| facts.id)
                .filter(|model| plan.fits(*model));
            if let Some(model) = fitting.max_by(|one, other| hope(one).total_cmp(&hope(other))) {
                // The queue was to be credited with the prediction of the model that now does not answer.
                let gain = hope(&model) - hope(&decision.model);
                decision.credited = (decision.credited + gain).clamp(0.0, 1.0);
                decision.model = model;
                decision.explore.retain(|explored| *explored != model);
            }
        }
        decision
    }

    fn submit_all(
        &self,
        plan: &Plan,
        facts: &ModelFacts,
        sla: Option<&str>,
    ) -> Result<Vec<JobStream>, DeskError> {
        // Dropping the streams submitted so far cancels them when a later one is refused.
        let streams: Result<Vec<_>, EngineError> = plan
            .jobs(&self.engine, facts)
            .into_iter()
            .map(|job| self.engine.submit(job))
            .collect();
        if matches!(streams, Err(EngineError::QueueFull { .. })) {
            self.metrics.ended(Some(facts.id), sla, Ending::Rejected);
        }
        Ok(streams?)
    }

    /// Starts the answers that the router wants to see besides the client's. One that the queue has no room for is
    /// left out: nobody waits for it.
    fn explore(&self, plan: &Plan, decision: &Decision) -> Vec<Exploration> {
        let started = decision.explore.iter().filter_map(|model| {
            let facts = self.facts(*model).ok()?;
            let account = RequestId::fresh();
            let jobs = plan.exploration_jobs(&self.engine, facts, account);
            let streams: Result<Vec<_>, EngineError> =
                jobs.into_iter().map(|job| self.engine.submit(job)).collect();
            match streams {
                Ok(streams) => Some(Exploration {
                    account,
                    model: *model,
                    streams,
                }),
                Err(error) => {
                    tracing::debug!(model = %facts.name, %error, "not explored");
                    None
                }
            }
        });
        started.collect()
    }

    pub(super) fn facts(&self, model: ModelId) -> Result<&ModelFacts, DeskError> {
        self.engine.models().get(model.index()).ok_or(DeskError::Lost)
    }
}

/// Milliseconds with a fraction.
pub(super) fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
