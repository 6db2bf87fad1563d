//! For every architecture: an answer does not depend on company, late joining, preemption or the prefix cache.

use std::sync::Arc;

use messplus::energy::Account;
use messplus::engine::{Compute, Engine, EngineSettings, HostSpec, Job, ModelSource, Precision, Sampling};
use messplus::units::{Clock, ModelId, RequestId, TokenId};

use crate::architectures::{fixtures, write_model};
use crate::support::{Steps, answer, collect};

const ANSWER: u32 = 24;

fn job(number: usize) -> Job {
    // All share a page and some tokens; then they differ.
    let prompt = (0..36 + number)
        .map(|i| TokenId(3 + ((i * 7 + if i < 34 { 0 } else { number * 13 }) % 80) as u32))
        .collect();
    Job {
        account: Account::Request(RequestId::fresh()),
        model: ModelId(0),
        prompt,
        max_tokens: ANSWER,
        sampling: Sampling {
            temperature: if number.is_multiple_of(2) { 0.0 } else { 0.9 },
            seed: number as u64,
            ..Sampling::default()
        },
        stop: Vec::new(),
        logprobs: None,
        constraint: None,
    }
}

fn engine(folder: &std::path::Path, settings: EngineSettings, pages: u64) -> (Engine, Arc<Steps>) {
    let spec = |kv_bytes| HostSpec {
        name: "tiny".to_owned(),
        source: ModelSource::Folder(folder.to_owned()),
        compute: Compute::Cpu,
        precision: Precision::Auto,
        max_context: Some(96),
        kv_bytes,
    };
    let start = |kv_bytes| {
        let steps = Arc::new(Steps::default());
        let engine = Engine::start(&[spec(kv_bytes)], settings, Clock::start(), steps.clone()).unwrap();
        (engine, steps)
    };
    let (probe, _) = start(64 << 20);
    let page = probe.models()[0].kv_bytes_per_token * 32;
    probe.shutdown();
    start(page * pages)
}

#[test]
fn every_architecture_answers_alone_as_in_company() {
    const JOBS: usize = 6;
    let mut preempted = 0;
    let mut cached = 0;
    for (name, path) in fixtures() {
        let folder = tempfile::tempdir().unwrap();
        write_model(&path, folder.path());
        let alone: Vec<String> = {
            let settings = EngineSettings {
                prefix_cache: false,
                ..EngineSettings::default()
            };
            let (engine, _) = engine(folder.path(), settings, 64);
            (0..JOBS).map(|number| answer(&engine, job(number))).collect()
        };
        // Five pages for six sequences of two or three: some must give way and come back. Small steps cut prompts.
        let crowded = EngineSettings {
            step_tokens: 16,
            ..EngineSettings::default()
        };
        let (engine, steps) = engine(folder.path(), crowded, 5);
        let mut streams: Vec<_> = (0..JOBS)
            .map(|number| engine.submit(job(number)).unwrap())
            .collect();
        for (number, stream) in streams.iter_mut().enumerate() {
            let (text, outcome) = collect(stream).unwrap();
            assert_eq!(text, alone[number], "{name}, request {number} in company");
            cached += outcome.cached_tokens;
        }
        // Once more, with what the cache has kept.
        for (number, alone) in alone.iter().enumerate() {
            assert_eq!(
                &answer(&engine, job(number)),
                alone,
                "{name}, request {number} again"
            );
        }
        let computed: u32 = steps
            .0
            .lock()
            .unwrap()
            .iter()
            .flat_map(|s| &s.rows)
            .map(|r| r.prefill_tokens)
            .sum();
        let asked: usize = 2 * (0..JOBS).map(|number| job(number).prompt.len()).sum::<usize>();
        preempted += usize::from(computed as usize > asked);
    }
    assert!(cached > 0, "nothing was found in the cache");
    println!("{preempted} architectures had to compute something twice; {cached} tokens came from the cache");
}
