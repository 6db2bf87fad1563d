//! Joules of a real server against the truth. A stand-in card follows the server's own tape of steps and draws what a
//! known law says; the test computes each request's true joules by that law itself.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use messplus::energy::{RequestEnergy, replay_tape};
use messplus::units::RequestId;
use nvml_standin::{BoardConfig, Config, SCRIPT_VARIABLE, Script, library};
use serde_json::{Value, json};

use crate::server::{Server, ask, command};
use crate::support::{questions, root};

/// By model: joules per prompt token, per step, per decoded token and per token attended to.
const LAWS: [(&str, [f64; 4]); 3] = [
    ("demo-small", [0.004, 0.08, 0.010, 2e-5]),
    ("demo-medium", [0.010, 0.25, 0.030, 6e-5]),
    ("demo-large", [0.030, 0.70, 0.080, 2e-4]),
];
const IDLE_WATTS: f64 = 75.0;
/// Longer than a step takes, even on a busy machine: a step is on the tape only after its end.
const DELAY_MS: f64 = 200.0;
/// The demo models' end of text; forbidden, so that answers are as long as they may be.
const END_OF_TEXT: &str = "5";

/// How long the server may take to find the card's delay, how long it then has to fit the law anew, and how long its
/// bills are looked at.
const FINDING: Duration = Duration::from_secs(12);
const FITTING: Duration = Duration::from_secs(5);
const LOOKING: Duration = Duration::from_secs(6);
/// Of all requests this share, the longest, must each be right; the others must be right in sum. How long they are
/// is the machine's to say.
const LONGEST: f64 = 0.2;
/// A server rests before its first client, and a rest tells its idle watts.
const REST: Duration = Duration::from_millis(3_500);

/// A server whose card is played, and the card's files.
struct House {
    server: Arc<Server>,
    folder: tempfile::TempDir,
}

impl House {
    fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let board = BoardConfig {
            tick_ms: 60.0,
            delay_ms: DELAY_MS,
            idle: vec![(0.0, IDLE_WATTS)],
            // Joules go by tokens here, so a fast machine draws more than any board could.
            power_limit: 1e5,
            ..BoardConfig::default()
        };
        let script = Script {
            config: Config {
                boards: vec![board],
                ..Config::default()
            },
            tape: Some(path("tape.jsonl")),
            commands: Some(path("commands")),
            laws: LAWS.map(|(model, law)| (model.to_owned(), law)).into(),
        };
        std::fs::write(path("script.json"), serde_json::to_string(&script).unwrap()).unwrap();
        File::create(path("commands")).unwrap();
        let zoo = std::fs::read_to_string(root().join("models/demo.toml")).unwrap();
        let energy = format!(
            "meter = \"nvml\"\nnvml_library = {:?}\nrecord = \"tape.jsonl\"",
            library()
        );
        let played = zoo.replacen("meter = \"auto\"", &energy, 1);
        assert_ne!(played, zoo);
        std::fs::write(path("zoo.toml"), played).unwrap();
        let zoo = path("zoo.toml").display().to_string();
        let mut command = command(&path("data"), &["--zoo", &zoo]);
        command
            .env(SCRIPT_VARIABLE, path("script.json"))
            .stderr(File::create(path("log")).unwrap());
        let server = Arc::new(Server::spawn(command));
        Self { server, folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Tells the card what befalls it.
    fn befall(&self, line: &str) {
        let mut file = File::options().append(true).open(self.path("commands")).unwrap();
        writeln!(file, "{line}").unwrap();
    }

    /// The one device of `/v1/energy`, which must add up.
    async fn device(&self) -> Value {
        conserved(&self.server).await
    }

    /// The latest moment on the tape, in nanoseconds.
    fn now(&self) -> u64 {
        let tape = std::fs::read_to_string(self.path("tape.jsonl")).unwrap();
        let entries = tape
            .lines()
            .rev()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut moments = entries.filter_map(|entry| entry["reading"]["at"].as_u64());
        moments.next().expect("the meter is read all the time")
    }

    /// A counter of `/metrics` with these words in its labels; 0 when it is not there.
    async fn metric(&self, name: &str, words: &str) -> f64 {
        let page = self.server.text("/metrics").await;
        samples(&page, name)
            .filter(|(labels, _)| labels.contains(words))
            .map(|(_, value)| value)
            .sum()
    }
}

/// The samples of a metric: labels and value.
fn samples<'a>(page: &'a str, name: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
    page.lines()
        .filter_map(move |line| line.strip_prefix(name)?.strip_prefix('{')?.split_once("} "))
        .map(|(labels, value)| (labels, value.parse().unwrap()))
}

/// Looks at both pages of energy and holds their accounts against the meter; gives the device.
async fn conserved(server: &Server) -> Value {
    let page = server.text("/metrics").await;
    let sum = |name| samples(&page, name).map(|(_, joules)| joules).sum::<f64>();
    let (meter, shares) = (
        sum("messplus_device_joules_total"),
        sum("messplus_attributed_joules_total"),
    );
    assert!(
        (meter - shares).abs() <= 1e-9 * meter,
        "metrics: {meter} J counted, {shares} J shared out"
    );
    let mut energy = server.get("/v1/energy").await;
    let device = energy["devices"][0].take();
    let joules = |account: &str| device[format!("{account}_joules")].as_f64().unwrap();
    let accounts = ["request", "exploration", "router", "idle", "load", "unattributed"];
    let (meter, shares) = (joules("measured"), accounts.map(joules).iter().sum::<f64>());
    assert!((meter - shares).abs() <= 1e-9 * meter, "/v1/energy: {device}");
    device
}

/// What the tape says by the law.
struct Truth {
    /// True joules by request.
    joules: BTreeMap<String, f64>,
    /// Nanoseconds of each request's first and last moment.
    lives: BTreeMap<String, (u64, u64)>,
    /// The most rows that a step had.
    widest: usize,
    /// Of all steps.
    total: f64,
    /// From the first reading to the last.
    seconds: f64,
}

/// Applies the law to the tape.
fn truth(tape: &Path) -> Truth {
    let text = std::fs::read_to_string(tape).unwrap();
    let mut lines = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let header = lines.next().unwrap();
    let laws: BTreeMap<&str, [f64; 4]> = LAWS.into();
    let mut truth = Truth {
        joules: BTreeMap::new(),
        lives: BTreeMap::new(),
        widest: 0,
        total: 0.0,
        seconds: 0.0,
    };
    let mut first = None;
    for entry in lines {
        if let Some(at) = entry["reading"]["at"].as_u64() {
            truth.seconds = (at - *first.get_or_insert(at)) as f64 * 1e-9;
        }
        let Some(rows) = entry["step"]["rows"].as_array() else {
            continue;
        };
        let step = &entry["step"];
        let model = step["model"].as_u64().unwrap() as usize;
        let law = laws[header["tape"]["models"][model].as_str().unwrap()];
        let (start, end) = (step["start"].as_u64().unwrap(), step["end"].as_u64().unwrap());
        truth.widest = truth.widest.max(rows.len());
        for row in rows {
            let number = |name: &str| row[name].as_f64().unwrap();
            let joules = law[0] * number("prefill_tokens")
                + law[1] / rows.len() as f64
                + law[2] * number("decode_tokens")
                + law[3] * number("context");
            truth.total += joules;
            if let Some(id) = row["account"]["request"].as_str() {
                *truth.joules.entry(id.to_owned()).or_default() += joules;
                truth.lives.entry(id.to_owned()).or_insert((start, end)).1 = end;
            }
        }
    }
    truth
}

/// Clients that ask one model after the other until they are told to stop; gives the answers' ids.
struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<tokio::task::JoinHandle<Vec<String>>>,
}

impl Load {
    /// `clients` for each model. How long prompts and answers are is drawn from a fixed seed.
    fn start(house: &House, clients: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let draws = Arc::new(AtomicU64::new(1));
        let questions: Arc<Vec<String>> = Arc::new(questions().into_iter().map(|(q, _)| q).collect());
        let client = |place: usize| {
            let (stop, server) = (stop.clone(), house.server.clone());
            let (questions, draws) = (questions.clone(), draws.clone());
            tokio::spawn(async move {
                let mut ids = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let draw = draws
                        .fetch_add(1, Ordering::Relaxed)
                        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                        >> 32;
                    let first = draw as usize % (questions.len() - 8);
                    let text = questions[first..=first + draw as usize % 7].join(" ");
                    let mut body = ask(LAWS[place % LAWS.len()].0, &text);
                    // One in three is long.
                    let most = if draw.is_multiple_of(3) { 330 } else { 80 };
                    body["max_tokens"] = (10 + draw % most).into();
                    body["logit_bias"] = json!({END_OF_TEXT: -100});
                    body["temperature"] = 1.into();
                    body["seed"] = draw.into();
                    let answer = server.chat(body).await;
                    ids.push(answer["messplus"]["request_id"].as_str().unwrap().to_owned());
                    // Idle clients now and then, so that batches are of every size.
                    tokio::time::sleep(Duration::from_millis(draw % 900)).await;
                }
                ids
            })
        };
        let clients = (0..clients * LAWS.len()).map(client).collect();
        Self { stop, clients }
    }

    async fn end(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        let mut ids = Vec::new();
        for client in self.clients {
            ids.extend(client.await.expect("a client gets its answers"));
        }
        ids
    }
}

/// The settled bills of these requests, as the log shows them.
async fn bills(house: &House, ids: &[String]) -> BTreeMap<String, RequestEnergy> {
    let mut bills = BTreeMap::new();
    let patience = Instant::now() + Duration::from_secs(10);
    for id in ids {
        let energy = loop {
            let record = house.server.get(&format!("/v1/requests/{id}")).await;
            let energy = record["energy"].clone();
            if energy["final"] == true {
                break energy;
            }
            assert!(Instant::now() < patience, "{id} is never settled: {record}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        let joules = |name: &str| messplus::units::Joules(energy[name].as_f64().unwrap());
        let bill = RequestEnergy {
            prefill: joules("prefill_joules"),
            decode: joules("decode_joules"),
            exploration: joules("exploration_joules"),
            source: serde_json::from_value(energy["source"].clone()).unwrap(),
            is_final: true,
        };
        bills.insert(id.clone(), bill);
    }
    bills
}

#[tokio::test(flavor = "multi_thread")]
async fn the_joules_of_requests_are_those_that_were_spent() {
    let house = House::open();
    tokio::time::sleep(REST).await;
    let load = Load::start(&house, 16);
    let (begun, mut learnt, mut scrapes) = (Instant::now(), None, 0);
    // Until the card's delay is found, energy is placed where it was not spent; then the law is fitted anew.
    let until = |learnt: &Option<(Instant, u64)>| learnt.map_or(begun + FINDING, |(at, _)| at + LOOKING);
    while Instant::now() < until(&learnt) {
        let device = house.device().await;
        assert_eq!(device["source"], "nvml");
        let lag = device["lag_seconds"].as_f64().unwrap() * 1e3;
        if learnt.is_none() && (lag - DELAY_MS).abs() < 25.0 {
            tokio::time::sleep(FITTING).await;
            learnt = Some((Instant::now(), house.now()));
        }
        scrapes += 1;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (_, learnt) = learnt.expect("the card's delay is found");
    let ids = load.end().await;
    let bills = bills(&house, &ids).await;
    let device = house.device().await;

    let truth = truth(&house.path("tape.jsonl"));
    let (mut judged, mut got, mut want) = (Vec::new(), 0.0, 0.0);
    for (id, bill) in &bills {
        let ((start, end), joules) = (truth.lives[id], truth.joules[id]);
        if start < learnt {
            continue;
        }
        got += bill.total().0;
        want += joules;
        judged.push((end - start, (bill.total().0 / joules - 1.0).abs()));
    }
    judged.sort_by_key(|(life, _)| std::cmp::Reverse(*life));
    judged.truncate((LONGEST * judged.len() as f64).ceil() as usize);
    let shortest = judged.last().map_or(0, |(life, _)| life / 1_000_000);
    let mut errors: Vec<f64> = judged.into_iter().map(|(_, error)| error).collect();
    errors.sort_by(f64::total_cmp);
    let (median, p95) = (errors[errors.len() / 2], errors[errors.len() * 95 / 100]);
    let bias = got / want - 1.0;
    println!(
        "{} requests, the longest {} after learning of {shortest} ms or more, {scrapes} scrapes, batches up to {}: median error \
         {median:.4}, p95 {p95:.4}, bias {bias:.4}; {device}",
        bills.len(),
        errors.len(),
        truth.widest
    );
    assert!(truth.widest >= 8 && errors.len() >= 20, "too little was going on");
    assert!(median <= 0.03, "median error {median}");
    assert!(p95 <= 0.10, "95th percentile {p95}");
    assert!(bias.abs() <= 0.02, "bias {bias}");

    // What an auditor gets from the tape is what the log says.
    let replay = replay_tape(&house.path("tape.jsonl")).unwrap();
    for (id, bill) in &bills {
        assert_eq!(replay.requests[&id.parse::<RequestId>().unwrap()], *bill, "{id}");
    }
}

/// Waits until a metric reaches a value.
async fn until(house: &House, name: &str, words: &str, least: f64) {
    let patience = Instant::now() + Duration::from_secs(10);
    while house.metric(name, words).await < least {
        assert!(Instant::now() < patience, "{name} {words} does not reach {least}");
        house.device().await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

const ALARMS: &str = "messplus_energy_alarms_total";
const GAPS: &str = "messplus_energy_gap_seconds_total";

#[tokio::test(flavor = "multi_thread")]
async fn a_card_that_goes_and_comes_costs_a_marked_gap_and_never_a_wrong_total() {
    let house = House::open();
    let load = Load::start(&house, 1);
    let patience = Instant::now() + Duration::from_secs(10);
    // Nothing is booked before the meter has passed its test.
    let healthy = loop {
        let device = house.device().await;
        if device["meter_check"]["state"] == "passed" && device["measured_joules"] != 0.0 {
            break device;
        }
        assert!(Instant::now() < patience, "{device}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert!(healthy["measured_joules"].as_f64().unwrap() > 0.0);
    assert_eq!(house.metric(ALARMS, "").await, 0.0, "{healthy}");
    let gaps = house.metric(GAPS, "").await;

    house.befall("vanish 0 gpu_lost");
    until(&house, ALARMS, "kind=\"unreadable\"", 1.0).await;
    house.befall("return 0");
    until(&house, ALARMS, "kind=\"restarted\"", 1.0).await;
    let after_loss = house.metric(GAPS, "").await;
    assert!(after_loss > gaps + 0.4, "{after_loss} s of gaps after {gaps}");

    house.befall("jump 0 -5000000");
    until(&house, ALARMS, "kind=\"backwards\"", 1.0).await;
    // The driver is loaded anew, and its counter begins at 0.
    house.befall("vanish 0 driver_not_loaded");
    // So long that requests are settled by estimate.
    until(&house, ALARMS, "kind=\"stall\"", 1.0).await;
    house.befall("reset 0");
    house.befall("return 0");
    until(&house, ALARMS, "kind=\"restarted\"", 2.0).await;
    tokio::time::sleep(Duration::from_secs(1)).await;

    let bills = bills(&house, &load.end().await).await;
    let (device, alarms) = (house.device().await, house.metric(ALARMS, "").await);
    let gap = house.metric(GAPS, "").await;
    println!(
        "{} requests, {alarms} alarms, {gap} s of gaps: {device}",
        bills.len()
    );
    assert!(gap > after_loss + 3.0);
    assert_eq!(device["gap_seconds"].as_f64().unwrap(), gap);
    let sources = bills.values().map(|bill| bill.source.as_str());
    assert!(sources.clone().any(|s| s == "modelled") && sources.clone().any(|s| s == "nvml"));
    assert!(bills.values().all(|bill| bill.total().0 >= 0.0));

    // No more was counted than was drawn, and no less than was drawn outside the gaps.
    let truth = truth(&house.path("tape.jsonl"));
    let drawn = truth.total + IDLE_WATTS * truth.seconds;
    let measured = device["measured_joules"].as_f64().unwrap();
    assert!(measured <= drawn, "{measured} J counted of {drawn} J drawn");
    let most_watts = 1_000.0;
    assert!(
        measured >= drawn - most_watts * gap,
        "{measured} J counted of {drawn} J drawn, {gap} s unseen"
    );
    let log = std::fs::read_to_string(house.path("log")).unwrap();
    for word in ["gives no reading", "reads again", "went backwards", "restarted"] {
        assert!(log.contains(word), "the log does not say {word}");
    }
}
