//! The standard Hugging Face cache, as `hf download`, `messplus pull` and every Python library fill it:
//! `models--ORG--NAME/refs/REVISION` names a commit, `models--ORG--NAME/snapshots/COMMIT/` holds its files.

use std::fs;
use std::path::{Path, PathBuf};

use super::{HubError, Located, folder, gguf};
use crate::config::Source;

/// Where the cache is, by the variables that the Hugging Face libraries read, in their order.
pub(super) fn root(environment: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    environment("HF_HUB_CACHE")
        .or_else(|| environment("HUGGINGFACE_HUB_CACHE"))
        .or_else(|| environment("HF_HOME").map(|home| home.join("hub")))
        .or_else(|| environment("XDG_CACHE_HOME").map(|cache| cache.join("huggingface/hub")))
        .or_else(|| environment("HOME").map(|home| home.join(".cache/huggingface/hub")))
}

/// The files of a `hf:` source in the cache at `root`.
pub(super) fn locate(source: &Source, root: &Path) -> Result<Located, HubError> {
    let Source::Hub { repo, revision, file } = source else {
        return super::locate(source);
    };
    let command = format!("messplus pull {source}");
    let absent = || HubError::NotCached {
        source_text: source.to_string(),
        cache: root.display().to_string(),
        command: command.clone(),
    };
    let home = root.join(format!("models--{}", repo.replace('/', "--")));
    let snapshot = snapshot(&home, revision.as_deref().unwrap_or("main")).ok_or_else(absent)?;
    match file {
        Some(file) => match snapshot.join(file) {
            path if path.is_file() => gguf(&path).map(Located::Gguf),
            _ => Err(absent()),
        },
        None => {
            // A download that was broken off leaves some of the files: the same command fetches the rest.
            folder::whole(&snapshot, &format!("finish the download with `{command}`"))?;
            Ok(Located::Folder(snapshot))
        }
    }
}

/// The folder of a revision: a branch or tag goes by what `refs` says, a commit is its own name.
fn snapshot(home: &Path, revision: &str) -> Option<PathBuf> {
    let snapshots = home.join("snapshots");
    let is_commit = revision.len() == 40 && revision.bytes().all(|b| b.is_ascii_hexdigit());
    let commit = match fs::read_to_string(home.join("refs").join(revision)) {
        Ok(commit) => commit.trim().to_string(),
        Err(_) if is_commit => revision.to_string(),
        Err(_) => return None,
    };
    let plain = !commit.is_empty() && commit.bytes().all(|b| b.is_ascii_alphanumeric());
    Some(snapshots.join(commit)).filter(|path| plain && path.is_dir())
}
