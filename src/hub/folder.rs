//! An ordinary Hugging Face model folder: what must be in it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::{HubError, pointer_or};

pub(super) const INDEX: &str = "model.safetensors.index.json";
pub(super) const SINGLE: &str = "model.safetensors";

/// Refuses a folder that lacks a file; `mend` says how to get it.
pub(super) fn whole(folder: &Path, mend: &str) -> Result<(), HubError> {
    let shown = folder.display().to_string();
    if folder.is_file() {
        return Err(HubError::WrongKind {
            path: shown,
            expected: "a folder",
            mend: "write path:DIR for a model folder or path:FILE.gguf for a GGUF file".into(),
        });
    }
    if !folder.is_dir() {
        return Err(HubError::NotThere { path: shown });
    }
    let mut missing: Vec<String> = ["config.json", "tokenizer.json"]
        .iter()
        .filter(|f| !folder.join(f).is_file())
        .map(|f| (*f).into())
        .collect();
    let weights = weight_files(folder)?;
    if weights.is_empty() {
        missing.push("model.safetensors (or its index and shards)".into());
    }
    let gone = |path: &&PathBuf| !path.is_file();
    missing.extend(
        weights
            .iter()
            .filter(gone)
            .filter_map(|p| p.file_name())
            .map(|n| n.to_string_lossy().into()),
    );
    if missing.is_empty() {
        return Ok(());
    }
    Err(HubError::Incomplete {
        folder: shown,
        missing,
        mend: mend.into(),
    })
}

/// The safetensors files of a model folder, in order of name: those of the index where there is one (whether or not
/// they exist), else `model.safetensors`, else every `*.safetensors`.
pub fn weight_files(folder: &Path) -> Result<Vec<PathBuf>, HubError> {
    let index = folder.join(INDEX);
    if index.is_file() {
        return shards(folder, &index);
    }
    if folder.join(SINGLE).is_file() {
        return Ok(vec![folder.join(SINGLE)]);
    }
    let unreadable = |e: std::io::Error| HubError::Unreadable {
        path: folder.display().to_string(),
        reason: e.to_string(),
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|e| e == "safetensors") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn shards(folder: &Path, index: &Path) -> Result<Vec<PathBuf>, HubError> {
    let path = index.display().to_string();
    let text = fs::read_to_string(index).map_err(|e| HubError::Unreadable {
        path: path.clone(),
        reason: e.to_string(),
    })?;
    let names = serde_json::from_str::<serde_json::Value>(&text)
        .ok()
        .and_then(|json| {
            let map = json.get("weight_map")?.as_object()?;
            // A shard lies beside its index; a name that leads elsewhere is no shard.
            let name = |v: &serde_json::Value| {
                v.as_str()
                    .filter(|n| !n.contains('/') && *n != "..")
                    .map(str::to_string)
            };
            map.values().map(name).collect::<Option<BTreeSet<_>>>()
        });
    match names {
        Some(names) if !names.is_empty() => Ok(names.into_iter().map(|n| folder.join(n)).collect()),
        _ => Err(HubError::WrongKind {
            path,
            expected: "an index of safetensors files",
            mend: pointer_or(index, "fetch it again"),
        }),
    }
}
