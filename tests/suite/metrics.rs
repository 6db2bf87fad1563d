//! What Prometheus scrapes: the contract's names and labels, and what the Grafana dashboard draws of them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::server::{Server, ask};
use crate::support::{questions, root};

/// Names and labels that users rely on.
const PROMISED: [(&str, &[&str]); 13] = [
    ("messplus_requests_total", &["model", "outcome", "sla"]),
    ("messplus_request_joules", &["model", "phase"]),
    ("messplus_device_joules_total", &["device", "source"]),
    ("messplus_attributed_joules_total", &["device", "share"]),
    ("messplus_tokens_total", &["model", "phase"]),
    ("messplus_time_to_first_token_seconds", &["model"]),
    ("messplus_inter_token_seconds", &["model"]),
    ("messplus_queue_depth", &["model"]),
    ("messplus_kv_pages", &["model", "state"]),
    ("messplus_sla_alpha", &["sla"]),
    ("messplus_sla_satisfaction", &["sla"]),
    ("messplus_virtual_queue", &["sla"]),
    ("messplus_explorations_total", &["sla"]),
];

/// Every series of a scrape by its name, with the names of its labels and its kind.
#[derive(Default)]
struct Scrape {
    labels: BTreeMap<String, BTreeSet<String>>,
    kinds: BTreeMap<String, String>,
}

impl Scrape {
    fn read(text: &str) -> Self {
        let mut scrape = Self::default();
        for line in text.lines() {
            if let Some(typed) = line.strip_prefix("# TYPE ") {
                let (name, kind) = typed.split_once(' ').unwrap();
                assert!(
                    scrape.kinds.insert(name.into(), kind.into()).is_none(),
                    "{name} comes twice"
                );
            } else if !line.starts_with('#') {
                let (series, value) = line.rsplit_once(' ').unwrap();
                assert!(value.parse::<f64>().is_ok(), "{line}");
                let (name, labels) = series.split_once('{').unwrap_or((series, ""));
                let names = labels.trim_end_matches('}').split("\",");
                let names = names
                    .filter_map(|pair| pair.split_once('='))
                    .map(|(name, _)| name.to_owned());
                scrape.labels.entry(name.to_owned()).or_default().extend(names);
            }
        }
        scrape
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_contract_and_the_dashboard_find_their_metrics() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[]);
    let first = Scrape::read(&server.text("/metrics").await);
    assert!(
        first.labels.contains_key("messplus_explorations_total"),
        "counters stand at nought"
    );
    for (question, reference) in &questions()[..24] {
        let mut body = ask("auto", question);
        body["messplus"] = json!({"reference": reference});
        server.chat(body).await;
    }
    let scrape = Scrape::read(&server.text("/metrics").await);
    for (name, labels) in PROMISED {
        let kind = scrape
            .kinds
            .get(name)
            .unwrap_or_else(|| panic!("{name} is missing"));
        let series = if kind == "histogram" {
            format!("{name}_count")
        } else {
            name.to_owned()
        };
        let found: Vec<&str> = scrape.labels[&series].iter().map(String::as_str).collect();
        assert_eq!(found, labels, "{name}");
        let wanted = if name.ends_with("_total") { "counter" } else { kind };
        assert_eq!(kind, wanted, "{name}");
    }

    let dashboard = std::fs::read_to_string(root().join("scripts/grafana/messplus.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels
        .iter()
        .filter_map(|panel| panel["targets"].as_array())
        .flatten();
    let mut drawn = BTreeSet::new();
    for expression in targets.map(|target| target["expr"].as_str().unwrap()) {
        for (at, _) in expression.match_indices("messplus_") {
            let end = expression[at..].find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let name = &expression[at..at + end.unwrap_or(expression.len() - at)];
            assert!(
                scrape.labels.contains_key(name),
                "{name} of '{expression}' is not in a scrape"
            );
            drawn.insert(name.to_owned());
        }
        for grouped in expression.split("by (").skip(1) {
            let labels = grouped.split(')').next().unwrap().split(", ").map(str::to_owned);
            let of: BTreeSet<_> = scrape.labels.values().flatten().cloned().collect();
            assert!(
                labels.into_iter().all(|label| of.contains(&label)),
                "{expression}"
            );
        }
    }
    // All that is promised is drawn.
    for (name, _) in PROMISED {
        assert!(
            drawn.iter().any(|drawn| drawn.starts_with(name)),
            "{name} is not on the dashboard"
        );
    }
    assert!(server.interrupt());
}
