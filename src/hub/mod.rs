//! A model's source -> the local files it is loaded from. Only [`pull`] asks the network, and nothing is loaded here.

mod cache;
mod checksum;
mod demo;
mod environment;
mod folder;
mod pull;
mod shapes;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::config::Source;

pub use checksum::Mismatch;
pub use demo::DEMO_QUESTIONS;
pub use environment::HubEnvironment;
pub use folder::weight_files;
pub use pull::{PullError, Pulled, Pulling, pull};
pub use shapes::{PUBLISHED, PublishedShape, published_shape};

/// Where a model's files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Located {
    /// A folder with `config.json`, `tokenizer.json` and all its safetensors.
    Folder(PathBuf),
    /// One GGUF file.
    Gguf(PathBuf),
    /// Files inside the binary: names and contents.
    Embedded(&'static [(&'static str, &'static [u8])]),
    /// No files: random numbers in this shape.
    Random(&'static PublishedShape),
}

/// Why a model's files cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    #[error("{source_text} is not in the Hugging Face cache at {cache}: download it with `{command}`")]
    NotCached {
        source_text: String,
        cache: String,
        command: String,
    },
    #[error(
        "neither HF_HUB_CACHE, HF_HOME nor HOME is set, so the Hugging Face cache cannot be found: set HF_HOME"
    )]
    NoCache,
    #[error("{path} is not there: check the model's source")]
    NotThere { path: String },
    #[error("{folder} lacks {}: {mend}", missing.join(", "))]
    Incomplete {
        folder: String,
        missing: Vec<String>,
        mend: String,
    },
    #[error("{path} is not {expected}: {mend}")]
    WrongKind {
        path: String,
        expected: &'static str,
        mend: String,
    },
    #[error("{path} cannot be read ({reason}): mend its permissions or fetch it again")]
    Unreadable { path: String, reason: String },
    #[error("the demo zoo has no model '{name}': it has small, medium and large")]
    NoDemo { name: String },
    #[error("no shape is called '{name}': there are {}", PUBLISHED.each_ref().map(|shape| shape.name).join(", "))]
    NoShape { name: String },
}

/// Finds the files of a model and makes sure that all of them are there.
pub fn locate(source: &Source) -> Result<Located, HubError> {
    match source {
        Source::Demo(name) => demo::files(name)
            .map(Located::Embedded)
            .ok_or_else(|| HubError::NoDemo { name: name.clone() }),
        Source::Random(name) => published_shape(name)
            .map(Located::Random)
            .ok_or_else(|| HubError::NoShape { name: name.clone() }),
        Source::Folder(path) => {
            folder::whole(path, "put it there, or copy the whole model folder again")?;
            Ok(Located::Folder(path.clone()))
        }
        Source::Gguf(path) => gguf(path).map(Located::Gguf),
        Source::Hub { .. } => cache::locate(source, &HubEnvironment::of_process()?.cache),
    }
}

/// A file that is there and begins like GGUF.
fn gguf(path: &Path) -> Result<PathBuf, HubError> {
    if !path.is_file() {
        return Err(HubError::NotThere {
            path: path.display().to_string(),
        });
    }
    let mut magic = Vec::new();
    File::open(path)
        .and_then(|file| file.take(4).read_to_end(&mut magic))
        .map_err(|e| HubError::Unreadable {
            path: path.display().to_string(),
            reason: e.to_string(),
        })?;
    if magic != b"GGUF" {
        return Err(HubError::WrongKind {
            path: path.display().to_string(),
            expected: "a GGUF file",
            mend: pointer_or(path, "fetch it again"),
        });
    }
    Ok(path.to_path_buf())
}

/// A clone made without git-lfs holds short texts where the weights should be: the commonest broken download.
fn pointer_or(path: &Path, otherwise: &str) -> String {
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| file.take(24).read_to_end(&mut start));
    match read {
        Ok(_) if start.starts_with(b"version https://git-lfs") => {
            "it is a git-lfs pointer, so run `git lfs pull` in its folder".into()
        }
        _ => otherwise.into(),
    }
}
