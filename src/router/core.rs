//! The router itself: [`Router::decide`] reads, [`Router::apply`] changes, [`Router::report`] tells.

use super::config::{ConfigError, RouterConfig};
use super::cost::Bill;
use super::draw::Draw;
use super::embedding::Embedding;
use super::event::{Ask, Context, Decision, RouterEvent};
use super::features::{self, Features};
use super::learner::Lesson;
use super::memory::Label;
use super::policy::{Sight, Verdict, World};
use super::report::{self, CostReport, ModelReport, SlaReport};
use super::state::{RouterSnapshot, RouterState, VERSION};
use crate::units::{Joules, ModelId, RequestId};

/// The router. Put it behind one lock; between [`Router::decide`] and the [`RouterEvent::Decided`] that
/// follows it nothing else should be applied, so that every decision sees those before it.
#[derive(Clone, Debug, PartialEq)]
pub struct Router {
    config: RouterConfig,
    order: Vec<ModelId>,
    state: RouterState,
}

impl Router {
    pub fn new(config: RouterConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self {
            order: config.by_size(),
            state: RouterState::new(&config),
            config,
        })
    }

    /// A router as it was when the snapshot was taken, carried over to `config`: models and service levels
    /// are matched by name. Events logged after the snapshot speak of its own zoo: [`Router::recover`] takes
    /// care of that.
    pub fn restore(config: RouterConfig, snapshot: RouterSnapshot) -> Result<Self, ConfigError> {
        Self::recover(config, Some(snapshot), [])
    }

    /// A router brought back: the snapshot, the events logged after it under the snapshot's configuration,
    /// and only then the change to `config`.
    pub fn recover(
        config: RouterConfig,
        snapshot: Option<RouterSnapshot>,
        events: impl IntoIterator<Item = RouterEvent>,
    ) -> Result<Self, ConfigError> {
        let mut router = match snapshot {
            Some(snapshot) if snapshot.version != VERSION => {
                let found = format!("version {} was written by another build", snapshot.version);
                return Err(ConfigError::Snapshot(found));
            }
            Some(RouterSnapshot { config, state, .. }) => {
                config.validate()?;
                state.check(&config)?;
                Self {
                    order: config.by_size(),
                    state,
                    config,
                }
            }
            None => Self::new(config.clone())?,
        };
        for event in events {
            router.apply(&event);
        }
        if router.config == config {
            return Ok(router);
        }
        config.validate()?;
        let state = router.state.adapt(&router.config, &config);
        state.check(&config)?;
        Ok(Self {
            order: config.by_size(),
            state,
            config,
        })
    }

    pub fn config(&self) -> &RouterConfig {
        &self.config
    }

    pub fn snapshot(&self) -> RouterSnapshot {
        RouterSnapshot {
            version: VERSION,
            config: self.config.clone(),
            state: self.state.clone(),
        }
    }

    /// The decision that would be taken now. Changes nothing and gives the same answer until something is
    /// applied; `ask.sla` must be one of the configuration's.
    pub fn decide(&self, ask: &Ask) -> Decision {
        self.decide_embedded(ask, None)
    }

    /// [`Router::decide`] for a text that comes with an embedding. One of another source than the configuration's is
    /// not looked at.
    pub fn decide_embedded(&self, ask: &Ask, embedding: Option<Embedding>) -> Decision {
        let features = if self.config.knobs.context {
            Features {
                ngrams: features::hashed(ask.text),
                embedding: embedding.filter(|e| self.config.embedding.as_ref() == Some(&e.source)),
            }
        } else {
            Features::default()
        };
        self.decide_prepared(ask, features)
    }

    /// [`Router::decide`] for a text whose features were taken before, by [`features::hashed`] alone or with an
    /// embedding; `ask.text` is not looked at. A replay decides about the same texts many times.
    pub fn decide_prepared(&self, ask: &Ask, features: impl Into<Features>) -> Decision {
        let Features { ngrams, embedding } = features.into();
        let (sla, state) = (ask.sla.index(), &self.state);
        let models = self.config.models.len();
        let prompt = |m: usize| {
            ask.prompt_tokens
                .get(m)
                .or(ask.prompt_tokens.last())
                .copied()
                .unwrap_or(0)
        };
        let context = Context {
            cluster: state.learner.kind(&ngrams),
            features: ngrams,
            embedding,
            prompt_tokens: (0..models).map(prompt).collect(),
            company: (0..models)
                .map(|m| ask.occupancy.get(m).map_or(0, |o| o.running))
                .collect(),
            max_tokens: ask.max_tokens,
        };
        let world = self.world();
        let expected: Vec<f64> = (0..models).map(|m| world.joules(sla, m, &context)).collect();
        let alpha = self.config.slas[sla].alpha;
        let mut draw = Draw::new(self.config.seed, state.decisions);
        let sight = Sight {
            sla,
            alpha,
            context: &context,
            expected: &expected,
        };
        let choice = state.policy.rules().choose(&world, &sight, &mut draw);
        let decision = Decision {
            request: ask.request,
            sla: ask.sla,
            policy: self.config.policy.name().to_owned(),
            alpha,
            model: choice.model,
            explore: choice.explore,
            explored: choice.explored,
            propensity: choice.propensity,
            satisfaction: choice.satisfaction,
            credited: choice.credited,
            expected: expected.into_iter().map(Joules).collect(),
            queue: choice.queue,
            price: choice.price,
            stage: choice.stage,
            number: state.decisions,
            context,
        };
        debug_assert!(
            decision.fits(models, self.config.slas.len()),
            "a policy chose what cannot be: {decision:?}"
        );
        decision
    }

    /// Whether feedback on a request needs no `decision` in its [`RouterEvent::Judged`].
    pub fn remembers(&self, request: RequestId) -> bool {
        self.state.memory.get(request).is_some()
    }

    /// Remembered requests whose answer never came: after a crash, the ones to withdraw.
    pub fn unanswered(&self) -> Vec<RequestId> {
        self.state.memory.unanswered()
    }

    /// Requests older than `bound` whose shown answer nobody judged and that have not expired, oldest first.
    pub fn unjudged_before(&self, bound: RequestId) -> Vec<RequestId> {
        self.state.memory.unjudged_before(bound)
    }

    /// The only thing that changes a router. What refers to nothing known, comes twice or makes no sense
    /// changes nothing.
    pub fn apply(&mut self, event: &RouterEvent) {
        match event {
            RouterEvent::Decided(decision) => self.decided(decision),
            RouterEvent::Finished {
                request,
                model,
                prompt_tokens,
                cached_tokens,
                output_tokens,
                joules,
                exploration,
            } => {
                let bill = Bill {
                    prompt: *prompt_tokens,
                    cached: *cached_tokens,
                    output: *output_tokens,
                    joules: joules.0,
                };
                self.finished(*request, *model, bill, *exploration);
            }
            RouterEvent::Judged {
                request,
                model,
                satisfied,
                weight,
                source,
                decision,
            } => {
                let label = Label {
                    model: *model,
                    satisfied: satisfied.clamp(0.0, 1.0),
                    weight: weight.min(1.0),
                    source: *source,
                };
                let sane = satisfied.is_finite() && weight.is_finite() && *weight > 0.0;
                if sane && model.index() < self.config.models.len() {
                    self.judged(*request, label, decision.as_deref());
                }
            }
            RouterEvent::Expired { request } => {
                if let Some(entry) = self.state.memory.get_mut(*request)
                    && !entry.expired
                {
                    entry.expired = true;
                    self.state.tallies[entry.decision.sla.index()].expired += 1;
                }
            }
            RouterEvent::Withdrawn { request } => self.withdrawn(*request),
            RouterEvent::Reset { sla } => {
                if let Some(tally) = self.state.tallies.get_mut(sla.index()) {
                    *tally = report::Tally::new(self.config.models.len());
                    self.state.policy.rules_mut().reset(sla.index());
                }
            }
        }
    }

    /// Per service level, in the configuration's order.
    pub fn report(&self) -> Vec<SlaReport> {
        (0..self.config.slas.len())
            .map(|sla| self.sla_report(sla))
            .collect()
    }

    /// What is known of the models' costs, and how far it was off.
    pub fn cost_report(&self) -> CostReport {
        self.state.costs.report(&self.config.models)
    }

    fn world(&self) -> World<'_> {
        let Self { config, order, state } = self;
        World {
            config,
            order,
            learner: &state.learner,
            costs: &state.costs,
            dearness: state.dearness.as_ref(),
            memory: &state.memory,
        }
    }

    fn decided(&mut self, decision: &Decision) {
        if !decision.fits(self.config.models.len(), self.config.slas.len())
            || self.state.memory.get(decision.request).is_some()
        {
            return;
        }
        let Self { config, order, state } = self;
        state.decisions = state.decisions.max(decision.number) + 1;
        let due = state.learner.saw(&decision.context);
        let tally = &mut state.tallies[decision.sla.index()];
        tally.requests += 1;
        tally.explored += u64::from(decision.explored);
        tally.served[decision.model.index()] += 1;
        state.memory.insert(decision.clone(), config.knobs.remembered);
        if due && state.learner.study(&state.memory) {
            state.relearn_dearness();
        }
        let world = World {
            config,
            order,
            learner: &state.learner,
            costs: &state.costs,
            dearness: state.dearness.as_ref(),
            memory: &state.memory,
        };
        state.policy.rules_mut().decided(&world, decision);
    }

    fn finished(&mut self, request: RequestId, model: ModelId, bill: Bill, unseen: bool) {
        let sane = bill.joules.is_finite() && bill.joules > 0.0 && model.index() < self.config.models.len();
        let RouterState {
            learner,
            costs,
            dearness,
            memory,
            tallies,
            ..
        } = &mut self.state;
        let Some(entry) = memory.get_mut(request).filter(|_| sane) else {
            return;
        };
        if entry.finished.contains(&model) {
            return;
        }
        entry.finished.push(model);
        entry.joules.push(bill.joules);
        let sla = entry.decision.sla.index();
        let tally = &mut tallies[sla];
        let account = if unseen {
            &mut tally.exploration_joules
        } else {
            &mut tally.joules
        };
        account[model.index()] += bill.joules;
        let expected = entry.decision.expected[model.index()].0;
        let context = &entry.decision.context;
        if let (Some(dearness), Some(gist)) = (dearness, learner.gist(context)) {
            let plain = costs.expected(sla, model.index(), context);
            dearness.learn(model.index(), &gist, plain, bill.joules);
        }
        costs.learn(sla, model.index(), context, &bill, expected);
    }

    fn judged(&mut self, request: RequestId, label: Label, late: Option<&Decision>) {
        let (models, slas) = (self.config.models.len(), self.config.slas.len());
        let about =
            |decision: &Decision| label.model == decision.model || decision.explore.contains(&label.model);
        let (decision, withdrawn, replaced) = match (self.state.memory.get_mut(request), late) {
            (Some(entry), _) => {
                if !about(&entry.decision) {
                    return;
                }
                let Some(replaced) = entry.label(label) else {
                    return;
                };
                (entry.decision.clone(), entry.withdrawn, replaced)
            }
            (None, Some(decision)) if decision.request == request && decision.fits(models, slas) => {
                if !about(decision) {
                    return;
                }
                (decision.clone(), false, None)
            }
            _ => return,
        };
        if let Some(replaced) = replaced {
            self.learnt(&decision, withdrawn, replaced, true);
        }
        self.learnt(&decision, withdrawn, label, false);
    }

    /// Everything that a label moves, one way or back.
    fn learnt(&mut self, decision: &Decision, withdrawn: bool, label: Label, retracted: bool) {
        let Self { config, order, state } = self;
        let Label {
            model,
            satisfied,
            weight,
            ..
        } = label;
        let (sla, served) = (decision.sla.index(), model == decision.model);
        let verdict = Verdict {
            decision,
            model,
            satisfied,
            weight,
            withdrawn,
            retracted,
        };
        if served && !withdrawn {
            let tally = &mut state.tallies[sla];
            tally.judged = (tally.judged + verdict.signed_weight()).max(0.0);
            tally.satisfied = (tally.satisfied + verdict.signed_weight() * satisfied).max(0.0);
        }
        let picked_by =
            (!decision.explored || (served && !decision.explore.is_empty())).then_some(decision.stage);
        let lesson = Lesson {
            sla,
            model: model.index(),
            context: &decision.context,
            satisfied,
            weight,
            picked_by,
        };
        if retracted {
            state.learner.unlearn(&lesson);
        } else {
            state.learner.learn(&lesson);
        }
        let world = World {
            config,
            order,
            learner: &state.learner,
            costs: &state.costs,
            dearness: state.dearness.as_ref(),
            memory: &state.memory,
        };
        state.policy.rules_mut().judged(&world, &verdict);
    }

    fn withdrawn(&mut self, request: RequestId) {
        let Some(entry) = self.state.memory.get_mut(request) else {
            return;
        };
        if entry.withdrawn || entry.judged.contains(&entry.decision.model) {
            return;
        }
        entry.withdrawn = true;
        let decision = entry.decision.clone();
        let Self { config, order, state } = self;
        state.tallies[decision.sla.index()].withdrawn += 1;
        let world = World {
            config,
            order,
            learner: &state.learner,
            costs: &state.costs,
            dearness: state.dearness.as_ref(),
            memory: &state.memory,
        };
        state.policy.rules_mut().withdrawn(&world, &decision);
    }

    fn sla_report(&self, sla: usize) -> SlaReport {
        let tally = &self.state.tallies[sla];
        let standing = self.state.policy.rules().standing(&self.world(), sla);
        let requests = tally.requests.max(1) as f64;
        let model = |place: usize| {
            let (satisfaction, satisfaction_sd) = self.state.learner.rate(sla, place);
            ModelReport {
                model: self.config.models[place].name.clone(),
                share: tally.served[place] as f64 / requests,
                requests: tally.served[place],
                joules: Joules(tally.joules[place]),
                exploration_joules: Joules(tally.exploration_joules[place]),
                satisfaction,
                satisfaction_sd,
                labels: self.state.learner.labels(place),
                mean_joules: Joules(self.state.costs.mean(place)),
            }
        };
        SlaReport {
            sla: self.config.slas[sla].name.clone(),
            alpha: self.config.slas[sla].alpha,
            policy: self.config.policy.name().to_owned(),
            requests: tally.requests,
            withdrawn: tally.withdrawn,
            judged: tally.judged,
            expired: tally.expired,
            satisfaction: (tally.judged > 0.0).then(|| tally.satisfied / tally.judged),
            interval: report::wilson(tally.satisfied, tally.judged),
            queue: standing.queue,
            v: standing.v,
            price: standing.price,
            explored_share: tally.explored as f64 / requests,
            exploration_rate: standing.explore_rate,
            reachable: standing.reachable,
            feasible: standing.feasible,
            warming: standing.warming,
            changes: self.state.learner.changes(),
            stage: self.state.learner.stage(),
            models: (0..self.config.models.len()).map(model).collect(),
        }
    }
}
