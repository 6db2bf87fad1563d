//! `messplus profile` as its user meets it: the files it leaves, an interruption, an earlier run to compare with, and
//! its joules against a card whose law is known.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nvml_standin::{BoardConfig, Config, SCRIPT_VARIABLE, Script, library};
use serde_json::Value;

use crate::support::root;

fn command(out: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_messplus"));
    command
        .args(["profile", "--out"])
        .arg(out)
        .args(more)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn profile(out: &Path, more: &[&str]) -> Output {
    command(out, more).output().unwrap()
}

const QUICK: [&str; 10] = [
    "--model",
    "demo-small",
    "--batch",
    "1,3",
    "--prompt-tokens",
    "16",
    "--output-tokens",
    "1,8",
    "--repeat",
    "3",
];

fn read(folder: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(folder.join("profile.json")).unwrap()).unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_run_leaves_figures_that_agree_and_plots_that_need_no_network() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("first");
    let run = profile(&out, &QUICK);
    assert!(run.status.success(), "{}", said(&run));
    assert!(String::from_utf8_lossy(&run.stdout).contains("demo-small"));
    let found = read(&out);
    assert_eq!(found["meter"], "modelled");
    assert!(
        (found["idle_watts"].as_f64().unwrap() - 10.0).abs() < 0.5,
        "{found}"
    );
    let rows = found["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 4);
    for row in rows {
        let number = |name: &str| row[name].as_f64();
        let (joules, prefill) = (
            number("joules_per_request").unwrap(),
            number("prefill_joules_per_token").unwrap(),
        );
        let output = number("output_tokens").unwrap();
        let decode = number("decode_joules_per_token");
        assert_eq!(decode.is_some(), output > 1.0, "{row}");
        assert_eq!(number("inter_token_ms").is_some(), output > 1.0);
        let parts = 16.0 * prefill + decode.map_or(0.0, |decode| decode * (output - 1.0));
        assert!(
            (parts / joules - 1.0).abs() < 1e-6,
            "{parts} J in parts, {joules} J: {row}"
        );
        assert!(
            number("watts").unwrap() > 10.0 && number("watts").unwrap() < 66.0,
            "{row}"
        );
        assert!(
            number("tokens_per_second").unwrap() > 0.0 && row["repeats"] == 3,
            "{row}"
        );
        assert!(row["ci95"]["joules_per_request"].as_f64().unwrap() >= 0.0);
    }
    let csv = std::fs::read_to_string(out.join("profile.csv")).unwrap();
    assert!(csv.starts_with(
        "meter,model,device,dtype,batch,prompt_tokens,output_tokens,repeats,rounds,joules_per_request,"
    ));
    assert_eq!(csv.lines().count(), 5);
    let page = std::fs::read_to_string(out.join("report.html")).unwrap();
    let plots = [
        "joules-per-token",
        "prefill-decode",
        "energy-latency",
        "power-demo-small",
    ];
    for name in plots {
        let svg = std::fs::read_to_string(out.join(format!("{name}.svg"))).unwrap();
        assert!(svg.contains("<svg") && svg.contains("</svg>"), "{name}");
    }
    assert_eq!(page.matches("<svg").count(), plots.len());
    let outside = page.replace("http://www.w3.org/2000/svg", "");
    assert!(!outside.contains("http://") && !outside.contains("https://") && !outside.contains("src="));
    assert!(!out.join("profile.partial.jsonl").exists());

    let again = profile(&out, &QUICK);
    assert_eq!(again.status.code(), Some(2));
    assert!(said(&again).contains("holds a finished run"), "{}", said(&again));

    let second = folder.path().join("second");
    let mut beside = QUICK.to_vec();
    let first = out.display().to_string();
    beside.extend(["--baseline", &first, "--json"]);
    let run = profile(&second, &beside);
    assert!(run.status.success(), "{}", said(&run));
    let printed: Value = serde_json::from_slice(&run.stdout).unwrap();
    assert_eq!(printed, read(&second));
    let changes = printed["baseline"].as_array().unwrap();
    assert_eq!(changes.len(), 4);
    for (change, (now, then)) in changes
        .iter()
        .zip(printed["rows"].as_array().unwrap().iter().zip(rows))
    {
        let joules = |row: &Value| row["joules_per_request"].as_f64().unwrap();
        let ratio = change["joules_ratio"].as_f64().unwrap();
        assert!((ratio - joules(now) / joules(then)).abs() < 1e-9, "{change}");
    }
}

/// Waits until the run's file holds so many lines.
fn wait_for_lines(run: &mut Child, out: &Path, lines: usize) {
    let begun = Instant::now();
    let count =
        || std::fs::read_to_string(out.join("profile.partial.jsonl")).map_or(0, |t| t.lines().count());
    while count() < lines {
        assert!(
            run.try_wait().unwrap().is_none(),
            "the run ended before {lines} lines"
        );
        assert!(begun.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn an_interrupted_run_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path();
    let mut run = command(out, &QUICK).spawn().unwrap();
    // The head and the first setting.
    wait_for_lines(&mut run, out, 2);
    let told = Command::new("kill")
        .args(["-INT", &run.id().to_string()])
        .status();
    assert!(told.unwrap().success());
    let run = run.wait_with_output().unwrap();
    assert_eq!(run.status.code(), Some(1), "{}", said(&run));
    assert!(said(&run).contains("goes on from there"), "{}", said(&run));
    assert!(!out.join("profile.json").exists());
    let path = out.join("profile.partial.jsonl");
    let kept = std::fs::read_to_string(&path).unwrap();
    let first: Value = serde_json::from_str(kept.lines().nth(1).unwrap()).unwrap();

    let other = profile(out, &["--model", "demo-small", "--batch", "2"]);
    assert_eq!(other.status.code(), Some(2));
    assert!(said(&other).contains("--fresh"), "{}", said(&other));

    // A crash in mid-write leaves half a line.
    std::fs::write(&path, format!("{kept}{{\"row\": {{\"model\": \"de")).unwrap();
    let rest = profile(out, &QUICK);
    assert!(rest.status.success(), "{}", said(&rest));
    let found = read(out);
    let rows = found["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 4);
    assert!(
        rows.contains(&first["row"]),
        "{first} is measured again in {found}"
    );
}

#[test]
fn what_cannot_be_measured_is_refused_in_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    for (more, words) in [
        (&["--model", "gpt"][..], "demo-small, demo-medium, demo-large"),
        (&["--prompt-tokens", "100000"], "no setting fits any model"),
        (&["--baseline", "nowhere"], "--baseline takes a folder"),
        (&["--zoo", "nowhere.toml"], "nowhere.toml"),
    ] {
        let run = profile(&out, more);
        let error = said(&run);
        let last = error.lines().last().unwrap_or_default();
        assert_eq!(run.status.code(), Some(2), "{error}");
        assert!(last.contains(words), "{more:?}: {error}");
        assert!(!out.join("profile.json").exists());
    }
}

/// Joules per prompt token, per step, per decoded token and per token attended to.
const LAW: [f64; 4] = [0.004, 0.08, 0.010, 2e-5];
const IDLE_WATTS: f64 = 60.0;

#[test]
fn a_cards_joules_are_those_of_its_law() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let script = Script {
        config: Config {
            boards: vec![BoardConfig {
                tick_ms: 50.0,
                // The card learns of a step from the tape, which a crowded machine writes late.
                delay_ms: 400.0,
                idle: vec![(0.0, IDLE_WATTS)],
                // Joules go by tokens here, so a fast machine draws more than any board could.
                power_limit: 1e5,
                ..BoardConfig::default()
            }],
            ..Config::default()
        },
        tape: Some(path("tape.jsonl")),
        commands: None,
        laws: [("demo-small".to_owned(), LAW)].into(),
    };
    std::fs::write(path("script.json"), serde_json::to_string(&script).unwrap()).unwrap();
    let zoo = std::fs::read_to_string(root().join("models/demo.toml")).unwrap();
    let meter = format!(
        "meter = \"nvml\"\nnvml_library = {:?}\nrecord = \"tape.jsonl\"",
        library()
    );
    std::fs::write(path("zoo.toml"), zoo.replacen("meter = \"auto\"", &meter, 1)).unwrap();
    let zoo = path("zoo.toml").display().to_string();
    let mut command = command(
        &path("out"),
        &[
            "--zoo",
            &zoo,
            "--model",
            "demo-small",
            "--batch",
            "1,4",
            "--prompt-tokens",
            "64",
            "--output-tokens",
            "32",
            "--repeat",
            "4",
        ],
    );
    let run = command
        .env(SCRIPT_VARIABLE, path("script.json"))
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", said(&run));
    let found = read(&path("out"));
    assert_eq!(found["meter"], "nvml");
    let idle = found["idle_watts"].as_f64().unwrap();
    assert!((idle / IDLE_WATTS - 1.0).abs() < 0.03, "{idle} W idle");
    for row in found["rows"].as_array().unwrap() {
        let batch = row["batch"].as_f64().unwrap();
        let (prompt, steps) = (64.0, 32.0);
        // A decode step of a full batch attends to prompt and answer so far; the step is shared by the batch.
        let attended: f64 = (0..32).map(|n| prompt + f64::from(n)).sum();
        let truth = LAW[0] * prompt + LAW[1] * steps / batch + LAW[2] * (steps - 1.0) + LAW[3] * attended;
        let got = row["joules_per_request"].as_f64().unwrap();
        // On a crowded machine the card hears of some steps late; what that does to a repeat, the interval says.
        let interval = row["ci95"]["joules_per_request"].as_f64().unwrap();
        assert!(
            (got - truth).abs() < 0.08 * truth + interval.min(0.1 * truth),
            "{got} J against {truth} J: {row}"
        );
    }
}
