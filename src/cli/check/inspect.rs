//! What a model's files say about it: only `config.json` and the heads of the safetensors files are read.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use safetensors::tensor::Metadata;
use serde_json::Value;

use crate::config::Refusal;
use crate::hub::{Located, weight_files};

/// The largest head the format allows.
const MOST_HEAD: u64 = 100_000_000;

/// A model's shape and size.
#[derive(Clone, Debug, PartialEq)]
pub struct Inspection {
    pub architecture: String,
    pub parameters: u64,
    /// The type most parameters are stored in, as safetensors names it: `BF16`.
    pub stored_dtype: String,
    /// Numbers one token leaves in the cache: keys and values over all layers.
    pub kv_values_per_token: u64,
    pub max_positions: usize,
}

/// Reads what there is to know without loading.
pub fn inspect(located: &Located) -> Result<Inspection, Refusal> {
    let broken = |problem: String| Refusal::new(problem, "fetch the model again");
    let mut weights = Weights::default();
    let config: Cow<'_, [u8]> = match located {
        Located::Gguf(_) => {
            return Err(Refusal::new(
                "is a GGUF file, which this version cannot serve",
                "name a safetensors folder",
            ));
        }
        Located::Embedded(files) => {
            let find = |name: &str| {
                let file = files.iter().find(|(n, _)| *n == name).map(|(_, bytes)| *bytes);
                file.ok_or_else(|| broken(format!("lacks {name}")))
            };
            let mut bytes = find("model.safetensors")?;
            let length = bytes.len() as u64;
            weights
                .add(&mut bytes, length)
                .map_err(|e| broken(format!("has a model.safetensors that {e}")))?;
            find("config.json")?.into()
        }
        Located::Folder(folder) => {
            for path in weight_files(folder).map_err(|e| broken(format!("cannot be looked into ({e})")))? {
                let added = open(&path).and_then(|(mut file, length)| weights.add(&mut file, length));
                added.map_err(|e| broken(format!("has a file {} that {e}", path.display())))?;
            }
            let path = folder.join("config.json");
            let read = std::fs::read(&path);
            read.map_err(|e| broken(format!("has a {} that cannot be read ({e})", path.display())))?
                .into()
        }
    };
    let config: Value = serde_json::from_slice(&config)
        .map_err(|e| broken(format!("has a config.json that is not JSON ({e})")))?;
    let missing = |key: &str| broken(format!("has a config.json without a usable {key}"));
    let number = |key: &str| config[key].as_u64().filter(|n| (1..1 << 32).contains(n));
    let need = |key: &str| number(key).ok_or_else(|| missing(key));
    let heads = need("num_attention_heads")?;
    let head_dim = number("head_dim").map_or_else(|| need("hidden_size").map(|h| h / heads), Ok)?;
    let kv_heads = number("num_key_value_heads").unwrap_or(heads);
    Ok(Inspection {
        architecture: config["architectures"][0]
            .as_str()
            .ok_or_else(|| missing("architectures"))?
            .into(),
        parameters: weights.parameters.values().sum(),
        stored_dtype: weights
            .commonest()
            .ok_or_else(|| broken("has no weights".into()))?,
        kv_values_per_token: 2u64
            .saturating_mul(need("num_hidden_layers")?)
            .saturating_mul(kv_heads)
            .saturating_mul(head_dim),
        max_positions: need("max_position_embeddings")? as usize,
    })
}

/// Parameters by the type they are stored in.
#[derive(Default)]
struct Weights {
    parameters: BTreeMap<String, u64>,
}

impl Weights {
    /// Reads the head of a safetensors file of `length` bytes: eight bytes of size, then JSON.
    fn add(&mut self, file: &mut impl Read, length: u64) -> Result<(), String> {
        let unreadable = |e: std::io::Error| format!("cannot be read ({e})");
        let mut first = Vec::new();
        file.take(8).read_to_end(&mut first).map_err(unreadable)?;
        if first == b"version " && length < 1024 {
            return Err("is a git-lfs pointer (`git lfs pull` in its folder gets the file)".into());
        }
        let size = <[u8; 8]>::try_from(first.as_slice())
            .map(u64::from_le_bytes)
            .unwrap_or(u64::MAX);
        if size > length.min(MOST_HEAD) {
            return Err("is not safetensors".into());
        }
        let mut head = Vec::new();
        file.take(size).read_to_end(&mut head).map_err(unreadable)?;
        let head: Metadata =
            serde_json::from_slice(&head).map_err(|e| format!("is not safetensors ({e})"))?;
        let whole = 8 + size + head.data_len() as u64;
        if whole != length {
            return Err(format!("should have {whole} bytes and has {length}"));
        }
        for tensor in head.tensors().values() {
            let count: u64 = tensor.shape.iter().map(|n| *n as u64).product();
            *self.parameters.entry(format!("{:?}", tensor.dtype)).or_default() += count;
        }
        Ok(())
    }

    fn commonest(&self) -> Option<String> {
        self.parameters
            .iter()
            .max_by_key(|(_, count)| **count)
            .map(|(dtype, _)| dtype.clone())
    }
}

fn open(path: &Path) -> Result<(File, u64), String> {
    let opened = File::open(path).and_then(|file| file.metadata().map(|m| (file, m.len())));
    opened.map_err(|e| format!("cannot be read ({e})"))
}
