//! What is known about quality: base rates, rates per kind of request, the learned head, and the gate between
//! them.
//!
//! Base rates and rates per kind must not learn from answers that a finer stage picked: a model that only
//! gets the questions it is good at would look good at everything. Such answers teach the head alone, which
//! sees the text.

use serde::{Deserialize, Serialize};

use super::adapt::Remap;
use super::cluster::{KINDS, Kinds};
use super::drift::Drift;
use super::event::{Context, Stage};
use super::gate::Gate;
use super::logistic::{Head, logit, sigmoid};
use super::posterior::{Count, Rates};

/// A kind's rate starts at the base rate, worth this many answers.
const KIND_SHRINKAGE: f64 = 4.0;
/// Answers that base rates still count after a change was noticed.
const KEPT_OF_CHANGED: f64 = 10.0;
const KEPT_OF_OTHERS: f64 = 30.0;

/// A model's predicted chance of satisfying, and how unsure that is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Belief {
    pub mean: f64,
    /// A plausible best case: two standard deviations up.
    pub high: f64,
    /// Standard deviation of the model's base rate, whatever the text says.
    pub deviation: f64,
}

/// One label, and what the choice of its model may have depended on.
#[derive(Clone, Copy, Debug)]
pub struct Lesson<'a> {
    pub sla: usize,
    pub model: usize,
    pub context: &'a Context,
    pub satisfied: f64,
    pub weight: f64,
    /// The stage that picked the model; None when the model was drawn at random.
    pub picked_by: Option<Stage>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Learner {
    context: bool,
    memory: f64,
    rates: Rates,
    kinds: Kinds,
    /// By model, then kind.
    by_kind: Vec<Vec<Count>>,
    heads: Vec<Head>,
    gate: Gate,
    /// Judged answers per model, whoever picked them.
    labels: Vec<u64>,
    drift: Vec<Drift>,
    /// Changes noticed, and judged answers since the last one.
    changes: u64,
    settled: u64,
}

impl Learner {
    pub fn new(order: &[usize], slas: usize, promised: f64, context: bool, memory: f64) -> Self {
        let count = order.len();
        Self {
            context,
            memory,
            rates: Rates::new(order, slas, promised),
            kinds: Kinds::default(),
            by_kind: vec![vec![Count::default(); KINDS]; count],
            heads: vec![Head::default(); if context { count } else { 0 }],
            gate: Gate::default(),
            labels: vec![0; count],
            drift: vec![Drift::default(); count],
            changes: 0,
            settled: 0,
        }
    }

    /// The kind a text is taken for.
    pub fn kind(&self, features: &[u16]) -> Option<u16> {
        if self.context {
            self.kinds.kind(features)
        } else {
            None
        }
    }

    /// A request came by; its text is now known.
    pub fn saw(&mut self, context: &Context) {
        if self.context {
            self.kinds.saw(&context.features, context.cluster);
        }
    }

    pub fn stage(&self) -> Stage {
        self.gate.speaks()
    }

    pub fn labels(&self, model: usize) -> u64 {
        self.labels[model]
    }

    /// Judged answers since the start or the last noticed change of any model.
    pub fn settled(&self) -> u64 {
        self.settled
    }

    /// How often a model was found to have changed.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Base rate of a model at a service level: mean and standard deviation.
    pub fn rate(&self, sla: usize, model: usize) -> (f64, f64) {
        self.rates.rate(sla, model)
    }

    /// What the admitted stage believes of a model answering a request.
    pub fn belief(&self, sla: usize, model: usize, context: &Context) -> Belief {
        let (base, deviation) = self.rates.cautious(sla, model);
        match self.gate.speaks() {
            Stage::BaseRates => Belief {
                mean: base,
                high: (base + 2.0 * deviation).min(1.0),
                deviation,
            },
            Stage::Clusters => {
                let (mean, own) = self.kind_rate(base, model, context);
                Belief {
                    mean,
                    high: (mean + 2.0 * own).min(1.0),
                    deviation,
                }
            }
            Stage::Head => {
                let offset = logit(self.kind_rate(base, model, context).0);
                let said = self.heads[model].predict(&context.features, offset);
                Belief {
                    mean: sigmoid(said.mean),
                    high: sigmoid(said.mean + 2.0 * said.variance.sqrt()),
                    deviation,
                }
            }
        }
    }

    fn kind_rate(&self, base: f64, model: usize, context: &Context) -> (f64, f64) {
        let count = context
            .cluster
            .and_then(|c| self.by_kind[model].get(usize::from(c)));
        count.copied().unwrap_or_default().posterior(base, KIND_SHRINKAGE)
    }

    pub fn learn(&mut self, lesson: &Lesson) {
        let Lesson {
            sla,
            model,
            context,
            satisfied,
            weight,
            picked_by,
        } = *lesson;
        self.labels[model] += 1;
        self.settled += 1;
        let error = satisfied - self.belief(sla, model, context).mean;
        if self.drift[model].alarms(error, weight) {
            self.doubt(model);
        }
        let base = self.rates.rate(sla, model).0;
        if self.context {
            let kind = self.kind_rate(base, model, context).0;
            let head = sigmoid(self.heads[model].predict(&context.features, logit(kind)).mean);
            self.gate.label([base, kind, head], satisfied);
            self.heads[model].learn(&context.features, logit(kind), satisfied, weight);
            if picked_by != Some(Stage::Head)
                && let Some(count) = context
                    .cluster
                    .and_then(|c| self.by_kind[model].get_mut(usize::from(c)))
            {
                count.add(satisfied, weight, self.memory);
            }
        }
        if matches!(picked_by, None | Some(Stage::BaseRates)) {
            self.rates.add(sla, model, satisfied, weight, self.memory);
        }
    }

    /// Takes a label back, of which another one follows: out of what is counted. The head's step is outweighed by the
    /// other label's.
    pub fn unlearn(&mut self, lesson: &Lesson) {
        let (model, weight) = (lesson.model, -lesson.weight);
        self.labels[model] = self.labels[model].saturating_sub(1);
        self.settled = self.settled.saturating_sub(1);
        if self.context
            && lesson.picked_by != Some(Stage::Head)
            && let Some(count) = lesson
                .context
                .cluster
                .and_then(|c| self.by_kind[model].get_mut(usize::from(c)))
        {
            count.add(lesson.satisfied, weight, self.memory);
        }
        if matches!(lesson.picked_by, None | Some(Stage::BaseRates)) {
            self.rates
                .add(lesson.sla, model, lesson.satisfied, weight, self.memory);
        }
    }

    /// A model has changed. It is learnt anew from where it stands; the others, which may have changed too
    /// without being asked, are trusted less, so that exploring starts again.
    fn doubt(&mut self, changed: usize) {
        self.changes += 1;
        self.settled = 0;
        for model in 0..self.labels.len() {
            let keep = if model == changed {
                KEPT_OF_CHANGED
            } else {
                KEPT_OF_OTHERS
            };
            self.rates.doubt(model, keep);
            self.by_kind[model]
                .iter_mut()
                .for_each(|count| count.fade(0.1 * keep));
        }
        if let Some(head) = self.heads.get_mut(changed) {
            head.doubt();
        }
    }

    pub fn fits(&self, models: usize, slas: usize) -> bool {
        let heads = if self.context { models } else { 0 };
        self.rates.fits(models, slas)
            && self.by_kind.len() == models
            && self.labels.len() == models
            && self.drift.len() == models
            && self.heads.len() == heads
            && self.kinds.fits()
    }

    pub fn remap(&mut self, map: &Remap, order: &[usize], promised: f64) {
        self.rates.remap(map, order, promised);
        self.by_kind = map.models(&self.by_kind, |_| vec![Count::default(); KINDS]);
        self.labels = map.models(&self.labels, |_| 0);
        self.drift = map.models(&self.drift, |_| Drift::default());
        if self.context {
            self.heads = map.models(&self.heads, |_| Head::default());
        }
    }
}
