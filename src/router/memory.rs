//! The last decisions, kept so that whatever comes later (joules, labels, cancellation) finds what it belongs
//! to.

use std::collections::BTreeMap;
use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::adapt::Remap;
use super::config::SlaId;
use super::event::{Decision, LabelSource};
use crate::units::{ModelId, RequestId};

/// What was said of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Label {
    pub model: ModelId,
    /// 0 to 1.
    pub satisfied: f64,
    /// Above 0, at most 1.
    pub weight: f64,
    pub source: LabelSource,
}

/// A decision and what has become of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Remembered {
    pub decision: Decision,
    /// Models whose answer was judged; each counts once.
    pub judged: Vec<ModelId>,
    /// The labels in force, so that a stronger one can replace them; missing in snapshots of earlier builds.
    #[serde(default)]
    pub labels: Vec<Label>,
    /// Models whose joules were booked; each counts once.
    pub finished: Vec<ModelId>,
    /// Their joules; missing in snapshots of earlier builds.
    #[serde(default)]
    pub joules: Vec<f64>,
    /// No label is awaited any more; one that comes still counts.
    pub expired: bool,
    /// Never answered: not counted for the promise.
    pub withdrawn: bool,
}

/// The last `bound` decisions in order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Vec<Remembered>", into = "Vec<Remembered>")]
pub struct Memory {
    order: VecDeque<RequestId>,
    entries: BTreeMap<u64, Remembered>,
}

impl Memory {
    pub fn insert(&mut self, decision: Decision, bound: usize) {
        let request = decision.request;
        self.order.push_back(request);
        let entry = Remembered {
            decision,
            judged: vec![],
            labels: vec![],
            finished: vec![],
            joules: vec![],
            expired: false,
            withdrawn: false,
        };
        self.entries.insert(request.0, entry);
        while self.order.len() > bound.max(1) {
            if let Some(oldest) = self.order.pop_front() {
                self.entries.remove(&oldest.0);
            }
        }
    }

    pub fn get(&self, request: RequestId) -> Option<&Remembered> {
        self.entries.get(&request.0)
    }

    pub fn get_mut(&mut self, request: RequestId) -> Option<&mut Remembered> {
        self.entries.get_mut(&request.0)
    }

    /// Decisions with neither joules nor label for the answer shown, oldest first.
    pub fn unanswered(&self) -> Vec<RequestId> {
        let entries = self.order.iter().filter_map(|r| self.entries.get(&r.0));
        let silent = |entry: &&Remembered| {
            let model = entry.decision.model;
            !entry.withdrawn && !entry.finished.contains(&model) && !entry.judged.contains(&model)
        };
        entries
            .filter(silent)
            .map(|entry| entry.decision.request)
            .collect()
    }

    /// Decisions older than `bound` without a label for the answer shown, oldest first. Ids rise with time.
    pub fn unjudged_before(&self, bound: RequestId) -> Vec<RequestId> {
        let silent = |entry: &&Remembered| {
            !entry.withdrawn && !entry.expired && !entry.judged.contains(&entry.decision.model)
        };
        self.entries
            .range(..bound.0)
            .map(|(_, entry)| entry)
            .filter(silent)
            .map(|entry| entry.decision.request)
            .collect()
    }

    /// From the newest to the oldest.
    pub fn newest(&self) -> impl Iterator<Item = &Remembered> {
        self.order.iter().rev().filter_map(|r| self.entries.get(&r.0))
    }

    pub fn oldest(&self) -> impl Iterator<Item = &Remembered> {
        self.order.iter().filter_map(|r| self.entries.get(&r.0))
    }

    /// Keeps the decisions whose service level and models still exist, under their new numbers.
    pub fn remap(&mut self, map: &Remap) {
        let model = |old: ModelId| map.model(old.index()).map(|new| ModelId(new as u16));
        let kept = std::mem::take(self).into_iter().filter_map(|mut entry| {
            let decision = &mut entry.decision;
            decision.sla = SlaId(map.sla(decision.sla.index())? as u16);
            decision.model = model(decision.model)?;
            decision.explore = decision.explore.iter().filter_map(|m| model(*m)).collect();
            decision.satisfaction = map.models(&decision.satisfaction, |_| 0.5);
            decision.expected = map.models(&decision.expected, |_| crate::units::Joules(0.0));
            let context = &mut decision.context;
            let prompt = context.prompt_tokens.last().copied().unwrap_or(0);
            context
                .prompt_tokens
                .resize(context.prompt_tokens.len().max(1), prompt);
            context.prompt_tokens = map.models(&context.prompt_tokens, |_| prompt);
            context.company = map.models(&context.company, |_| 0);
            entry.judged = entry.judged.iter().filter_map(|m| model(*m)).collect();
            let label = |label: &Label| {
                Some(Label {
                    model: model(label.model)?,
                    ..*label
                })
            };
            entry.labels = entry.labels.iter().filter_map(label).collect();
            let bills: Vec<_> = entry
                .bills()
                .filter_map(|(m, joules)| Some((model(m)?, joules)))
                .collect();
            entry.finished = entry.finished.iter().filter_map(|m| model(*m)).collect();
            if !entry.joules.is_empty() {
                (entry.finished, entry.joules) = bills.into_iter().unzip();
            }
            Some(entry)
        });
        *self = kept.collect::<Vec<_>>().into();
    }

    /// Whether every entry speaks of models and service levels that exist.
    pub fn fits(&self, models: usize, slas: usize) -> bool {
        self.entries
            .values()
            .all(|entry| entry.decision.fits(models, slas))
    }

    fn into_iter(self) -> impl Iterator<Item = Remembered> {
        let Self { order, mut entries } = self;
        order
            .into_iter()
            .filter_map(move |request| entries.remove(&request.0))
    }
}

impl Remembered {
    /// Models that have answered, with the joules of their answers.
    pub fn bills(&self) -> impl Iterator<Item = (ModelId, f64)> {
        self.finished.iter().copied().zip(self.joules.iter().copied())
    }

    /// Puts a label in force. The one that it replaces, if any, or None when the label is not to count: the answer
    /// was judged before by someone who knew as well.
    pub fn label(&mut self, label: Label) -> Option<Option<Label>> {
        if !self.judged.contains(&label.model) {
            self.judged.push(label.model);
            self.labels.push(label);
            return Some(None);
        }
        let held = self.labels.iter_mut().find(|held| held.model == label.model)?;
        label
            .source
            .outranks(held.source)
            .then(|| Some(std::mem::replace(held, label)))
    }
}

impl From<Vec<Remembered>> for Memory {
    fn from(list: Vec<Remembered>) -> Self {
        let order = list.iter().map(|r| r.decision.request).collect();
        Self {
            order,
            entries: list.into_iter().map(|r| (r.decision.request.0, r)).collect(),
        }
    }
}

impl From<Memory> for Vec<Remembered> {
    fn from(memory: Memory) -> Self {
        memory.into_iter().collect()
    }
}
