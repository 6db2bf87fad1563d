//! Every architecture against Hugging Face transformers: `scripts/make_arch_fixtures.py` wrote down the configs of
//! tiny random models and what transformers computes with them. Their weights follow a rule that both sides know.

use std::path::{Path, PathBuf};

use messplus::model::{Batch, Compute, Decoder, LoadedModel, ModelSource, Precision, load};
use messplus::units::TokenId;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::support::root;

#[derive(Deserialize)]
pub struct Fixture {
    pub config: Value,
    pub tensors: Vec<TensorRule>,
    pub prompt: Vec<u32>,
    greedy: Vec<u32>,
    /// The logits each greedy token was chosen from; the first are those of the prompt's last token.
    pub greedy_logits: Vec<Vec<f32>>,
}

#[derive(Deserialize)]
pub struct TensorRule {
    pub name: String,
    pub shape: Vec<usize>,
    scale: f64,
    offset: f64,
}

impl TensorRule {
    /// FNV-1a of the name, counted on by the golden ratio and finished as splitmix64 does, is uniform in [−1, 1).
    pub fn values(&self) -> Vec<f32> {
        let hash = self.name.bytes().fold(0xCBF2_9CE4_8422_2325u64, |h, b| {
            (h ^ u64::from(b)).wrapping_mul(0x100_0000_01B3)
        });
        let count = self.shape.iter().product::<usize>() as u64;
        (0..count)
            .map(|i| {
                let mut z = hash.wrapping_add(i.wrapping_mul(0x9E37_79B9_7F4A_7C15));
                z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
                z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
                z ^= z >> 31;
                let uniform = (z >> 40) as f32 / (1u32 << 23) as f32 - 1.0;
                self.offset as f32 + self.scale as f32 * uniform
            })
            .collect()
    }
}

/// All fixtures, by name.
pub fn fixtures() -> Vec<(String, PathBuf)> {
    let folder = root().join("tests/fixtures/arch");
    let mut found: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), path))
        .collect();
    found.sort();
    found
}

pub fn read(path: &Path) -> Fixture {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Writes a fixture out as a Hugging Face folder; its tokenizer knows a word for every id.
pub fn write_model(path: &Path, folder: &Path) {
    let fixture = read(path);
    let vocabulary = fixture.greedy_logits[0].len();
    let values: Vec<Vec<u8>> = fixture
        .tensors
        .iter()
        .map(|rule| rule.values().iter().flat_map(|v| v.to_le_bytes()).collect())
        .collect();
    let views = fixture.tensors.iter().zip(&values).map(|(rule, bytes)| {
        let view = TensorView::new(Dtype::F32, rule.shape.clone(), bytes).unwrap();
        (rule.name.clone(), view)
    });
    safetensors::serialize_to_file(views, None, &folder.join("model.safetensors")).unwrap();
    std::fs::write(folder.join("config.json"), fixture.config.to_string()).unwrap();
    let words: serde_json::Map<String, Value> =
        (0..vocabulary).map(|id| (format!("w{id}"), id.into())).collect();
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": words, "unk_token": "w0"}
    });
    std::fs::write(folder.join("tokenizer.json"), tokenizer.to_string()).unwrap();
}

fn open(path: &Path, folder: &Path) -> LoadedModel {
    write_model(path, folder);
    load(
        &ModelSource::Folder(folder.to_owned()),
        Compute::Cpu,
        Precision::Auto,
    )
    .unwrap()
}

fn ids(ids: &[u32]) -> Vec<TokenId> {
    ids.iter().copied().map(TokenId).collect()
}

/// One sequence that computes itself through a decoder, alone or beside others.
struct Row {
    tokens: Vec<TokenId>,
    computed: usize,
    /// The length that counts as the prompt's.
    prompt: usize,
    pages: Vec<u32>,
}

impl Row {
    fn new(prompt: &[u32], pages: &[u32]) -> Self {
        Self {
            tokens: ids(prompt),
            computed: 0,
            prompt: prompt.len(),
            pages: pages.to_vec(),
        }
    }

    fn push(&mut self, batch: &mut Batch, most: usize) {
        let take = (self.tokens.len() - self.computed).min(most);
        let (from, to) = (self.computed, self.computed + take);
        batch.push(
            &self.tokens[from..to],
            from,
            self.prompt,
            &self.pages,
            to == self.tokens.len(),
        );
        self.computed = to;
    }

    fn accept(&mut self, token: u32, decoder: &dyn Decoder) {
        self.tokens.push(TokenId(token));
        if decoder.restarts_at(self.tokens.len()) {
            self.computed = 0;
            self.prompt = self.tokens.len();
        }
    }
}

fn far_apart(got: &[f32], want: &[f32]) -> f32 {
    assert_eq!(got.len(), want.len());
    got.iter()
        .zip(want)
        .map(|(g, w)| (g - w).abs())
        .fold(0.0, f32::max)
}

fn highest(logits: &[f32]) -> u32 {
    (0..logits.len()).fold(0, |best, i| if logits[i] > logits[best] { i } else { best }) as u32
}

#[test]
fn logits_and_greedy_tokens_are_those_of_transformers() {
    let mut worst: Vec<(String, f32)> = Vec::new();
    for (name, path) in fixtures() {
        let folder = tempfile::tempdir().unwrap();
        let fixture = read(&path);
        let mut model = open(&path, folder.path());
        let pages: Vec<u32> = vec![5, 0, 3];
        (0..6).for_each(|page| model.decoder.materialise_page(page));
        let mut row = Row::new(&fixture.prompt, &pages);
        let mut apart = 0f32;
        for (step, want) in fixture.greedy_logits.iter().enumerate() {
            let mut batch = Batch::default();
            row.push(&mut batch, usize::MAX);
            let logits = model.decoder.forward(&batch).unwrap();
            apart = apart.max(far_apart(logits.row(0), want));
            assert!(apart < 1e-3, "{name}, step {step}: logits are off by {apart}");
            assert_eq!(
                highest(logits.row(0)),
                fixture.greedy[step],
                "{name}, step {step}"
            );
            row.accept(fixture.greedy[step], model.decoder.as_ref());
        }
        worst.push((name, apart));
    }
    assert!(worst.len() >= 36, "{} fixtures", worst.len());
    println!("largest difference of a logit: {worst:?}");
}

#[test]
fn a_row_alone_is_the_row_in_a_batch_in_chunks_and_with_late_company() {
    for (name, path) in fixtures() {
        let folder = tempfile::tempdir().unwrap();
        let fixture = read(&path);
        let mut model = open(&path, folder.path());
        if !model.batched {
            continue;
        }
        let decoder = model.decoder.as_mut();
        (0..12).for_each(|page| decoder.materialise_page(page));
        let mut row = Row::new(&fixture.prompt, &[9, 2, 4]);
        let reversed: Vec<u32> = fixture.prompt.iter().rev().copied().collect();
        let mut neighbour = Row::new(&reversed[..37], &[1, 0, 8]);
        let mut late = Row::new(&fixture.prompt[3..20], &[7, 3, 6]);
        let mut step = 0;
        let mut round = 0;
        while step < fixture.greedy.len() {
            let mut batch = Batch::default();
            if round > 3 {
                late.push(&mut batch, 5);
                late.tokens.push(TokenId(round % 7));
            }
            row.push(&mut batch, 11);
            let complete = row.computed == row.tokens.len();
            let mine = batch.logit_rows.len().wrapping_sub(1);
            if round < 12 {
                neighbour.push(&mut batch, 13);
                neighbour.tokens.push(TokenId(round % 5));
            }
            let logits = decoder.forward(&batch).unwrap();
            if complete {
                let apart = far_apart(logits.row(mine), &fixture.greedy_logits[step]);
                assert!(apart < 1e-3, "{name}, step {step}: logits are off by {apart}");
                assert_eq!(
                    highest(logits.row(mine)),
                    fixture.greedy[step],
                    "{name}, step {step}"
                );
                row.accept(fixture.greedy[step], decoder);
                step += 1;
            }
            round += 1;
        }
    }
}
