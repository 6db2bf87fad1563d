//! The tiny random models of `tests/fixtures/arch`, as folders, and rows that compute themselves through a decoder.

use std::path::PathBuf;
use std::sync::Arc;

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;

use crate::model::batch::Batch;
use crate::model::config::DecoderConfig;
use crate::model::cuda::emulated::Emulated;
use crate::model::cuda::{Arena, CudaDecoder, Device, Half, Limits, refusal};
use crate::model::decoder::Decoder;
use crate::model::files::Files;
use crate::model::weights::Weights;
use crate::units::TokenId;

#[derive(Deserialize)]
pub struct Fixture {
    #[serde(skip)]
    pub name: String,
    pub config: Value,
    tensors: Vec<TensorRule>,
    pub prompt: Vec<u32>,
    pub greedy: Vec<u32>,
    pub greedy_logits: Vec<Vec<f32>>,
}

#[derive(Deserialize)]
struct TensorRule {
    name: String,
    shape: Vec<usize>,
    scale: f64,
    offset: f64,
}

impl TensorRule {
    /// The rule of `scripts/arch_fixtures/rule.py`.
    fn values(&self) -> Vec<f32> {
        let rule = crate::model::random::RandomTensor {
            scale: self.scale as f32,
            offset: self.offset as f32,
            ..crate::model::random::RandomTensor::named(&self.name)
        };
        (0..self.shape.iter().product::<usize>() as u64)
            .map(|i| rule.value(i))
            .collect()
    }
}

/// The fixtures that the batched decoder computes and a CUDA device takes.
pub fn fixtures() -> Vec<Fixture> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/arch");
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    let all = paths.iter().map(|path| {
        let mut fixture: Fixture = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        fixture.name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        fixture
    });
    all.filter(|fixture| {
        DecoderConfig::parse("", &fixture.config).is_ok_and(|config| refusal(&config).is_none())
    })
    .collect()
}

pub fn fixture(name: &str) -> Fixture {
    fixtures()
        .into_iter()
        .find(|fixture| fixture.name == name)
        .unwrap()
}

impl Fixture {
    pub fn config(&self) -> DecoderConfig {
        DecoderConfig::parse(&self.name, &self.config).unwrap()
    }

    pub fn tensor(&self, name: &str) -> Vec<f32> {
        self.tensors
            .iter()
            .find(|rule| rule.name == name)
            .unwrap()
            .values()
    }

    /// Its safetensors, and the folder they lie in.
    pub fn weights(&self) -> (Weights, TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let values: Vec<Vec<u8>> = self
            .tensors
            .iter()
            .map(|rule| rule.values().iter().flat_map(|v| v.to_le_bytes()).collect())
            .collect();
        let views = self.tensors.iter().zip(&values).map(|(rule, bytes)| {
            let view = TensorView::new(Dtype::F32, rule.shape.clone(), bytes).unwrap();
            (rule.name.clone(), view)
        });
        safetensors::serialize_to_file(views, None, &folder.path().join("model.safetensors")).unwrap();
        let weights = Weights::of_files(&Files::Folder(folder.path().to_owned())).unwrap();
        (weights, folder)
    }

    pub fn decoder(&self, half: Half) -> CudaDecoder {
        on(&(Arc::new(Emulated::default()) as Arc<dyn Device>), self, half)
    }
}

/// Loads a fixture onto a device, with pages of its own.
pub fn on(device: &Arc<dyn Device>, fixture: &Fixture, half: Half) -> CudaDecoder {
    let (weights, _folder) = fixture.weights();
    let config = fixture.config();
    let arena = Arc::new(Arena::new(device, 16 * super::super::budget::page_shape(&config).room()).unwrap());
    let limits = Limits {
        tokens: 160,
        rows: 8,
        context: config.max_positions,
    };
    CudaDecoder::load(device, &arena, config, &weights, half, limits).unwrap()
}

pub fn ids(ids: &[u32]) -> Vec<TokenId> {
    ids.iter().copied().map(TokenId).collect()
}

/// One sequence that computes itself through a decoder, alone or beside others.
pub struct Row {
    pub tokens: Vec<TokenId>,
    pub computed: usize,
    prompt: usize,
    pages: Vec<u32>,
}

impl Row {
    pub fn new(prompt: &[u32], pages: &[u32]) -> Self {
        Self {
            tokens: ids(prompt),
            computed: 0,
            prompt: prompt.len(),
            pages: pages.to_vec(),
        }
    }

    /// Puts up to `most` of its tokens in a batch; true when its logits are wanted.
    pub fn push(&mut self, batch: &mut Batch, most: usize) -> bool {
        let take = (self.tokens.len() - self.computed).min(most);
        let (from, to) = (self.computed, self.computed + take);
        let complete = to == self.tokens.len();
        batch.push(&self.tokens[from..to], from, self.prompt, &self.pages, complete);
        self.computed = to;
        complete
    }

    pub fn accept(&mut self, token: u32, decoder: &dyn Decoder) {
        self.tokens.push(TokenId(token));
        if decoder.restarts_at(self.tokens.len()) {
            self.computed = 0;
            self.prompt = self.tokens.len();
        }
    }
}

pub fn highest(logits: &[f32]) -> u32 {
    (0..logits.len()).fold(0, |best, i| if logits[i] > logits[best] { i } else { best }) as u32
}
