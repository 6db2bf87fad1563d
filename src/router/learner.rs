//! What is known about quality: base rates, rates per kind of request, the learned head, and the gate between
//! them.
//!
//! Base rates and rates per kind must not learn from answers that a finer stage picked: a model that only
//! gets the questions it is good at would look good at everything. Such answers teach the heads alone, which
//! see the text.

use serde::{Deserialize, Serialize};

use super::adapt::Remap;
use super::calibration::Calibration;
use super::cluster::{KINDS, Kinds};
use super::dense::Dense;
use super::drift::Drift;
use super::event::{Context, Stage};
use super::gate::Gate;
use super::hierarchical::{Hierarchical, SATISFACTION};
use super::logistic::{Head, Logit, logit, sigmoid};
use super::memory::Memory;
use super::posterior::{Count, Rates};
use super::topics::{Gist, TEXTS, Topics};

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

impl Belief {
    fn of(said: Logit, deviation: f64) -> Self {
        Self {
            mean: sigmoid(said.mean),
            high: sigmoid(said.mean + 2.0 * said.variance.sqrt()),
            deviation,
        }
    }
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
    #[serde(default)]
    topics: Topics,
    /// What topics are worth, once there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    told: Option<Hierarchical>,
    heads: Vec<Head>,
    #[serde(default)]
    calibration: Calibration,
    /// Heads over embeddings, where texts come with one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dense: Option<Dense>,
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
            topics: Topics::default(),
            told: None,
            heads: vec![Head::default(); if context { count } else { 0 }],
            calibration: Calibration::default(),
            dense: None,
            gate: Gate::default(),
            labels: vec![0; count],
            drift: vec![Drift::default(); count],
            changes: 0,
            settled: 0,
        }
    }

    /// Reads the embeddings of `source` from now on; what another source's have taught is forgotten.
    pub fn read_embeddings(&mut self, source: Option<&str>) {
        let source = source.filter(|_| self.context);
        if self.dense.as_ref().map(Dense::source) != source {
            self.dense = source.map(|source| Dense::new(source, self.labels.len()));
            self.gate.forget_embeddings();
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

    /// A request came by; its text is now known. True when it is time to [`Self::study`].
    pub fn saw(&mut self, context: &Context) -> bool {
        let due = self.context && self.topics.saw();
        if self.context {
            self.kinds.saw(&context.features, context.cluster);
        }
        if let Some(dense) = &mut self.dense {
            dense.saw(context.embedding.as_ref());
        }
        due
    }

    /// What a text is about; None before topics are known.
    pub fn gist(&self, context: &Context) -> Option<Gist> {
        self.topics.gist(&context.features)
    }

    /// Finds anew what texts are about, and learns again what that is worth, from what is remembered. False when
    /// nothing was found.
    pub fn study(&mut self, memory: &Memory) -> bool {
        let texts: Vec<&[u16]> = memory
            .newest()
            .take(TEXTS)
            .map(|entry| entry.decision.context.features.as_slice())
            .collect();
        let found = self.topics.analyse(&texts);
        if found {
            self.relearn(memory);
        }
        found
    }

    fn relearn(&mut self, memory: &Memory) {
        let mut told = Hierarchical::new(self.rates.levels(), &SATISFACTION);
        for entry in memory.oldest() {
            let Some(gist) = self.topics.gist(&entry.decision.context.features) else {
                return;
            };
            for label in &entry.labels {
                told.learn(label.model.index(), &gist, label.satisfied, label.weight);
            }
        }
        self.told = Some(told);
    }

    /// Who speaks of a text that comes with all that texts come with here.
    pub fn stage(&self) -> Stage {
        self.gate.speaks(self.dense.is_some())
    }

    /// Who speaks of this text.
    pub fn stage_for(&self, context: &Context) -> Stage {
        let embedding = context.embedding.as_ref();
        self.gate
            .speaks(self.dense.as_ref().is_some_and(|dense| dense.reads(embedding)))
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
        match self.stage_for(context) {
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
            Stage::Topics => match self.topical(model, context) {
                Some(said) => {
                    let belief = Belief::of(said, deviation);
                    Belief {
                        deviation: belief.mean * (1.0 - belief.mean) * said.variance.sqrt(),
                        ..belief
                    }
                }
                None => Belief {
                    mean: base,
                    high: (base + 2.0 * deviation).min(1.0),
                    deviation,
                },
            },
            Stage::Head => {
                let said = self.worded(model, context, self.kind_rate(base, model, context).0);
                Belief::of(self.calibration.of(said), deviation)
            }
            Stage::Embedding => {
                let said = self.worded(model, context, self.kind_rate(base, model, context).0);
                Belief::of(
                    self.embedded(model, context, said.mean).unwrap_or(said),
                    deviation,
                )
            }
        }
    }

    /// What the text's topics say; None before topics are known.
    fn topical(&self, model: usize, context: &Context) -> Option<Logit> {
        let gist = self.gist(context)?;
        Some(self.told.as_ref()?.predict(model, &gist).moderated())
    }

    /// What the head over words says, uncalibrated, of a text whose kind satisfies at `rate`.
    fn worded(&self, model: usize, context: &Context, rate: f64) -> Logit {
        self.heads[model].predict(&context.features, logit(rate))
    }

    fn embedded(&self, model: usize, context: &Context, offset: f64) -> Option<Logit> {
        self.dense
            .as_ref()?
            .predict(model, context.embedding.as_ref(), offset)
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
            let said = self.worded(model, context, kind);
            let head = sigmoid(self.calibration.of(said).mean);
            let embedded = self.embedded(model, context, said.mean);
            let embedded = embedded.map(|said| sigmoid(said.mean));
            let topical = self
                .topical(model, context)
                .map_or(base, |said| sigmoid(said.mean));
            self.gate.label([base, kind, topical, head], embedded, satisfied);
            if let (Some(told), Some(gist)) = (&mut self.told, self.topics.gist(&context.features)) {
                told.learn(model, &gist, satisfied, weight);
            }
            self.calibration.learn(said, satisfied, weight);
            self.heads[model].learn(&context.features, logit(kind), satisfied, weight);
            if let Some(dense) = &mut self.dense {
                dense.learn(model, context.embedding.as_ref(), said.mean, satisfied, weight);
            }
            if !matches!(picked_by, Some(Stage::Topics | Stage::Head | Stage::Embedding))
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
        self.calibration.doubt();
        if let Some(told) = &mut self.told {
            told.doubt(&SATISFACTION);
        }
        if let Some(dense) = &mut self.dense {
            dense.doubt(changed);
        }
    }

    pub fn fits(&self, models: usize, slas: usize) -> bool {
        let heads = if self.context { models } else { 0 };
        self.rates.fits(models, slas)
            && self.by_kind.len() == models
            && self.labels.len() == models
            && self.drift.len() == models
            && self.heads.len() == heads
            && self.calibration.fits()
            && self.topics.fits()
            && self.told.as_ref().is_none_or(|told| told.fits(models))
            && self.dense.as_ref().is_none_or(|dense| dense.fits(models))
            && self.kinds.fits()
    }

    /// `memory` is that of the new configuration.
    pub fn remap(&mut self, map: &Remap, order: &[usize], promised: f64, memory: &Memory) {
        self.rates.remap(map, order, promised);
        self.by_kind = map.models(&self.by_kind, |_| vec![Count::default(); KINDS]);
        self.labels = map.models(&self.labels, |_| 0);
        self.drift = map.models(&self.drift, |_| Drift::default());
        if self.context {
            self.heads = map.models(&self.heads, |_| Head::default());
        }
        if let Some(dense) = &mut self.dense {
            dense.remap(map);
        }
        if self.told.is_some() && !map.same_models() {
            self.relearn(memory);
        }
    }
}
