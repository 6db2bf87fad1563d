//! An answer does not depend on who shares its batch.

use messplus::energy::Account;
use messplus::engine::{Engine, EngineError, EngineSettings, Event, Job, JobStream, Sampling};
use messplus::units::{ModelId, RequestId};

use crate::support::{answer, collect, engine, engine_with_kv, question, questions};

/// Jobs of every kind: three models, greedy and sampled, short and long, with and without penalties.
fn jobs(engine: &Engine, count: usize) -> Vec<Job> {
    let questions = questions();
    (0..count)
        .map(|i| {
            let model = ModelId((i % 3) as u16);
            let sampling = match i % 4 {
                0 => Sampling {
                    temperature: 0.0,
                    ..Sampling::default()
                },
                1 => Sampling {
                    temperature: 0.8,
                    seed: i as u64,
                    ..Sampling::default()
                },
                2 => Sampling {
                    temperature: 1.3,
                    top_p: 0.9,
                    top_k: 40,
                    seed: i as u64,
                    ..Sampling::default()
                },
                _ => Sampling {
                    frequency_penalty: 0.4,
                    repetition_penalty: 1.1,
                    seed: 7,
                    ..Sampling::default()
                },
            };
            let text = match i % 5 {
                // Longer than a page and than a small step.
                4 => questions[i..i + 6]
                    .iter()
                    .map(|(q, _)| q.as_str())
                    .collect::<Vec<_>>()
                    .join(" "),
                _ => questions[i].0.clone(),
            };
            Job {
                account: Account::Request(RequestId::fresh()),
                model,
                prompt: question(engine, model, &text),
                max_tokens: 5 + (i % 60) as u32,
                sampling,
                stop: if i % 7 == 0 {
                    vec!["1".to_owned(), ", ".to_owned()]
                } else {
                    Vec::new()
                },
                logprobs: None,
                constraint: None,
            }
        })
        .collect()
}

/// The answers when each job has the engine to itself and nothing comes from a cache.
fn alone(jobs: impl Fn(&Engine) -> Vec<Job>) -> Vec<String> {
    let (engine, steps) = engine(EngineSettings {
        prefix_cache: false,
        ..EngineSettings::default()
    });
    let answers = jobs(&engine)
        .into_iter()
        .map(|job| answer(&engine, job))
        .collect();
    assert!(steps.0.lock().unwrap().iter().all(|s| s.rows.len() == 1));
    answers
}

#[test]
fn a_row_of_a_mixed_batch_is_the_row_alone() {
    const COUNT: usize = 96;
    let alone = alone(|engine| jobs(engine, COUNT));
    // Small steps cut prompts into chunks that share steps with decode rows.
    for settings in [
        EngineSettings::default(),
        EngineSettings {
            step_tokens: 24,
            max_rows: 16,
            ..EngineSettings::default()
        },
    ] {
        let (engine, steps) = engine(settings);
        // Somebody decodes on every model already when the others come, and for as long as most of them run.
        let companions: Vec<_> = (0..3).map(|m| companion(&engine, ModelId(m))).collect();
        let jobs = jobs(&engine, COUNT);
        let mut streams: Vec<_> = jobs.into_iter().map(|job| engine.submit(job).unwrap()).collect();
        for (stream, alone) in streams.iter_mut().zip(&alone) {
            assert_eq!(&collect(stream).unwrap().0, alone);
        }
        drop(companions);
        let steps = steps.0.lock().unwrap();
        let mixed = |s: &&messplus::energy::StepRecord| {
            s.rows.iter().any(|r| r.prefill_tokens > 0) && s.rows.iter().any(|r| r.decode_tokens > 0)
        };
        assert!(
            steps.iter().filter(mixed).count() > 5,
            "prefill and decode never shared a step"
        );
        assert!(
            steps.iter().any(|s| s.rows.len() >= 8),
            "no batch grew to eight rows"
        );
    }
}

#[test]
fn scarce_pages_preempt_without_changing_an_answer() {
    // Answers grow far beyond what they were let in with.
    let long = |engine: &Engine| {
        let mut jobs = jobs(engine, 18);
        for job in &mut jobs {
            let ends = &engine.models()[job.model.index()].end_tokens;
            job.sampling.logit_bias = ends.iter().map(|t| (*t, -1e9)).collect();
            job.stop.clear();
            job.max_tokens += 130;
        }
        jobs
    };
    let alone = alone(long);
    let (probe, _) = engine(EngineSettings::default());
    // Room for little more than one full context of the model that needs most.
    let most = probe
        .models()
        .iter()
        .map(|m| m.kv_bytes_per_token * m.max_context as u64)
        .max()
        .unwrap();
    for prefix_cache in [true, false] {
        let settings = EngineSettings {
            prefix_cache,
            ..EngineSettings::default()
        };
        let (engine, _) = engine_with_kv(settings, (most + most / 4) / 3);
        let mut streams: Vec<_> = long(&engine)
            .into_iter()
            .map(|job| engine.submit(job).unwrap())
            .collect();
        for (stream, alone) in streams.iter_mut().zip(&alone) {
            assert_eq!(&collect(stream).unwrap().0, alone);
        }
        let pages = engine.pages();
        assert!(pages.iter().any(|p| p.preemptions > 0), "nobody gave way");
        assert!(pages.iter().all(|p| p.used == 0), "pages leaked: {pages:?}");
    }
}

#[test]
fn a_prompt_found_in_the_cache_is_answered_as_if_computed() {
    const COUNT: usize = 30;
    let alone = alone(|engine| jobs(engine, COUNT));
    let (engine, steps) = engine(EngineSettings::default());
    let prefilled = || -> u32 {
        let steps = steps.0.lock().unwrap();
        steps.iter().flat_map(|s| &s.rows).map(|r| r.prefill_tokens).sum()
    };
    for round in 0..2 {
        let before = prefilled();
        let jobs = jobs(&engine, COUNT);
        let prompts: Vec<_> = jobs.iter().map(|job| job.prompt.len() as u32).collect();
        let mut streams: Vec<_> = jobs.into_iter().map(|job| engine.submit(job).unwrap()).collect();
        let mut cached = 0;
        for ((stream, alone), prompt) in streams.iter_mut().zip(&alone).zip(&prompts) {
            let (text, outcome) = collect(stream).unwrap();
            assert_eq!(&text, alone);
            cached += outcome.cached_tokens;
            if round == 1 {
                // All that was computed before, save the page with the token whose logits are wanted.
                assert_eq!(outcome.cached_tokens, (prompt - 1) / 32 * 32);
            }
        }
        assert_eq!(prefilled() - before, prompts.iter().sum::<u32>() - cached);
    }
    assert!(engine.pages().iter().all(|p| p.used == 0 && p.cached > 0));
}

#[test]
fn answers_to_one_prompt_share_its_pages() {
    const ANSWERS: u64 = 6;
    let (engine, steps) = engine(EngineSettings::default());
    let model = ModelId(2);
    let text: Vec<_> = questions()[..6].iter().map(|(q, _)| q.clone()).collect();
    let prompt = question(&engine, model, &text.join(" "));
    let job = |seed| Job {
        account: Account::Request(RequestId::fresh()),
        model,
        prompt: prompt.clone(),
        max_tokens: 20,
        sampling: Sampling {
            seed,
            ..Sampling::default()
        },
        stop: Vec::new(),
        logprobs: None,
        constraint: None,
    };
    let length = prompt.len() as u32;
    let shared = (length - 1) / 32 * 32;
    assert!(shared > 0);
    let mut streams: Vec<_> = (0..ANSWERS)
        .map(|seed| engine.submit(job(seed)).unwrap())
        .collect();
    let together: Vec<_> = streams.iter_mut().map(|s| collect(s).unwrap()).collect();
    let cached: Vec<_> = together
        .iter()
        .map(|(_, outcome)| outcome.cached_tokens)
        .collect();
    assert_eq!(cached[0], 0);
    assert!(cached[1..].iter().all(|c| *c == shared), "{cached:?}");
    let prefilled = |rows: &[messplus::energy::StepRecord]| -> u32 {
        rows.iter().flat_map(|s| &s.rows).map(|r| r.prefill_tokens).sum()
    };
    let computed = prefilled(&steps.0.lock().unwrap());
    assert_eq!(computed, length + (ANSWERS as u32 - 1) * (length - shared));
    let (alone, _) = self::engine(EngineSettings {
        prefix_cache: false,
        ..EngineSettings::default()
    });
    for (seed, (text, _)) in together.iter().enumerate() {
        assert_eq!(text, &answer(&alone, job(seed as u64)));
    }
}

#[test]
fn a_client_that_goes_away_frees_its_row() {
    let (engine, steps) = engine(EngineSettings::default());
    let stream = companion(&engine, ModelId(2));
    drop(stream);
    let text = answer(
        &engine,
        Job {
            max_tokens: 3,
            ..endless(&engine, ModelId(2))
        },
    );
    assert!(!text.is_empty());
    for _ in 0..500 {
        if engine.occupancy()[2].running == 0 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert_eq!(engine.occupancy()[2].running, 0);
    let steps = steps.0.lock().unwrap();
    let decoded: u32 = steps.iter().flat_map(|s| &s.rows).map(|r| r.decode_tokens).sum();
    let whole = endless(&engine, ModelId(2)).max_tokens;
    assert!(
        decoded < whole,
        "all {whole} tokens were decoded for a client that had gone"
    );
}

/// A job that goes on to the end of its context: it may not say an end token.
fn endless(engine: &Engine, model: ModelId) -> Job {
    let facts = &engine.models()[model.index()];
    let prompt = question(engine, model, "Count from 1 to 40.");
    Job {
        account: Account::Request(RequestId::fresh()),
        model,
        max_tokens: (facts.max_context - prompt.len()) as u32,
        prompt,
        sampling: Sampling {
            temperature: 50.0,
            logit_bias: facts.end_tokens.iter().map(|t| (*t, -1e9)).collect(),
            ..Sampling::default()
        },
        stop: Vec::new(),
        logprobs: None,
        constraint: None,
    }
}

/// An endless job that is decoding already.
fn companion(engine: &Engine, model: ModelId) -> JobStream {
    let mut stream = engine.submit(endless(engine, model)).unwrap();
    assert!(matches!(stream.blocking_recv(), Some(Event::Text { .. })));
    stream
}

#[test]
fn what_cannot_be_served_is_refused_with_the_reason() {
    let (engine, _) = engine(EngineSettings {
        max_queue: 0,
        ..EngineSettings::default()
    });
    let model = ModelId(0);
    let job = |prompt: Vec<_>, max_tokens| Job {
        account: Account::Request(RequestId::fresh()),
        model,
        prompt,
        max_tokens,
        sampling: Sampling::default(),
        stop: Vec::new(),
        logprobs: None,
        constraint: None,
    };
    let hello = question(&engine, model, "Hello");
    let refused = |job| engine.submit(job).unwrap_err();
    assert_eq!(refused(job(Vec::new(), 1)), EngineError::EmptyPrompt);
    assert!(matches!(
        refused(job(hello.clone(), 100_000)),
        EngineError::ContextExceeded { .. }
    ));
    assert!(matches!(
        refused(job(vec![messplus::units::TokenId(1 << 30)], 1)),
        EngineError::UnknownToken { .. }
    ));
    assert!(matches!(
        refused(job(hello, 1)),
        EngineError::QueueFull { waiting: 0, .. }
    ));
}

#[test]
fn logprobs_come_with_every_token_and_name_the_choice_first() {
    let (engine, _) = engine(EngineSettings::default());
    let job = Job {
        account: Account::Request(RequestId::fresh()),
        model: ModelId(1),
        prompt: question(&engine, ModelId(1), "What is 2 + 3?"),
        max_tokens: 8,
        sampling: Sampling {
            temperature: 0.0,
            ..Sampling::default()
        },
        stop: Vec::new(),
        logprobs: Some(4),
        constraint: None,
    };
    let mut stream = engine.submit(job).unwrap();
    let (mut text, mut named) = (String::new(), String::new());
    loop {
        match stream.blocking_recv().unwrap() {
            Event::Text { text: part, logprobs } => {
                text.push_str(&part);
                for token in logprobs {
                    assert_eq!(token.chosen, token.top[0]);
                    assert_eq!(token.top.len(), 4);
                    named.push_str(&token.chosen.text);
                }
            }
            Event::Done(_) => break,
            Event::Failed(error) => panic!("{error}"),
        }
    }
    assert_eq!(text, named);
}
