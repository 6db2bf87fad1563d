//! Writes small GGUF files, sound ones and broken ones.

use std::path::Path;

use super::super::GgufFile;
use crate::model::ModelError;

/// Keys and tensors in the order they were added.
#[derive(Clone, Default)]
pub struct Writer {
    keys: Vec<u8>,
    key_count: u64,
    tensors: Vec<(String, Vec<usize>, u32, Vec<u8>)>,
}

pub enum Item<'a> {
    Count(u32),
    Float(f32),
    Flag(bool),
    Text(&'a str),
    Texts(&'a [&'a str]),
    Floats(&'a [f32]),
    Counts(&'a [i32]),
    Flags(&'a [bool]),
}

const ALIGNMENT: usize = 32;

impl Writer {
    pub fn key(mut self, name: &str, item: Item) -> Self {
        let out = &mut self.keys;
        self.key_count += 1;
        text(out, name);
        let code = |out: &mut Vec<u8>, code: u32| out.extend(code.to_le_bytes());
        let array = |out: &mut Vec<u8>, kind: u32, length: usize| {
            code(out, 9);
            code(out, kind);
            out.extend((length as u64).to_le_bytes());
        };
        match item {
            Item::Count(value) => {
                code(out, 4);
                out.extend(value.to_le_bytes());
            }
            Item::Float(value) => {
                code(out, 6);
                out.extend(value.to_le_bytes());
            }
            Item::Flag(value) => {
                code(out, 7);
                out.push(u8::from(value));
            }
            Item::Text(value) => {
                code(out, 8);
                text(out, value);
            }
            Item::Texts(values) => {
                array(out, 8, values.len());
                values.iter().for_each(|value| text(out, value));
            }
            Item::Floats(values) => {
                array(out, 6, values.len());
                values.iter().for_each(|value| out.extend(value.to_le_bytes()));
            }
            Item::Counts(values) => {
                array(out, 5, values.len());
                values.iter().for_each(|value| out.extend(value.to_le_bytes()));
            }
            Item::Flags(values) => {
                array(out, 7, values.len());
                out.extend(values.iter().map(|value| u8::from(*value)));
            }
        }
        self
    }

    /// A tensor of 32-bit floats; `shape` counts the outermost dimension first.
    pub fn floats(self, name: &str, shape: &[usize], values: &[f32]) -> Self {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.tensor(name, shape, 0, bytes)
    }

    pub fn zeros(self, name: &str, shape: &[usize]) -> Self {
        self.floats(name, shape, &vec![0.0; shape.iter().product()])
    }

    pub fn tensor(mut self, name: &str, shape: &[usize], kind: u32, bytes: Vec<u8>) -> Self {
        self.tensors.push((name.to_owned(), shape.to_vec(), kind, bytes));
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(3_u32.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend(self.key_count.to_le_bytes());
        out.extend(&self.keys);
        let mut data = Vec::new();
        for (name, shape, kind, bytes) in &self.tensors {
            text(&mut out, name);
            out.extend((shape.len() as u32).to_le_bytes());
            for size in shape.iter().rev() {
                out.extend((*size as u64).to_le_bytes());
            }
            out.extend(kind.to_le_bytes());
            out.extend((data.len() as u64).to_le_bytes());
            data.extend(bytes);
            data.resize(data.len().next_multiple_of(ALIGNMENT), 0);
        }
        out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
        out.extend(data);
        out
    }

    pub fn open(&self) -> Result<GgufFile, ModelError> {
        open(&self.bytes())
    }
}

pub fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

/// The file stays readable through the open handle after its folder is gone.
pub fn open(bytes: &[u8]) -> Result<GgufFile, ModelError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    std::fs::write(&path, bytes).unwrap();
    GgufFile::open(Path::new(&path))
}

/// A llama of two layers with all that a model needs but a tokenizer.
pub fn tiny(architecture: &str) -> Writer {
    let key = |rest: &str| format!("{architecture}.{rest}");
    let mut writer = Writer::default()
        .key("general.architecture", Item::Text(architecture))
        .key(&key("block_count"), Item::Count(2))
        .key(&key("context_length"), Item::Count(256))
        .key(&key("embedding_length"), Item::Count(16))
        .key(&key("feed_forward_length"), Item::Count(32))
        .key(&key("attention.head_count"), Item::Count(4))
        .key(&key("attention.head_count_kv"), Item::Count(2))
        .key(&key("attention.layer_norm_rms_epsilon"), Item::Float(1e-6))
        .zeros("token_embd.weight", &[10, 16])
        .zeros("output_norm.weight", &[16]);
    for layer in 0..2 {
        let name = |rest: &str| format!("blk.{layer}.{rest}.weight");
        writer = writer
            .zeros(&name("attn_norm"), &[16])
            .zeros(&name("attn_q"), &[16, 16])
            .zeros(&name("attn_k"), &[8, 16])
            .zeros(&name("attn_v"), &[8, 16])
            .zeros(&name("attn_output"), &[16, 16])
            .zeros(&name("ffn_norm"), &[16])
            .zeros(&name("ffn_gate"), &[32, 16])
            .zeros(&name("ffn_up"), &[32, 16])
            .zeros(&name("ffn_down"), &[16, 32]);
    }
    writer
}
