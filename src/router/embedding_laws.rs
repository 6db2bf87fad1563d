//! What must hold of a router that is handed embeddings.

use proptest::prelude::*;

use super::sim::Scene;
use super::*;
use crate::units::RequestId;

#[test]
fn where_words_say_nothing_an_embedding_saves_joules() {
    let (with, without) = (
        Scene::whispered(),
        Scene {
            embedded: 0.0,
            ..Scene::whispered()
        },
    );
    let run = |scene: &Scene| {
        let runs =
            (1..=4).map(|seed| scene.run(scene.config(Policy::MessPlus, 0.85, seed), 2000, &mut |_| {}));
        runs.collect::<Vec<_>>()
    };
    let (seeing, blind) = (run(&with), run(&without));
    let joules = |runs: &[sim::Outcome]| runs.iter().map(|r| r.joules).sum::<f64>() / runs.len() as f64;
    println!(
        "{:.3} J with embeddings, {:.3} J without",
        joules(&seeing),
        joules(&blind)
    );
    assert!(joules(&seeing) < 0.75 * joules(&blind));
    for run in &seeing {
        assert_eq!(run.router.report()[0].stage, Stage::Embedding);
        assert!(run.satisfaction > 0.835, "{}", run.satisfaction);
    }
}

#[test]
fn requests_without_one_are_answered_by_what_the_words_say() {
    let scene = Scene {
        embedded: 0.6,
        ..Scene::tasks()
    };
    let run = scene.run(scene.config(Policy::MessPlus, 0.85, 2), 1500, &mut |_| {});
    let ask = Ask {
        request: RequestId(1 << 40),
        sla: SlaId(0),
        text: "What is 4 plus 5?",
        prompt_tokens: &[8],
        max_tokens: 64,
        occupancy: &[],
    };
    assert!(run.satisfaction > 0.83, "{}", run.satisfaction);
    let plain = run.router.decide(&ask);
    assert!(plain.stage < Stage::Embedding && plain.context.embedding.is_none());
    let foreign = Embedding::of("elsewhere", &[0.5; 10]);
    assert_eq!(
        run.router.decide_embedded(&ask, foreign),
        plain,
        "another source is not looked at"
    );
}

#[test]
fn another_source_starts_afresh_and_the_rest_stays() {
    let scene = Scene::whispered();
    for policy in [Policy::MessPlus, Policy::Paper] {
        let router = scene.run(scene.config(policy, 0.85, 3), 600, &mut |_| {}).router;
        let mut config = router.config().clone();
        config.embedding = Some("hidden:other".into());
        let mut changed = Router::restore(config.clone(), router.snapshot()).unwrap();
        let (now, then) = (changed.report().remove(0), router.report().remove(0));
        assert_eq!(
            (now.requests, now.judged, now.queue),
            (then.requests, then.judged, then.queue)
        );
        assert!(now.stage < Stage::Embedding);
        // Labels on what the old source embedded still come in.
        let last = router
            .snapshot()
            .state
            .memory
            .newest()
            .next()
            .unwrap()
            .decision
            .clone();
        changed.apply(&RouterEvent::Judged {
            request: last.request,
            model: last.model,
            satisfied: 1.0,
            weight: 1.0,
            source: LabelSource::User,
            decision: None,
        });
        config.embedding = None;
        Router::restore(config, changed.snapshot()).unwrap();
    }
}

#[test]
fn a_decision_with_a_broken_embedding_changes_nothing() {
    let scene = Scene::whispered();
    let mut router = scene
        .run(scene.config(Policy::MessPlus, 0.85, 1), 50, &mut |_| {})
        .router;
    let mut decision = router
        .snapshot()
        .state
        .memory
        .newest()
        .next()
        .unwrap()
        .decision
        .clone();
    decision.request = RequestId(1 << 41);
    let before = router.clone();
    for values in [vec![], vec![1.0; 63], vec![f32::NAN; 64]] {
        decision.context.embedding = Some(Embedding {
            source: "sim".into(),
            values,
        });
        router.apply(&RouterEvent::Decided(Box::new(decision.clone())));
        assert!(router == before);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    /// The log alone, embeddings and all, gives the router back to the bit.
    #[test]
    fn the_log_gives_the_router_back(seed in any::<u64>(), cut in 0usize..700, paper in any::<bool>(), share in 0.3f64..1.0) {
        let scene = Scene { embedded: share, delay: 20, ..Scene::whispered() };
        let policy = if paper { Policy::Paper } else { Policy::MessPlus };
        let mut config = scene.config(policy, 0.85, seed);
        config.knobs.paper_c = 1.0;
        let mut events = vec![];
        let mut log = |event: &RouterEvent| events.push(serde_json::to_string(event).unwrap());
        let lived = scene.run(config.clone(), 300, &mut log).router;
        let cut = cut.min(events.len());
        let read = |text: &String| serde_json::from_str::<RouterEvent>(text).unwrap();
        let mut before = Router::new(config.clone()).unwrap();
        events[..cut].iter().for_each(|text| before.apply(&read(text)));
        let snapshot = serde_json::to_string(&before.snapshot()).unwrap();
        let snapshot = serde_json::from_str(&snapshot).unwrap();
        let back = Router::recover(config, Some(snapshot), events[cut..].iter().map(read)).unwrap();
        prop_assert!(back == lived);
        let text = |router: &Router| serde_json::to_string(&router.snapshot()).unwrap();
        prop_assert_eq!(text(&back), text(&lived));
    }
}
