//! What a run comes to: as a table for people, as JSON for programs.

use serde_json::{Value, json};

use super::drive::Ended;
use super::numbers::wilson;
use super::tally::{SETTLED, Tally};
use crate::cli::{Align, CliError, table};

/// A run and all that is known about it.
pub struct Report {
    /// How many were to be sent.
    pub requests: usize,
    pub tally: Tally,
    pub ended: Ended,
    /// Answers whose joules never became final.
    pub unsettled: usize,
    pub baseline: Option<Baseline>,
    pub server: ServerView,
}

/// The same questions answered by the dearest model alone.
pub struct Baseline {
    pub model: String,
    pub tally: Tally,
}

/// What the server says of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServerView {
    pub alpha: Option<f64>,
    /// Requests it judged while this run went on, and those it found satisfied.
    pub judged: Option<(u64, u64)>,
    /// |measured − sum of accounts| ÷ measured: the worst device's.
    pub conservation_error: Option<f64>,
}

impl ServerView {
    pub fn new(sla: &str, before: Option<&Value>, after: Option<&Value>, energy: Option<&Value>) -> Self {
        let entry = |router: Option<&Value>| router.and_then(|r| entry(r, sla).cloned());
        let (before, after) = (entry(before), entry(after));
        let judged = match (before.as_ref().and_then(counts), after.as_ref().and_then(counts)) {
            (Some(old), Some(new)) => Some((new.0.saturating_sub(old.0), new.1.saturating_sub(old.1))),
            _ => None,
        };
        Self {
            alpha: after.as_ref().and_then(|e| e["alpha"].as_f64()),
            judged,
            conservation_error: energy.and_then(conservation_error),
        }
    }
}

/// The entry of a promise in `GET /v1/router`.
fn entry<'a>(router: &'a Value, sla: &str) -> Option<&'a Value> {
    router["slas"]
        .as_array()?
        .iter()
        .find(|entry| entry["sla"] == sla)
}

/// Judged and satisfied so far. A verdict may be a share, so the server adds up shares.
fn counts(entry: &Value) -> Option<(u64, u64)> {
    let judged = entry["judged"].as_f64()?;
    // Before the first verdict there is no share of satisfied ones.
    let satisfied = entry["satisfaction"].as_f64().unwrap_or(0.0) * judged;
    Some((judged.round() as u64, satisfied.round() as u64))
}

/// How far the accounts of `GET /v1/energy` are from the meter.
fn conservation_error(energy: &Value) -> Option<f64> {
    const ACCOUNTS: [&str; 6] = [
        "request_joules",
        "exploration_joules",
        "router_joules",
        "idle_joules",
        "load_joules",
        "unattributed_joules",
    ];
    let errors = energy["devices"].as_array()?.iter().filter_map(|device| {
        let measured = device["measured_joules"].as_f64()?;
        let sum: f64 = ACCOUNTS
            .iter()
            .filter_map(|account| device[*account].as_f64())
            .sum();
        Some((measured - sum).abs() / measured.abs().max(1e-9))
    });
    errors.reduce(f64::max)
}

impl Report {
    fn alpha(&self) -> Option<f64> {
        self.tally.alpha().or(self.server.alpha)
    }

    fn ratio(&self) -> Option<f64> {
        let large = self.baseline.as_ref()?.tally.joules_per_request()?;
        Some(self.tally.joules_per_request()? / large).filter(|r| r.is_finite())
    }

    /// The contract's object, and more.
    pub fn as_json(&self) -> String {
        let tally = &self.tally;
        let interval = wilson(tally.satisfied(), tally.answered());
        let [p50, p95, p99] = tally.latency([0.5, 0.95, 0.99]);
        let large = self.baseline.as_ref();
        let models = tally.by_model().into_iter().map(|m| {
            json!({"model": m.model, "answered": m.answered, "satisfied": m.satisfied, "joules_per_request": m.joules})
        });
        let report = json!({
            "requests": tally.answered() + tally.failed(),
            "errors": tally.failed(),
            "alpha": self.alpha(),
            "satisfaction": tally.satisfaction(),
            "satisfaction_interval": interval.map(|(low, high)| [low, high]),
            "satisfaction_low_after_500": tally.lowest_satisfaction(),
            "wrong": tally.answered() - tally.satisfied(),
            "joules_per_request": tally.joules_per_request(),
            "exploration_joules_per_request": tally.exploration_per_request(),
            "explored_share": tally.explored(),
            "large_model": large.map(|b| &b.model),
            "large_requests": large.map(|b| b.tally.answered()),
            "large_satisfaction": large.and_then(|b| b.tally.satisfaction()),
            "large_joules_per_request": large.and_then(|b| b.tally.joules_per_request()),
            "joules_ratio": self.ratio(),
            "share": tally.shares(),
            "models": models.collect::<Vec<_>>(),
            "latency_ms": {"p50": p50, "p95": p95, "p99": p99},
            "meter": tally.meter(),
            "conservation_error": self.server.conservation_error,
            "unsettled": self.unsettled,
            "server_judged": self.server.judged.map(|(judged, _)| judged),
            "server_satisfied": self.server.judged.map(|(_, satisfied)| satisfied),
            "error_messages": tally.errors,
            "complete": self.ended.is_whole(),
        });
        format!("{report:#}")
    }

    pub fn as_table(&self) -> String {
        let facts = self
            .facts()
            .into_iter()
            .map(|(name, text)| vec![name.to_string(), text]);
        let facts = table(&[("measured", Align::Left), ("", Align::Left)], facts);
        let models = self.tally.by_model().into_iter().map(|m| {
            vec![
                m.model.to_string(),
                format!("{:.1} %", m.share * 100.0),
                m.answered.to_string(),
                format!("{:.3}", m.satisfied as f64 / m.answered.max(1) as f64),
                m.joules.map_or("-".into(), |j| format!("{j:.4}")),
            ]
        });
        use Align::{Left, Right};
        let columns = [
            ("model", Left),
            ("share", Right),
            ("answers", Right),
            ("satisfied", Right),
            ("J an answer", Right),
        ];
        format!("{facts}\n\n{}", table(&columns, models))
    }

    fn facts(&self) -> Vec<(&'static str, String)> {
        let tally = &self.tally;
        let none = || "-".to_string();
        let mut facts = vec![(
            "requests",
            format!("{} answered, {} errors", tally.answered(), tally.failed()),
        )];
        facts.extend(
            tally
                .errors
                .iter()
                .take(5)
                .map(|(what, times)| ("", format!("{times} × {what}"))),
        );
        facts.push(("promise α", self.alpha().map_or_else(none, |a| a.to_string())));
        let interval = wilson(tally.satisfied(), tally.answered());
        let satisfied = tally.satisfaction().zip(interval);
        let text = satisfied.map(|(share, (low, high))| format!("{share:.4} (95 %: {low:.4} to {high:.4})"));
        facts.push(("satisfaction", text.unwrap_or_else(none)));
        let low = tally
            .lowest_satisfaction()
            .map(|low| format!("{low:.4} from request {SETTLED} on"));
        facts.push(("its lowest", low.unwrap_or_else(none)));
        if let Some(text) = self.disagreement() {
            facts.push(("server's count", text));
        }
        let joules = tally.joules_per_request().zip(tally.exploration_per_request());
        let text = joules.map(|(all, exploring)| format!("{all:.4}, exploration's {exploring:.4} included"));
        facts.push(("J a request", text.unwrap_or_else(none)));
        if let Some(Baseline { model, tally }) = &self.baseline {
            let joules = tally
                .joules_per_request()
                .map_or_else(none, |j| format!("{j:.4}"));
            let share = tally.satisfaction().map_or_else(none, |s| format!("{s:.4}"));
            let text = format!(
                "{joules}, by {model} on {} of the same questions, {share} satisfied",
                tally.answered()
            );
            facts.push(("J always largest", text));
            facts.push((
                "joules ratio",
                self.ratio().map_or_else(none, |r| format!("{r:.3}")),
            ));
        }
        let explored = tally
            .explored()
            .map_or_else(none, |share| format!("{:.1} % of the requests", share * 100.0));
        facts.push(("explored", explored));
        let [p50, p95, p99] = tally
            .latency([0.5, 0.95, 0.99])
            .map(|ms| ms.map_or_else(none, |ms| format!("{ms:.1}")));
        facts.push(("latency, ms", format!("p50 {p50}, p95 {p95}, p99 {p99}")));
        let meter = tally
            .meter()
            .map_or_else(none, |meter| match meter.contains("modelled") {
                true => format!("{meter}: an estimate, not a measurement"),
                false => meter,
            });
        facts.push(("meter", meter));
        if self.unsettled > 0 {
            facts.push(("not final", format!("the joules of {} answers", self.unsettled)));
        }
        let error = self
            .server
            .conservation_error
            .map(|e| format!("accounts = meter within {e:.1e}"));
        facts.push(("conservation", error.unwrap_or_else(none)));
        facts
    }

    /// What the server counted, where that is not what was counted here. Judging by this client alone, or other
    /// clients at the same time, are reasons for it.
    fn disagreement(&self) -> Option<String> {
        let (judged, satisfied) = self.server.judged?;
        let here = (self.tally.answered() as u64, self.tally.satisfied() as u64);
        let text = format!("{satisfied} of {judged} satisfied, here {} of {}", here.1, here.0);
        ((judged, satisfied) != here).then_some(text)
    }

    /// Whether the run was what was asked for.
    pub fn verdict(&self) -> Result<(), CliError> {
        let (answered, requests) = (self.tally.answered(), self.requests);
        let failed = |text| Err(CliError::Failed(text));
        match &self.ended {
            Ended::Stopped => failed(format!(
                "stopped after {answered} of {requests} requests: the above is so far"
            )),
            Ended::ServerGone(why) => failed(format!(
                "the server went away after {answered} of {requests} requests ({why}): see its log"
            )),
            Ended::Whole if answered == 0 => {
                let said = self
                    .tally
                    .errors
                    .iter()
                    .max_by_key(|(_, n)| **n)
                    .map_or("nothing", |(what, _)| what);
                failed(format!(
                    "none of {requests} requests was answered, the server said {said}: see its log"
                ))
            }
            Ended::Whole => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_accounts_are_held_against_the_meter() {
        let device = |measured: f64| {
            json!({"measured_joules": measured, "request_joules": 3.0, "exploration_joules": 0.5, "router_joules": 0.25,
                "idle_joules": 6.0, "load_joules": 0.25, "unattributed_joules": 0.0, "watts": 4.0})
        };
        assert_eq!(conservation_error(&json!({"devices": [device(10.0)]})), Some(0.0));
        assert_eq!(
            conservation_error(&json!({"devices": [device(10.0), device(20.0)]})),
            Some(0.5)
        );
        assert_eq!(conservation_error(&json!({"devices": []})), None);
        assert_eq!(conservation_error(&json!({})), None);
    }

    #[test]
    fn only_this_run_is_asked_of_the_server() {
        let router = |judged: f64, share: Value| {
            json!({"slas": [{"sla": "gold", "alpha": 0.9, "judged": 1.0, "satisfaction": 1.0},
                {"sla": "default", "alpha": 0.8, "judged": judged, "satisfaction": share}]})
        };
        let view = ServerView::new(
            "default",
            Some(&router(10.0, json!(0.9))),
            Some(&router(30.0, json!(25.0 / 30.0))),
            None,
        );
        assert_eq!(
            (view.alpha, view.judged, view.conservation_error),
            (Some(0.8), Some((20, 16)), None)
        );
        assert_eq!(
            ServerView::new("x", None, Some(&router(1.0, json!(1.0))), None),
            ServerView::default()
        );
    }
}
