//! For every architecture: an answer does not depend on company, late joining, preemption or the prefix cache.

use std::sync::Arc;

use messplus::energy::Account;
use messplus::engine::{Compute, Engine, EngineSettings, HostSpec, Job, ModelSource, Precision, Sampling};
use messplus::units::{Clock, ModelId, RequestId, TokenId};

use crate::architectures::{fixtures, write_model};
use crate::support::{Steps, answer, collect};

fn job(number: usize, context: usize) -> Job {
    // All share a page and some tokens; then they differ.
    let prompt: Vec<TokenId> = (0..36 + number)
        .map(|i| TokenId(3 + ((i * 7 + if i < 34 { 0 } else { number * 13 }) % 80) as u32))
        .collect();
    // Past the page that admission keeps free for it, so that there is less memory than was hoped for.
    let max_tokens = (context - prompt.len()).min(84) as u32;
    Job {
        account: Account::Request(RequestId::fresh()),
        model: ModelId(0),
        prompt,
        max_tokens,
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
        max_context: Some(128),
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
    const JOBS: usize = 4;
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
            let context = engine.models()[0].max_context;
            (0..JOBS)
                .map(|number| answer(&engine, job(number, context)))
                .collect()
        };
        // Five pages for four sequences of four: some must give way and come back. Small steps cut prompts.
        let crowded = EngineSettings {
            step_tokens: 16,
            ..EngineSettings::default()
        };
        let (engine, _) = engine(folder.path(), crowded, 5);
        let context = engine.models()[0].max_context;
        let mut streams: Vec<_> = (0..JOBS)
            .map(|number| engine.submit(job(number, context)).unwrap())
            .collect();
        for (number, stream) in streams.iter_mut().enumerate() {
            let (text, outcome) = collect(stream).unwrap();
            assert_eq!(text, alone[number], "{name}, request {number} in company");
            cached += outcome.cached_tokens;
        }
        preempted += usize::from(engine.pages()[0].preemptions > 0);
        // Once more, with what the cache has kept.
        for (number, alone) in alone.iter().enumerate().take(2) {
            let again = answer(&engine, job(number, context));
            assert_eq!(&again, alone, "{name}, request {number} again");
        }
    }
    assert!(preempted > 40, "only {preempted} architectures had to give way");
    assert!(cached > 0, "nothing was found in the cache");
}
