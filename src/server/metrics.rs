//! What Prometheus scrapes: counters kept as things happen, and gauges read at the moment of the scrape.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    CounterVec, Encoder, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry, TextEncoder,
};

use crate::energy::{Account, StepRecord};
use crate::units::ModelId;

/// The media type of Prometheus' text format.
pub(super) const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// How a request ended, as a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Answered,
    Cancelled,
    Failed,
    /// The queue was full.
    Rejected,
}

impl Ending {
    fn label(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
            Self::Rejected => "rejected",
        }
    }
}

/// The label of requests that no promise covers, and of those that no model was chosen for.
const NOBODY: &str = "none";

/// Counters that live as long as the process. Copies share them.
#[derive(Clone)]
pub struct Metrics(Arc<Counters>);

struct Counters {
    registry: Registry,
    models: Vec<String>,
    requests: IntCounterVec,
    joules: HistogramVec,
    tokens: IntCounterVec,
    first_token: HistogramVec,
    between_tokens: HistogramVec,
    explorations: IntCounterVec,
}

impl Metrics {
    /// `models`: the zoo's names in the order of their [`ModelId`]s; `slas`: the names of the service levels. What can be
    /// counted of them stands at nought from the start, so that rates are right from the first request on.
    pub fn new(models: Vec<String>, slas: &[String]) -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let counters = Counters {
            requests: kept(
                &registry,
                IntCounterVec::new(
                    Opts::new("messplus_requests_total", "Requests by how they ended."),
                    &["model", "sla", "outcome"],
                )?,
            )?,
            joules: kept(
                &registry,
                HistogramVec::new(
                    // A thousandth of a joule (a tiny model) to a hundred thousand (70B, long answers).
                    HistogramOpts::new("messplus_request_joules", "Joules of a request, settled.")
                        .buckets(prometheus::exponential_buckets(1e-3, 10f64.sqrt(), 17)?),
                    &["model", "phase"],
                )?,
            )?,
            tokens: kept(
                &registry,
                IntCounterVec::new(
                    Opts::new("messplus_tokens_total", "Tokens computed, exploration included."),
                    &["model", "phase"],
                )?,
            )?,
            first_token: kept(
                &registry,
                HistogramVec::new(
                    HistogramOpts::new(
                        "messplus_time_to_first_token_seconds",
                        "From arrival to the first token.",
                    )
                    .buckets(prometheus::exponential_buckets(1e-3, 2.0, 17)?),
                    &["model"],
                )?,
            )?,
            between_tokens: kept(
                &registry,
                HistogramVec::new(
                    HistogramOpts::new(
                        "messplus_inter_token_seconds",
                        "From one token of an answer to its next.",
                    )
                    .buckets(prometheus::exponential_buckets(1e-4, 2.0, 16)?),
                    &["model"],
                )?,
            )?,
            explorations: kept(
                &registry,
                IntCounterVec::new(
                    Opts::new("messplus_explorations_total", "Decisions taken to learn."),
                    &["sla"],
                )?,
            )?,
            registry,
            models,
        };
        for model in &counters.models {
            for phase in ["prefill", "decode"] {
                counters.joules.with_label_values(&[model, phase]);
                counters.tokens.with_label_values(&[model, phase]);
            }
            counters.first_token.with_label_values(&[model]);
            counters.between_tokens.with_label_values(&[model]);
        }
        for sla in slas {
            counters.explorations.with_label_values(&[sla]);
        }
        Ok(Self(Arc::new(counters)))
    }

    fn name(&self, model: ModelId) -> &str {
        self.0.models.get(model.index()).map_or("unknown", String::as_str)
    }

    /// Counts the tokens of a lane's step. Warming up is not counted: nobody asked for it.
    pub(super) fn step(&self, step: &StepRecord) {
        let (mut prefill, mut decode) = (0, 0);
        for row in step
            .rows
            .iter()
            .filter(|row| !matches!(row.account, Account::Load))
        {
            prefill += u64::from(row.prefill_tokens);
            decode += u64::from(row.decode_tokens);
        }
        let model = self.name(step.model);
        for (phase, tokens) in [("prefill", prefill), ("decode", decode)] {
            if tokens > 0 {
                self.0.tokens.with_label_values(&[model, phase]).inc_by(tokens);
            }
        }
    }

    /// Tokens of a model so far: read and generated.
    pub(super) fn tokens(&self, model: ModelId) -> (u64, u64) {
        let of = |phase| self.0.tokens.with_label_values(&[self.name(model), phase]).get();
        (of("prefill"), of("decode"))
    }

    /// `model` is `None` for a request that was refused before one was chosen.
    pub(super) fn ended(&self, model: Option<ModelId>, sla: Option<&str>, ending: Ending) {
        let model = model.map_or(NOBODY, |model| self.name(model));
        self.0
            .requests
            .with_label_values(&[model, sla.unwrap_or(NOBODY), ending.label()])
            .inc();
    }

    pub(super) fn explored(&self, sla: &str) {
        self.0.explorations.with_label_values(&[sla]).inc();
    }

    pub(super) fn first_token(&self, model: ModelId, after: Duration) {
        self.0
            .first_token
            .with_label_values(&[self.name(model)])
            .observe(after.as_secs_f64());
    }

    pub(super) fn between_tokens(&self, model: ModelId, gap: Duration) {
        self.0
            .between_tokens
            .with_label_values(&[self.name(model)])
            .observe(gap.as_secs_f64());
    }

    pub(super) fn settled(&self, model: ModelId, prefill: f64, decode: f64) {
        let model = self.name(model);
        for (phase, joules) in [("prefill", prefill), ("decode", decode)] {
            self.0.joules.with_label_values(&[model, phase]).observe(joules);
        }
    }

    /// The whole page: the counters, then what `now` read.
    pub(super) fn page(&self, now: &Reading) -> Result<Vec<u8>, prometheus::Error> {
        let mut families = self.0.registry.gather();
        families.extend(now.registry.gather());
        let mut page = Vec::new();
        TextEncoder::new().encode(&families, &mut page)?;
        Ok(page)
    }
}

/// What was read at one scrape. Made anew each time, so that two scrapes at once cannot mix their readings and
/// the shares of a device always add up to what it measured.
pub(super) struct Reading {
    registry: Registry,
    gauges: HashMap<&'static str, GaugeVec>,
    counters: HashMap<&'static str, CounterVec>,
}

impl Reading {
    pub fn new() -> Self {
        Self {
            registry: Registry::new(),
            gauges: HashMap::new(),
            counters: HashMap::new(),
        }
    }

    pub fn gauge(
        &mut self,
        name: &'static str,
        help: &str,
        labels: &[(&str, &str)],
        value: f64,
    ) -> Result<(), prometheus::Error> {
        let (names, values) = split(labels);
        if !self.gauges.contains_key(name) {
            self.gauges.insert(
                name,
                kept(&self.registry, GaugeVec::new(Opts::new(name, help), &names)?)?,
            );
        }
        if let Some(gauge) = self.gauges.get(name) {
            gauge.get_metric_with_label_values(&values)?.set(value);
        }
        Ok(())
    }

    pub fn counter(
        &mut self,
        name: &'static str,
        help: &str,
        labels: &[(&str, &str)],
        value: f64,
    ) -> Result<(), prometheus::Error> {
        let (names, values) = split(labels);
        if !self.counters.contains_key(name) {
            self.counters.insert(
                name,
                kept(&self.registry, CounterVec::new(Opts::new(name, help), &names)?)?,
            );
        }
        if let Some(counter) = self.counters.get(name) {
            counter
                .get_metric_with_label_values(&values)?
                .inc_by(value.max(0.0));
        }
        Ok(())
    }
}

fn split<'a>(labels: &[(&'a str, &'a str)]) -> (Vec<&'a str>, Vec<&'a str>) {
    labels.iter().copied().unzip()
}

fn kept<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> Result<C, prometheus::Error> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::energy::StepRow;
    use crate::units::{DeviceId, Moment, RequestId};

    fn text(metrics: &Metrics, reading: &Reading) -> String {
        String::from_utf8(metrics.page(reading).unwrap()).unwrap()
    }

    #[test]
    fn steps_count_tokens_but_not_the_warm_up() {
        let metrics = Metrics::new(vec!["small".into()], &["default".into()]).unwrap();
        let row = |account, prefill_tokens, decode_tokens| StepRow {
            account,
            prefill_tokens,
            decode_tokens,
            context: 9,
        };
        metrics.step(&StepRecord {
            device: DeviceId(0),
            model: ModelId(0),
            start: Moment(0),
            end: Moment(1),
            rows: vec![
                row(Account::Request(RequestId(1)), 7, 0),
                row(Account::Exploration(RequestId(2)), 0, 1),
                row(Account::Load, 100, 0),
            ],
        });
        let page = text(&metrics, &Reading::new());
        assert!(
            page.contains("messplus_tokens_total{model=\"small\",phase=\"prefill\"} 7"),
            "{page}"
        );
        assert!(
            page.contains("messplus_tokens_total{model=\"small\",phase=\"decode\"} 1"),
            "{page}"
        );
    }

    #[test]
    fn endings_and_readings_share_a_page() {
        let metrics = Metrics::new(vec!["small".into()], &["default".into()]).unwrap();
        metrics.ended(Some(ModelId(0)), Some("default"), Ending::Answered);
        metrics.ended(None, None, Ending::Rejected);
        let mut reading = Reading::new();
        reading
            .counter(
                "messplus_device_joules_total",
                "J",
                &[("device", "cpu"), ("source", "modelled")],
                2.5,
            )
            .unwrap();
        reading
            .gauge("messplus_sla_alpha", "a", &[("sla", "default")], 0.8)
            .unwrap();
        reading
            .gauge("messplus_sla_alpha", "a", &[("sla", "gold")], 0.9)
            .unwrap();
        let page = text(&metrics, &reading);
        for line in [
            "messplus_requests_total{model=\"small\",outcome=\"answered\",sla=\"default\"} 1",
            "messplus_requests_total{model=\"none\",outcome=\"rejected\",sla=\"none\"} 1",
            "messplus_device_joules_total{device=\"cpu\",source=\"modelled\"} 2.5",
            "messplus_sla_alpha{sla=\"gold\"} 0.9",
        ] {
            assert!(page.contains(line), "{line} in\n{page}");
        }
    }
}
