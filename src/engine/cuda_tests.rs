//! A lane on a CUDA device whose kernels run on the CPU: answers do not depend on company, on who draws the token, or on
//! giving way.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::*;
use crate::energy::Account;
use crate::engine::host::Memory;
use crate::engine::prefix::Uses;
use crate::engine::request::{Job, JobStream, Sampling};
use crate::model::{Compute, Hardware, HostedModel, ModelSource, Precision, RandomShape};
use crate::units::{ModelId, Moment, RequestId, TokenId};

const LLAMA: RandomShape = RandomShape {
    name: "llama",
    config: r#"{"architectures": ["LlamaForCausalLM"], "hidden_size": 64, "intermediate_size": 96,
        "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 2, "vocab_size": 300,
        "max_position_embeddings": 192, "rms_norm_eps": 1e-5, "eos_token_id": 299}"#,
};
const QWEN: RandomShape = RandomShape {
    name: "qwen",
    config: r#"{"architectures": ["Qwen3ForCausalLM"], "hidden_size": 32, "intermediate_size": 64,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32, "num_hidden_layers": 3, "vocab_size": 280,
        "max_position_embeddings": 192, "tie_word_embeddings": true, "eos_token_id": 279}"#,
};

struct Nobody;

impl StepSink for Nobody {
    fn begin_step(&self, _: DeviceId, _: Moment) {}

    fn record(&self, _: StepRecord) {}
}

/// Two models on one device, steps of up to 40 tokens.
fn lane(kv_bytes: u64, cache: bool) -> Lane {
    let models = [LLAMA, QWEN].map(|shape| HostedModel {
        source: ModelSource::Random(shape),
        precision: Precision::F16,
        max_context: None,
    });
    let hardware = Hardware::open(Compute::Cuda(0), &models, kv_bytes, 40, 8).unwrap();
    let memory = Memory {
        budget: KvBudget::new(kv_bytes),
        uses: cache.then(Uses::default),
    };
    let hosts = (0..).zip(&models).map(|(id, model)| {
        let loaded = hardware.load(model).unwrap();
        Host::new(
            ModelId(id),
            format!("model {id}"),
            loaded.decoder,
            loaded.tokenizer,
            loaded.end_tokens,
            memory.clone(),
            8,
        )
    });
    Lane::new(
        DeviceId(0),
        hosts.collect(),
        memory.budget.clone(),
        hardware.step_tokens(512),
        Arc::new(Board::new(2)),
        Arc::new(Nobody),
        Clock::start(),
    )
}

/// Greedy and sampled jobs with penalties and biases, of both models.
fn job(i: u32) -> Job {
    let greedy = Sampling {
        temperature: 0.0,
        ..Sampling::default()
    };
    let sampling = match i % 4 {
        0 => greedy,
        1 => Sampling {
            temperature: 0.9,
            seed: u64::from(i),
            ..Sampling::default()
        },
        2 => Sampling {
            temperature: 1.4,
            top_p: 0.9,
            top_k: 30,
            min_p: 0.01,
            seed: 7,
            ..Sampling::default()
        },
        _ => Sampling {
            repetition_penalty: 1.3,
            frequency_penalty: 0.5,
            presence_penalty: 0.2,
            logit_bias: vec![(TokenId(65), 1.5), (TokenId(9), -100.0)],
            ..greedy
        },
    };
    Job {
        account: Account::Request(RequestId::fresh()),
        model: ModelId((i % 2) as u16),
        prompt: (0..5 + 13 * (i % 5))
            .map(|n| TokenId((n * n + 7 * i) % 250))
            .collect(),
        max_tokens: 4 + 9 * (i % 6),
        sampling,
        stop: Vec::new(),
        logprobs: None,
        constraint: None,
    }
}

fn submit(lane: &mut Lane, job: Job) -> JobStream {
    let (events, stream) = mpsc::unbounded_channel();
    let place = lane.board.enter_queue(job.model.index(), usize::MAX);
    lane.enter(Arrival {
        job,
        guide: None,
        events,
        place: place.ok().unwrap(),
        at: lane.clock.now(),
    });
    stream
}

fn serve(lane: &mut Lane) {
    for _ in 0..2000 {
        if !lane.hosts.iter().any(Host::has_work) {
            return;
        }
        lane.turn();
    }
    panic!("the jobs do not end");
}

/// The tokens' text and how many there were.
fn answer(stream: &mut JobStream) -> (String, u32) {
    let mut whole = String::new();
    loop {
        match stream.try_recv().expect("the job has ended") {
            Event::Text { text, .. } => whole += &text,
            Event::Done(outcome) => return (whole, outcome.completion_tokens),
            Event::Failed(error) => panic!("{error}"),
        }
    }
}

const JOBS: u32 = 12;

fn alone() -> Vec<(String, u32)> {
    let mut lane = lane(1 << 20, false);
    let one = |i| {
        let mut stream = submit(&mut lane, job(i));
        serve(&mut lane);
        answer(&mut stream)
    };
    (0..JOBS).map(one).collect()
}

#[test]
fn answers_are_the_same_alone_in_company_late_and_after_giving_way() {
    let alone = alone();
    assert!(alone.iter().map(|(_, tokens)| tokens).sum::<u32>() > 150);
    let page = lane(1 << 20, false).hosts[0].bytes_per_page();
    // Room for everybody, then for little more than one full context.
    for (kv_bytes, scarce) in [(1 << 20, false), (8 * page, true)] {
        let mut lane = lane(kv_bytes, true);
        let mut streams: Vec<_> = (0..JOBS / 2).map(|i| submit(&mut lane, job(i))).collect();
        (0..6).for_each(|_| lane.turn());
        streams.extend((JOBS / 2..JOBS).map(|i| submit(&mut lane, job(i))));
        serve(&mut lane);
        for (i, (stream, alone)) in streams.iter_mut().zip(&alone).enumerate() {
            assert_eq!(&answer(stream), alone, "job {i}");
        }
        let preemptions: u64 = lane.hosts.iter().map(|host| host.page_use().preemptions).sum();
        assert_eq!(preemptions > 0, scarce, "{preemptions} gave way");
        assert!(lane.hosts.iter().all(|host| host.page_use().used == 0));
    }
}

#[test]
fn a_token_drawn_on_the_device_is_the_token_drawn_here() {
    let mut lane = lane(1 << 20, true);
    for i in 0..8 {
        let mut drawn_there = submit(&mut lane, job(i));
        // Who wants log-probabilities needs the logits here.
        let here = Job {
            logprobs: Some(2),
            ..job(i)
        };
        let mut drawn_here = submit(&mut lane, here);
        serve(&mut lane);
        assert_eq!(answer(&mut drawn_there), answer(&mut drawn_here), "job {i}");
    }
}
