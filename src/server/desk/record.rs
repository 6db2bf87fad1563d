//! A request's story as the log keeps it, and as `/v1/requests` shows it.

use std::time::UNIX_EPOCH;

use serde_json::{Map, Value, json};

use crate::energy::RequestEnergy;
use crate::engine::ModelFacts;
use crate::router::{Decision, LabelSource};
use crate::server::wire::to_value;
use crate::store::{AnswerRecord, EnergyRecord, RequestRecord, TimingRecord};
use crate::units::ModelId;

use super::story::{Finish, Story, decision_object};

impl Story {
    pub(super) fn record(&self, models: &[ModelFacts]) -> RequestRecord {
        let created = self
            .arrived_at
            .duration_since(UNIX_EPOCH)
            .map_or(0.0, |passed| passed.as_secs_f64());
        let route = if self.decision.is_some() { "auto" } else { "named" };
        let ended = matches!(self.finish, Finish::Stop | Finish::Length);
        RequestRecord {
            sla: self.sla.clone(),
            policy: self.decision.as_ref().map(|decision| decision.policy.clone()),
            decision: self.decision.as_ref().map_or(Value::Null, to_value),
            prompt_tokens: self.usage.prompt_tokens,
            completion_tokens: self.usage.completion_tokens,
            finish_reason: Some(self.finish.word().to_owned()),
            energy: self.energy_record(),
            timing: TimingRecord {
                queue_ms: self.timing.queue_ms,
                route_ms: self.timing.route_ms,
                first_token_ms: ended.then_some(self.timing.first_token_ms),
                total_ms: Some(self.timing.total_ms),
            },
            input_text: self.prompt.clone(),
            answers: self.answer_records(models),
            error: self.error.clone(),
            ..RequestRecord::new(self.request, created, route, &self.facts.name)
        }
    }

    fn energy_record(&self) -> EnergyRecord {
        let Some(energy) = self.energy else {
            return EnergyRecord {
                source: "modelled".to_owned(),
                ..EnergyRecord::default()
            };
        };
        EnergyRecord {
            prefill_joules: energy.prefill.0,
            decode_joules: energy.decode.0,
            exploration_joules: self.exploration_joules(),
            source: energy.source.as_str().to_owned(),
            settled: self.is_final(),
        }
    }

    /// The answer shown comes first.
    fn answer_records(&self, models: &[ModelFacts]) -> Vec<AnswerRecord> {
        if !matches!(self.finish, Finish::Stop | Finish::Length) {
            return Vec::new();
        }
        let settled = self.energy.filter(|energy| energy.is_final);
        let shown = AnswerRecord {
            joules: settled.map(|energy| RequestEnergy::total(&energy).0),
            seconds: Some(self.timing.total_ms / 1e3),
            ..self.labelled(models, self.facts.id, self.judged)
        };
        let others = self.explored.iter().map(|other| AnswerRecord {
            joules: other.energy.map(|energy| energy.exploration.0),
            seconds: Some(other.seconds),
            ..self.labelled(models, other.model, other.judged)
        });
        std::iter::once(shown).chain(others).collect()
    }

    /// A model's answer with what was said of it; a reference speaks before all others.
    fn labelled(&self, models: &[ModelFacts], model: ModelId, judged: Option<f64>) -> AnswerRecord {
        let label = self.labels.iter().find(|label| label.model == model);
        let source = match (judged, label) {
            (Some(_), _) => Some(LabelSource::Reference),
            (None, label) => label.map(|label| label.source),
        };
        AnswerRecord {
            model: name(models, model),
            label: judged.or(label.map(|label| label.satisfied)),
            label_source: source.map(|source| source.as_str().to_owned()),
            label_weight: label.filter(|_| judged.is_none()).map(|label| label.weight),
            ..AnswerRecord::default()
        }
    }
}

fn name(models: &[ModelFacts], model: ModelId) -> String {
    models
        .get(model.index())
        .map_or_else(String::new, |facts| facts.name.clone())
}

/// A record for people: the decision speaks of models by name, and what it saw of the text is left out.
pub(super) fn shown(record: &RequestRecord, models: &[ModelFacts]) -> Value {
    let mut object = to_value(record);
    let decision = serde_json::from_value::<Decision>(record.decision.clone()).ok();
    // Numbers of another zoo's models would be given the wrong names; then the bare record must do.
    let ours = decision.filter(|decision| name(models, decision.model) == record.model);
    if let Some(decision) = ours {
        object["decision"] = explained(&decision, record, models);
    }
    object
}

/// A decision with models by name: also the answer of the dry run.
pub(super) fn explained_decision(decision: &Decision, sla: &str, models: &[ModelFacts]) -> Value {
    let explore: Vec<String> = decision
        .explore
        .iter()
        .map(|model| name(models, *model))
        .collect();
    let mut object = Map::new();
    object.insert("policy".to_owned(), json!(decision.policy));
    object.insert("model".to_owned(), json!(name(models, decision.model)));
    if let Value::Object(parts) = to_value(&decision_object(decision, sla, models)) {
        object.extend(parts);
    }
    object.insert("explore".to_owned(), json!(explore));
    object.insert("propensity".to_owned(), json!(decision.propensity));
    object.insert("price".to_owned(), json!(decision.price));
    object.insert("stage".to_owned(), to_value(&decision.stage));
    object.insert("number".to_owned(), json!(decision.number));
    Value::Object(object)
}

fn explained(decision: &Decision, record: &RequestRecord, models: &[ModelFacts]) -> Value {
    explained_decision(decision, record.sla.as_deref().unwrap_or_default(), models)
}
