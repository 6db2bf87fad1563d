//! The decoder and the engine against Hugging Face transformers, whose outputs `scripts/make_demo_fixtures.py`
//! wrote down.

use messplus::engine::{Job, Sampling};
use messplus::model::{Batch, Compute, Decoder, Logits, PAGE_TOKENS, Precision, load};
use messplus::units::{ModelId, RequestId, TokenId};
use safetensors::SafeTensors;

use crate::support::{MODELS, answer, demo, engine, question, root};

struct Prompt {
    ids: Vec<TokenId>,
    /// Logits of the last rows: all of them or only the last.
    logits: Vec<f32>,
}

fn prompts(model: &str) -> Vec<Prompt> {
    let bytes = std::fs::read(
        root()
            .join("tests/fixtures/demo")
            .join(model)
            .join("logits.safetensors"),
    )
    .unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let count = tensors.names().iter().filter(|n| n.ends_with(".ids")).count();
    let prompt = |number: usize| {
        let data = |part: &str| {
            tensors
                .tensor(&format!("prompt_{number}.{part}"))
                .unwrap()
                .data()
                .to_vec()
        };
        let ids = data("ids")
            .chunks_exact(8)
            .map(|c| i64::from_le_bytes(c.try_into().unwrap()) as u32)
            .collect::<Vec<_>>();
        let logits = data("logits")
            .chunks_exact(4)
            .map(|c| f32::from_le_bytes(c.try_into().unwrap()))
            .collect();
        Prompt {
            ids: ids.into_iter().map(TokenId).collect(),
            logits,
        }
    };
    (0..count).map(prompt).collect()
}

/// Computes `ids` in chunks of `chunk` tokens and returns the logits of every token.
fn forward(decoder: &mut dyn Decoder, ids: &[TokenId], chunk: usize) -> Vec<Logits> {
    // Pages out of order, so that a mix-up of page and place shows.
    let pages: Vec<u32> = (0..ids.len().div_ceil(PAGE_TOKENS) as u32)
        .rev()
        .map(|p| 2 * p + 1)
        .collect();
    pages.iter().for_each(|&page| decoder.materialise_page(page));
    let chunks = (0..ids.len()).step_by(chunk);
    chunks
        .map(|from| {
            let tokens = &ids[from..ids.len().min(from + chunk)];
            let mut batch = Batch::default();
            batch.push(tokens, from, ids.len(), &pages, false);
            batch.logit_rows = (0..tokens.len() as u32).collect();
            decoder.forward(&batch).unwrap()
        })
        .collect()
}

#[test]
fn logits_agree_with_transformers() {
    for name in MODELS {
        let mut model = load(&demo(name), Compute::Cpu, Precision::F32).unwrap();
        let mut worst = 0f32;
        for prompt in prompts(name) {
            for chunk in [prompt.ids.len(), 7, 1] {
                let got: Vec<f32> = forward(model.decoder.as_mut(), &prompt.ids, chunk)
                    .iter()
                    .flat_map(|logits| (0..logits.rows()).flat_map(|r| logits.row(r).to_vec()))
                    .collect();
                let tail = &got[got.len() - prompt.logits.len()..];
                for (got, want) in tail.iter().zip(&prompt.logits) {
                    worst = worst.max((got - want).abs());
                }
            }
        }
        println!("{name}: logits differ by at most {worst:.1e}");
        assert!(worst <= 1e-3, "{name}: logits differ by {worst}");
    }
}

#[test]
fn greedy_text_is_that_of_transformers() {
    let (engine, _) = engine(Default::default());
    for (model, name) in (0..).map(ModelId).zip(MODELS) {
        let path = root().join("tests/fixtures/demo").join(name).join("greedy.jsonl");
        let lines = std::fs::read_to_string(path).unwrap();
        assert_eq!(lines.lines().count(), 200);
        let jobs: Vec<_> = lines
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
            .map(|line| {
                let prompt = question(&engine, model, line["question"].as_str().unwrap());
                let ids: Vec<u32> = serde_json::from_value(line["prompt_ids"].clone()).unwrap();
                assert_eq!(prompt, ids.into_iter().map(TokenId).collect::<Vec<_>>());
                let job = Job {
                    account: messplus::energy::Account::Request(RequestId::fresh()),
                    model,
                    prompt,
                    max_tokens: 96,
                    sampling: Sampling {
                        temperature: 0.0,
                        ..Sampling::default()
                    },
                    stop: Vec::new(),
                    logprobs: None,
                };
                (job, line["text"].as_str().unwrap().to_owned())
            })
            .collect();
        for (job, text) in jobs {
            assert_eq!(answer(&engine, job), text, "{name}");
        }
    }
}
