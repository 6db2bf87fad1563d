//! What weight files hold, by their heads alone.

use std::collections::BTreeMap;
use std::io::Read;

use safetensors::tensor::Metadata;

/// The largest head the safetensors format allows.
const MOST_HEAD: u64 = 100_000_000;

/// A model's weights in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredWeights {
    pub parameters: u64,
    /// The type most parameters are stored in, in small letters.
    pub commonest: String,
    /// The type most of them are held in once loaded on a CPU.
    pub held: String,
    /// Bytes they take once loaded on a CPU.
    pub held_bytes: u64,
}

/// Counts parameters by type.
#[derive(Default)]
pub struct Census {
    by_type: BTreeMap<String, (u64, u64)>,
}

impl Census {
    /// Counts a tensor of `parameters` that are stored as `kind` and take `bytes` there.
    pub fn add(&mut self, kind: &str, parameters: u64, bytes: u64) {
        let kind = kind.to_lowercase();
        // Dense weights become f32; quantised ones stay as they are.
        let held = if kind.starts_with('q') {
            bytes
        } else {
            parameters.saturating_mul(4)
        };
        let entry = self.by_type.entry(kind).or_default();
        entry.0 = entry.0.saturating_add(parameters);
        entry.1 = entry.1.saturating_add(held);
    }

    /// Reads the head of a safetensors file of `length` bytes: eight bytes of size, then JSON.
    pub fn add_safetensors(&mut self, file: &mut impl Read, length: u64) -> Result<(), String> {
        let unreadable = |e: std::io::Error| format!("cannot be read ({e})");
        let mut first = Vec::new();
        file.take(8).read_to_end(&mut first).map_err(unreadable)?;
        if first == b"version " && length < 1024 {
            return Err("is a git-lfs pointer; `git lfs pull` in its folder gets the file".into());
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
            let (from, to) = tensor.data_offsets;
            self.add(&format!("{:?}", tensor.dtype), count, (to - from) as u64);
        }
        Ok(())
    }

    /// `None` for files without weights.
    pub fn result(&self) -> Option<StoredWeights> {
        let (commonest, _) = self.by_type.iter().max_by_key(|(_, (count, _))| *count)?;
        let held = if commonest.starts_with('q') {
            commonest.as_str()
        } else {
            "f32"
        };
        Some(StoredWeights {
            parameters: self.by_type.values().map(|(count, _)| count).sum(),
            commonest: commonest.clone(),
            held: held.to_owned(),
            held_bytes: self.by_type.values().map(|(_, bytes)| bytes).sum(),
        })
    }
}
