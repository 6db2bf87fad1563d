//! Traces are refused with their line, played as Algorithm 1 says, billed in full, and give the same bytes again.

use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::contender::NAMES;
use super::course::{Course, streams};
use super::play::judged;
use super::score::{Run, Score};
use super::*;
use crate::router::draw::Draw;
use crate::router::{Policy, RouterConfig, SlaConfig};

const HEAD: &str = "doc_id,input_text,benchmark_name,label_big,energy_consumption_big,label_tiny,energy_consumption_tiny,note";

/// A trace of two benchmarks and three models; the questions of one kind are beyond the smallest model.
fn made(seed: u64, rows: usize) -> String {
    let mut text = "doc_id,input_text,benchmark_name,category".to_owned();
    for model in ["small", "medium", "large"] {
        text += &format!(",label_{model},energy_consumption_{model},inference_time_{model}");
    }
    text.push('\n');
    for row in 0..rows {
        let mut draw = Draw::new(seed, row as u64);
        let (benchmark, hard) = (["alpha beta", "gamma"][row % 2], draw.below(2) == 1);
        let words = if hard {
            "Multiply, then subtract"
        } else {
            "Say hello to"
        };
        text += &format!(
            "{row},\"{words} {}\",{benchmark},{}",
            draw.below(90),
            if hard { "sums" } else { "talk" }
        );
        let rates = if hard { [0.2, 0.6, 0.9] } else { [0.8, 0.85, 0.9] };
        let lot = draw.uniform();
        for (rate, joules) in rates.iter().zip([10.0, 40.0, 200.0]) {
            text += &format!(
                ",{}.0,{:.3},0.1",
                u8::from(lot < *rate),
                joules * (0.9 + 0.2 * draw.uniform())
            );
        }
        text.push('\n');
    }
    text
}

fn trace(text: &str, reading: &Reading) -> Result<Trace, TraceError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.csv");
    std::fs::write(&path, text).unwrap();
    read(&[path], reading, &mut |_| {})
}

fn small(rows: usize) -> Trace {
    trace(
        &made(1, rows),
        &Reading {
            texts: true,
            models: vec![],
        },
    )
    .unwrap()
}

fn plan(trace: &Trace, policies: &[&str]) -> Plan {
    Plan {
        contenders: policies
            .iter()
            .map(|p| Contender::parse(p, &trace.models).unwrap())
            .collect(),
        alphas: "0.75".parse().unwrap(),
        seeds: 3,
        first_seed: 42,
        shape: Shape::Each,
        limit: usize::MAX,
        swap: None,
        traffic: Traffic::default(),
        context: true,
    }
}

fn runs(trace: &Trace, plan: &Plan) -> Vec<(String, Run)> {
    let results = replay(trace, plan, &|_, _| {}).unwrap();
    let rows = results.sections.into_iter().flat_map(|s| s.rows);
    rows.flat_map(|(row, runs)| runs.into_iter().map(move |run| (row.policy.clone(), run)))
        .collect()
}

#[test]
fn columns_are_found_and_models_put_in_order() {
    let text = format!("{HEAD}\n7,\"two\nlines, quoted\",b,1,9.5,0,2,x\n8,hi,b,,10.5,1,,\n");
    let trace = trace(
        &text,
        &Reading {
            texts: true,
            models: vec![],
        },
    )
    .unwrap();
    assert_eq!(trace.models, ["tiny", "big"]);
    assert_eq!(trace.mean_joules, [2.0, 10.0]);
    // What the second row leaves open is the mean of what is known, and nobody is told it.
    let [tiny, big] = trace.answers(1) else {
        panic!("two models")
    };
    assert_eq!((tiny.satisfied, tiny.judged, tiny.joules), (1.0, true, 2.0));
    assert_eq!((big.satisfied, big.judged, big.joules), (1.0, false, 10.5));
    assert_eq!(trace.features(1), crate::router::features::hashed("hi"));
    assert!(!trace.counts_tokens && !trace.has_confidence);
}

#[test]
fn what_is_no_trace_is_refused_with_its_place() {
    let all: &[&str] = &[];
    let cases = [
        ("doc_id,benchmark_name\n1,b\n", all, ["t.csv:1:", "label_MODEL"]),
        (
            "benchmark_name,label_a\nb,1\n",
            all,
            ["t.csv:1:", "\"energy_consumption_a\" is missing, add it"],
        ),
        (
            "label_a,energy_consumption_a\n1,2\n",
            all,
            ["t.csv:1:", "\"benchmark_name\" is missing"],
        ),
        (
            "benchmark_name,label_a,label_a\nb,1,1\n",
            all,
            ["t.csv:1:", "\"label_a\" is there twice"],
        ),
        (
            "benchmark_name,label_a,energy_consumption_a\nb,1,2\nb,yes,2\n",
            all,
            ["t.csv:3:", "label_a is \"yes\", write"],
        ),
        (
            "benchmark_name,label_a,energy_consumption_a\nb,2,2\n",
            all,
            ["t.csv:2:", "label_a is \"2\""],
        ),
        (
            "benchmark_name,label_a,energy_consumption_a\nb,1,-3\n",
            all,
            ["t.csv:2:", "joules above 0"],
        ),
        (
            "benchmark_name,label_a,energy_consumption_a\nb,1,NaN\n",
            all,
            ["t.csv:2:", "joules above 0"],
        ),
        (
            "benchmark_name,label_a,energy_consumption_a\n\"b\nb\",1,1\nb,1\n",
            all,
            ["t.csv:4:", "2 cells, the head 3"],
        ),
        (
            "benchmark_name,label_a,energy_consumption_a\n ,1,1\n",
            all,
            ["t.csv:2:", "benchmark_name is empty"],
        ),
        (
            "benchmark_name,label_a,energy_consumption_a\nb,,1\n",
            all,
            ["\"a\" in the benchmark \"b\"", "--models"],
        ),
        (
            "benchmark_name,label_a,energy_consumption_a\nb,1,\n",
            all,
            ["known joules", "--models"],
        ),
        (
            "benchmark_name,label_a,energy_consumption_a\n",
            all,
            ["t.csv", "no request"],
        ),
        (
            "benchmark_name,label_a,energy_consumption_a\nb,1,1\n",
            &["c"],
            ["no model \"c\"", "it has a"],
        ),
    ];
    for (text, models, words) in cases {
        let models = models.iter().map(|m| (*m).to_owned()).collect();
        let said = trace(text, &Reading { texts: false, models })
            .expect_err(text)
            .to_string();
        for word in words {
            assert!(said.contains(word), "{text}\n{said}\nlacks {word}");
        }
        assert!(!said.contains('\n'), "{said}");
    }
    let nowhere = read(
        &[PathBuf::from("/nowhere/x.csv")],
        &Reading::default(),
        &mut |_| {},
    )
    .unwrap_err()
    .to_string();
    assert!(
        nowhere.starts_with("/nowhere/x.csv: the trace cannot be read"),
        "{nowhere}"
    );
    let empty = tempfile::tempdir().unwrap();
    let said = read(&[empty.path().to_owned()], &Reading::default(), &mut |_| {})
        .unwrap_err()
        .to_string();
    assert!(said.contains("has no .csv file"), "{said}");
}

#[test]
fn a_folder_is_all_its_files_and_their_zoos_must_agree() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    put(
        "b.csv",
        "benchmark_name,label_x,energy_consumption_x,label_y,energy_consumption_y\nb,1,1,1,2\n",
    );
    put(
        "a.csv",
        "benchmark_name,label_y,energy_consumption_y,label_x,energy_consumption_x\na,0,4,1,1\n",
    );
    put("notes.txt", "no trace");
    let paths: Vec<PathBuf> = vec![folder.path().to_owned()];
    let trace = read(&paths, &Reading::default(), &mut |_| {}).unwrap();
    assert_eq!(
        (trace.benchmarks.join(" "), trace.models.join(" ")),
        ("a b".into(), "x y".into())
    );
    assert_eq!(trace.answers(0)[1].joules, 4.0);
    put("c.csv", "benchmark_name,label_z,energy_consumption_z\nb,1,1\n");
    let said = read(&paths, &Reading::default(), &mut |_| {})
        .unwrap_err()
        .to_string();
    assert!(
        said.contains("c.csv:1: it has the models z, the files before it y, x"),
        "{said}"
    );
}

/// Algorithm 1 written down again, over recorded answers, for a predictor that sees no text.
fn algorithm_one(course: &Course, alpha: f64) -> (Vec<u64>, f64, f64) {
    let models = course.models();
    let (mut queue, mut calls, mut joules, mut satisfied) = (0.0f64, vec![0; models], 0.0, 0.0);
    let (mut seen, mut good) = (vec![0.0; models], vec![0.0; models]);
    let (mut spent, mut answers) = (vec![0.0; models], vec![0.0; models]);
    for at in 0..course.len() {
        let t = (at + 1) as f64;
        let chance = if at == 0 { 1.0 } else { 0.1 / t.powf(0.25) };
        let explores = Draw::new(course.seed, at as u64).uniform() < chance;
        let objective =
            |m: usize| 1e-4 * spent[m] / answers[m] + queue * (alpha - (good[m] + 1.0) / (seen[m] + 2.0));
        let chosen = if explores {
            models - 1
        } else {
            (0..models).fold(0, |best, m| if objective(m) < objective(best) { m } else { best })
        };
        for m in (0..models).filter(|m| explores || *m == chosen) {
            let answer = course.answer(at, m);
            joules += answer.joules;
            spent[m] += answer.joules;
            answers[m] += 1.0;
            if explores {
                seen[m] += 1.0;
                good[m] += answer.satisfied;
            }
        }
        let truth = course.answer(at, chosen).satisfied;
        queue = (queue + alpha - truth).max(0.0);
        calls[chosen] += 1;
        satisfied += truth;
    }
    (calls, joules, satisfied)
}

#[test]
fn paper_is_algorithm_one() {
    let trace = small(600);
    let stream = &streams(&trace, Shape::Mixed)[0];
    for seed in 0..4 {
        let course = Course::new(&trace, stream, seed, usize::MAX, None);
        let sla = SlaConfig {
            name: "default".into(),
            alpha: 0.8,
        };
        let zoo = contender::infos(&trace.models, &trace.mean_joules);
        let mut config = RouterConfig::new(Policy::Paper, zoo, vec![sla], seed);
        config.knobs.context = false;
        let mut score = Score::new(&course, None);
        play::play(&course, config, &Traffic::default(), &mut score).unwrap();
        let run = score.end();
        let (calls, joules, satisfied) = algorithm_one(&course, 0.8);
        assert_eq!(
            (run.calls.clone(), run.satisfied),
            (calls, satisfied),
            "seed {seed}"
        );
        assert!(
            (run.true_joules() - joules).abs() < 1e-6 * joules,
            "{} J, not {joules}",
            run.true_joules()
        );
        assert!(run.explored > 3 && run.exploration_joules > 0.0);
    }
}

#[test]
fn every_policy_is_billed_in_full_and_none_beats_the_oracle() {
    let trace = small(400);
    let mut names: Vec<&str> = NAMES.to_vec();
    names.extend(["fixed:small", "fixed:medium", "fixed:large"]);
    let mut plan = plan(&trace, &names);
    plan.shape = Shape::Mixed;
    let runs = runs(&trace, &plan);
    let oracle = runs
        .iter()
        .find(|(policy, _)| policy == "oracle")
        .unwrap()
        .1
        .clone();
    assert!(oracle.met());
    let total = |model: usize| {
        (0..trace.requests.len())
            .map(|r| trace.answers(r)[model].joules)
            .sum::<f64>()
    };
    for (policy, run) in &runs {
        assert_eq!(
            (run.requests, run.calls.iter().sum::<u64>()),
            (400, 400),
            "{policy}"
        );
        assert!(run.satisfied >= 0.0 && run.satisfied <= 400.0 && run.curve.len() == super::score::POINTS);
        assert!(
            !run.met() || run.true_joules() >= oracle.true_joules() - 1e-6,
            "{policy} beats the oracle"
        );
        if let Some(model) = policy.strip_prefix("fixed:") {
            let place = trace.models.iter().position(|m| m == model).unwrap();
            assert!((run.true_joules() - total(place)).abs() < 1e-6, "{policy}");
        }
        assert!(
            run.explored > 0 || run.exploration_joules == 0.0,
            "{policy} pays for what it did not ask"
        );
    }
}

#[test]
fn feedback_comes_late_or_never() {
    let trace = small(300);
    let queue = |change: &dyn Fn(&mut Traffic)| {
        let mut plan = plan(&trace, &["paper"]);
        plan.shape = Shape::Mixed;
        change(&mut plan.traffic);
        runs(&trace, &plan)
            .iter()
            .map(|(_, run)| run.most_queue)
            .fold(0.0, f64::max)
    };
    assert!(queue(&|_| {}) > 0.0);
    assert_eq!(queue(&|t| t.share = 0.0), 0.0);
    assert_eq!(queue(&|t| t.delay = 300), 0.0);
    assert_eq!(queue(&|t| t.concurrency = 301), 0.0);
    // The first request explores and the largest answers; its label moves the queue at the earliest when the
    // decision after next is taken.
    assert!(queue(&|t| t.delay = 299) <= 0.75);
    let share = (0..20_000).filter(|at| judged(5, *at, 0.3)).count() as f64 / 20_000.0;
    assert!((share - 0.3).abs() < 0.02, "{share}");
}

#[test]
fn qualities_swap_and_promises_change_in_mid_stream() {
    let trace = small(400);
    let mut plan = plan(&trace, &["fixed:small", "fixed:large"]);
    plan.shape = Shape::Mixed;
    let before: Vec<f64> = runs(&trace, &plan).iter().map(|(_, run)| run.satisfied).collect();
    plan.swap = Some(Swap {
        at: 0,
        models: [0, 2],
    });
    let swapped = runs(&trace, &plan);
    assert_eq!(
        (swapped[0].1.satisfied, swapped[3].1.satisfied),
        (before[3], before[0])
    );
    assert!(
        swapped[0].1.true_joules() < swapped[3].1.true_joules(),
        "costs stay"
    );
    plan.swap = None;
    plan.traffic.alphas = vec![(100, 0.95), (300, 0.5)];
    let run = &runs(&trace, &plan)[0].1;
    assert!(
        (run.promised - (75.0 + 190.0 + 50.0)).abs() < 1e-9,
        "{}",
        run.promised
    );
}

#[test]
fn recovery_is_the_first_window_at_the_promise() {
    // Nothing satisfies until request 700, everything does afterwards.
    let mut text = "benchmark_name,label_a,energy_consumption_a\n".to_owned();
    (0..1400).for_each(|row| text += &format!("b,{},1\n", u8::from(row >= 700)));
    let trace = trace(&text, &Reading::default()).unwrap();
    let mut plan = plan(&trace, &["fixed:a"]);
    (plan.shape, plan.swap) = (
        Shape::Chain,
        Some(Swap {
            at: 100,
            models: [0, 0],
        }),
    );
    // 500 requests of which 375 satisfy begin at request 575.
    assert_eq!(runs(&trace, &plan)[0].1.recovered, Some(475));
}

#[test]
fn alphas_are_read_or_found() {
    let alphas: Alphas = "0.5, b=0.7,b=.8".parse().unwrap();
    assert_eq!(
        (alphas.all, alphas.named),
        (vec![0.5], vec![("b".into(), 0.7), ("b".into(), 0.8)])
    );
    for wrong in ["1", "0", "x", "b=", "0.5,,0.6", "b=1.5", "nan"] {
        assert!(
            wrong.parse::<Alphas>().unwrap_err().contains("promises nothing"),
            "{wrong}"
        );
    }
    let trace = small(300);
    let mut plan = plan(&trace, &["random"]);
    plan.alphas = Alphas::default();
    let results = replay(&trace, &plan, &|_, _| {}).unwrap();
    for section in &results.sections {
        assert!(section.alpha > 0.5 && section.alpha < 0.9 && (100.0 * section.alpha).fract().abs() < 1e-9);
    }
    plan.alphas.named = vec![("nothing".into(), 0.5)];
    let said = replay(&trace, &plan, &|_, _| {}).unwrap_err().to_string();
    assert_eq!(
        said,
        "--alpha names the benchmark \"nothing\", the trace has alpha beta, gamma"
    );
}

/// Everything that is written, as one text.
fn written(trace: &Trace, plan: &Plan, threads: usize) -> String {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .unwrap();
    let results = pool.install(|| replay(trace, plan, &|_, _| {})).unwrap();
    let csv = String::from_utf8(results.csv().unwrap()).unwrap();
    let plots: Vec<String> = plots::draw(&results)
        .unwrap()
        .into_iter()
        .map(|(name, svg)| name + &svg)
        .collect();
    format!("{}\n{csv}\n{}", results.json(), plots.join("\n"))
}

#[test]
fn the_same_trace_gives_the_same_bytes() {
    let trace = small(240);
    let mut plan = plan(&trace, &NAMES);
    plan.alphas = "0.7,0.8".parse().unwrap();
    plan.traffic = Traffic {
        concurrency: 4,
        delay: 9,
        share: 0.7,
        alphas: vec![],
    };
    let once = written(&trace, &plan, 1);
    assert_eq!(once, written(&trace, &plan, 4));
    assert!(once.contains("<svg") && once.contains("alpha-beta-0.7-over-time.svg"));
    plan.first_seed = 43;
    assert_ne!(once, written(&trace, &plan, 1), "another seed is another order");
}

#[test]
fn plots_have_no_number_that_is_none() {
    let trace = small(60);
    // One seed, one model that never fails, nothing that learns: the edges of every axis.
    let text = "benchmark_name,label_a,energy_consumption_a\nb/1,1,5\n";
    for (trace, policies) in [
        (&trace, &["random", "mess-plus"][..]),
        (&self::trace(text, &Reading::default()).unwrap(), &["fixed:a"]),
    ] {
        let mut plan = plan(trace, policies);
        plan.seeds = 1;
        let results = replay(trace, &plan, &|_, _| {}).unwrap();
        for (name, svg) in plots::draw(&results).unwrap() {
            assert!(Path::new(&name).components().count() == 1, "{name}");
            assert!(
                svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>") && !svg.contains("NaN"),
                "{name}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever the traffic, a run counts every request once and no feedback is invented.
    #[test]
    fn any_traffic_plays_to_the_end(
        concurrency in 1usize..40, delay in 0usize..40, share in 0.0f64..=1.0, limit in 1usize..90, seed in any::<u64>(),
    ) {
        let trace = small(80);
        let mut plan = plan(&trace, &["mess-plus", "paper", "thompson", "threshold", "cascade"]);
        plan.traffic = Traffic { concurrency, delay, share, alphas: vec![(limit / 2, 0.6)] };
        (plan.limit, plan.first_seed, plan.seeds) = (limit, seed, 1);
        for (policy, run) in runs(&trace, &plan) {
            prop_assert_eq!(run.requests, limit.min(40), "{}", policy);
            prop_assert_eq!(run.calls.iter().sum::<u64>(), run.requests as u64);
            prop_assert!(run.satisfaction() <= 1.0 && run.true_joules() > 0.0);
        }
    }
}
