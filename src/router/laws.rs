//! What must hold whatever the stream: strange events, restarts, changed zoos.

use proptest::prelude::*;

use super::sim::Scene;
use super::*;
use crate::units::{Joules, ModelId, RequestId};

#[test]
fn strange_events_change_nothing() {
    let scene = Scene::plain();
    let mut router = scene
        .run(scene.config(Policy::MessPlus, 0.85, 1), 200, &mut |_| {})
        .router;
    let request = RequestId(1 << 40);
    let ask = Ask {
        request,
        sla: SlaId(0),
        text: "hi",
        prompt_tokens: &[3],
        max_tokens: 8,
        occupancy: &[],
    };
    let decision = router.decide(&ask);
    assert_eq!(decision, router.decide(&ask), "a dry run is a dry run");
    let decided = RouterEvent::Decided(Box::new(decision.clone()));
    router.apply(&decided);
    let judged = |request, model, satisfied, weight| RouterEvent::Judged {
        request,
        model,
        satisfied,
        weight,
        source: LabelSource::User,
        decision: None,
    };
    router.apply(&judged(request, decision.model, 1.0, 1.0));
    let before = router.clone();
    let mut wrong = decision.clone();
    wrong.request = RequestId(1 << 41);
    wrong.satisfaction.pop();
    for event in [
        decided,
        RouterEvent::Decided(Box::new(wrong)),
        judged(request, decision.model, 0.0, 1.0),
        judged(request, ModelId(77), 1.0, 1.0),
        judged(RequestId(5 << 40), ModelId(0), 1.0, 1.0),
        judged(request, ModelId(0), f64::NAN, 1.0),
        RouterEvent::Withdrawn { request },
        RouterEvent::Expired {
            request: RequestId(5 << 40),
        },
        RouterEvent::Reset { sla: SlaId(9) },
        RouterEvent::Finished {
            request,
            model: ModelId(0),
            prompt_tokens: 1,
            cached_tokens: 0,
            output_tokens: 1,
            joules: Joules(f64::NAN),
            exploration: false,
        },
    ] {
        router.apply(&event);
        assert!(router == before, "{event:?}");
    }
}

/// A judge's word that a user corrects leaves the counts and the queue as if the user alone had spoken.
#[test]
fn a_stronger_label_replaces_a_weaker_one_and_never_the_other_way_round() {
    let scene = Scene::plain();
    for policy in [
        Policy::MessPlus,
        Policy::Paper,
        Policy::Thompson,
        Policy::Threshold,
    ] {
        let mut config = scene.config(policy, 0.85, 1);
        config.knobs.context = false;
        let mut router = scene.run(config, 400, &mut |_| {}).router;
        let request = RequestId(1 << 40);
        let ask = Ask {
            request,
            sla: SlaId(0),
            text: "hi",
            prompt_tokens: &[3],
            max_tokens: 8,
            occupancy: &[],
        };
        let model = router.decide(&ask).model;
        router.apply(&RouterEvent::Decided(Box::new(router.decide(&ask))));
        let says = |source, satisfied, weight| RouterEvent::Judged {
            request,
            model,
            satisfied,
            weight,
            source,
            decision: None,
        };
        let mut alone = router.clone();
        alone.apply(&says(LabelSource::User, 0.0, 1.0));
        router.apply(&says(LabelSource::Agreement, 1.0, 0.3));
        router.apply(&says(LabelSource::Judge, 1.0, 0.5));
        let before = router.clone();
        router.apply(&says(LabelSource::Agreement, 0.0, 1.0));
        assert!(router == before, "a weaker word changes nothing");
        router.apply(&says(LabelSource::User, 0.0, 1.0));
        let (ours, theirs) = (router.report().remove(0), alone.report().remove(0));
        let near = |a: f64, b: f64| (a - b).abs() < 1e-6;
        assert!(
            near(ours.judged, theirs.judged)
                && near(ours.satisfaction.unwrap(), theirs.satisfaction.unwrap())
        );
        assert!(
            near(ours.queue, theirs.queue),
            "{policy:?}: {} for {}",
            ours.queue,
            theirs.queue
        );
        for (ours, theirs) in ours.models.iter().zip(&theirs.models) {
            assert!(ours.labels == theirs.labels && near(ours.satisfaction, theirs.satisfaction));
        }
        let before = router.clone();
        router.apply(&says(LabelSource::User, 1.0, 1.0));
        assert!(router == before, "nobody takes his word back");
    }
}

#[test]
fn a_log_of_an_earlier_build_still_loads() {
    let line = r#"{"event": "finished", "request": "req_0000000000000001", "model": 0, "prompt_tokens": 18,
        "output_tokens": 2, "joules": 0.08, "exploration": false}"#;
    let event: RouterEvent = serde_json::from_str(line).unwrap();
    assert!(matches!(
        event,
        RouterEvent::Finished {
            cached_tokens: 0,
            output_tokens: 2,
            ..
        }
    ));
}

#[test]
fn a_withdrawn_request_leaves_the_queue_as_it_was() {
    let scene = Scene::plain();
    let mut router = scene
        .run(scene.config(Policy::MessPlus, 0.85, 1), 400, &mut |_| {})
        .router;
    let queue = router.report()[0].queue;
    let request = RequestId(1 << 40);
    let ask = Ask {
        request,
        sla: SlaId(0),
        text: "hi",
        prompt_tokens: &[3],
        max_tokens: 8,
        occupancy: &[],
    };
    router.apply(&RouterEvent::Decided(Box::new(router.decide(&ask))));
    assert_ne!(router.report()[0].queue, queue);
    assert_eq!(router.unanswered().last(), Some(&request));
    router.apply(&RouterEvent::Withdrawn { request });
    assert_ne!(router.unanswered().last(), Some(&request));
    assert!((router.report()[0].queue - queue).abs() < 1e-12);
}

#[test]
fn feedback_days_later_still_teaches() {
    let scene = Scene::plain();
    let mut config = scene.config(Policy::MessPlus, 0.85, 1);
    config.knobs.remembered = 8;
    let mut first = None;
    let mut log = |event: &RouterEvent| {
        if let (RouterEvent::Decided(decision), None) = (event, &first) {
            first = Some(decision.clone());
        }
    };
    let mut router = scene.run(config, 300, &mut log).router;
    let mut decision = first.unwrap();
    decision.request = RequestId(1 << 40);
    assert!(!router.remembers(decision.request));
    let (labels, queue) = (router.report()[0].judged, router.report()[0].queue);
    router.apply(&RouterEvent::Judged {
        request: decision.request,
        model: decision.model,
        satisfied: 0.0,
        weight: 1.0,
        source: LabelSource::User,
        decision: Some(decision),
    });
    assert_eq!(router.report()[0].judged, labels + 1.0);
    assert!(router.report()[0].queue > queue + 0.3);
}

#[test]
fn a_changed_zoo_keeps_what_it_knows_by_name() {
    let scene = Scene::tasks();
    let router = scene
        .run(scene.config(Policy::MessPlus, 0.85, 7), 900, &mut |_| {})
        .router;
    let old = router.report().remove(0);
    let mut config = router.config().clone();
    config.models.swap(0, 2);
    config.models.remove(1);
    config.models.push(ModelInfo {
        name: "new".into(),
        parameters: 8_000_000,
    });
    config.slas.insert(
        0,
        SlaConfig {
            name: "gold".into(),
            alpha: 0.95,
        },
    );
    let changed = Router::restore(config, router.snapshot()).unwrap();
    let report = changed.report();
    assert_eq!((report[0].requests, report[1].requests), (0, old.requests));
    assert_eq!(report[1].queue, old.queue);
    let by_name =
        |report: &SlaReport, name: &str| report.models.iter().find(|m| m.model == name).unwrap().clone();
    for name in ["m0", "m2"] {
        let (now, then) = (by_name(&report[1], name), by_name(&old, name));
        assert_eq!(
            (now.labels, now.joules, now.mean_joules),
            (then.labels, then.joules, then.mean_joules)
        );
        assert!((now.satisfaction - then.satisfaction).abs() < 0.05);
    }
    assert_eq!(by_name(&report[1], "new").labels, 0);
    let ask = |sla| Ask {
        request: RequestId(1 << 50),
        sla: SlaId(sla),
        text: "What is 3 plus 4?",
        prompt_tokens: &[9],
        max_tokens: 64,
        occupancy: &[],
    };
    assert_eq!(changed.decide(&ask(1)).satisfaction.len(), 3);
    changed.decide(&ask(0));
    let mut switched = changed.config().clone();
    switched.policy = Policy::Paper;
    let switched = Router::restore(switched, changed.snapshot()).unwrap();
    assert_eq!(switched.decide(&ask(0)).policy, "paper");
    let mut broken = changed.snapshot();
    broken.state.tallies.pop();
    assert!(matches!(
        Router::restore(changed.config().clone(), broken),
        Err(ConfigError::Snapshot(_))
    ));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Snapshot + events after it, both through JSON text, give the router that lived through everything: to
    /// the bit.
    #[test]
    fn what_is_written_down_comes_back_to_the_bit(
        seed in any::<u64>(), cut in 0usize..900, paper in any::<bool>(), missing in 0.0f64..1.0,
    ) {
        let scene = Scene { missing, delay: 20, ..Scene::tasks() };
        let policy = if paper { Policy::Paper } else { Policy::MessPlus };
        let mut events = vec![];
        let config = scene.config(policy, 0.85, seed);
        let mut log = |event: &RouterEvent| events.push(serde_json::to_string(event).unwrap());
        let lived = scene.run(config.clone(), 300, &mut log).router;
        let cut = cut.min(events.len());
        let read = |text: &String| serde_json::from_str::<RouterEvent>(text).unwrap();
        let mut before = Router::new(config.clone()).unwrap();
        events[..cut].iter().for_each(|text| before.apply(&read(text)));
        let snapshot = serde_json::to_value(before.snapshot()).unwrap().to_string();
        let snapshot = serde_json::from_str(&snapshot).unwrap();
        let back = Router::recover(config, Some(snapshot), events[cut..].iter().map(read)).unwrap();
        prop_assert!(back == lived);
        let text = |router: &Router| serde_json::to_string(&router.snapshot()).unwrap();
        prop_assert_eq!(text(&back), text(&lived));
    }
}
