//! Fetching a `hf:` source into the Hugging Face cache: only the files that will be read, each checked against the size
//! and the hash that the hub states. A download that broke off goes on where it was.

use std::path::{Path, PathBuf};

use hf_hub::api::Progress;
use hf_hub::api::sync::{Api, ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};

use super::checksum::{Checksum, Mismatch};
use super::environment::HubEnvironment;
use super::{HubError, cache, folder};
use crate::config::Source;

/// Tries after a download broke off.
const RETRIES: usize = 4;
/// What a model is told apart, read and asked by, beside its weights.
const BESIDE: [&str; 8] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
];

/// How a download goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pulling<'a> {
    /// A file of so many bytes comes.
    File { name: &'a str, bytes: u64 },
    /// So many of them are here, those of an earlier try included.
    At(u64),
    /// The file is whole and what the hub says it is.
    Checked { name: &'a str },
}

/// What a pull came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pulled {
    pub fetched_files: usize,
    pub fetched_bytes: u64,
    /// Files that were there already.
    pub had_files: usize,
}

/// Why a model cannot be fetched.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    #[error(transparent)]
    Hub(#[from] HubError),
    #[error("{source_text} is not in the cache whole and HF_HUB_OFFLINE is set: unset it to fetch the model")]
    Offline { source_text: String },
    #[error(
        "{endpoint} does not give {repo} to us ({status}): check the name, and if it is private or gated, accept its \
         terms on its page and set HF_TOKEN to a token that may read it"
    )]
    Forbidden {
        endpoint: String,
        repo: String,
        status: u16,
    },
    #[error("{endpoint} has no {what} in {repo}: check the name, revision and file of the model's source")]
    NotFound {
        endpoint: String,
        repo: String,
        what: String,
    },
    #[error("{repo} cannot be served: it has no {lacks}; it has {has}")]
    Lacks {
        repo: String,
        lacks: String,
        has: String,
    },
    #[error("{endpoint} cannot be used ({reason}): check the network or HF_ENDPOINT")]
    Unreachable { endpoint: String, reason: String },
    #[error(
        "{file} of {repo} broke off {RETRIES} times in a row ({reason}): run the same command again, it goes on from there"
    )]
    BrokenOff {
        repo: String,
        file: String,
        reason: String,
    },
    #[error("{file} of {repo} is damaged and was thrown away ({mismatch}): run the same command again")]
    Damaged {
        repo: String,
        file: String,
        mismatch: Mismatch,
    },
    #[error("{file} of {repo} is being fetched by another process: wait for it")]
    Busy { repo: String, file: String },
    #[error("{cache} cannot be written ({reason}): make room, or set HF_HOME to another folder")]
    Disk { cache: String, reason: String },
}

/// Fetches what is missing of a model. Sources that are no `hf:` must be there already.
///
/// # Errors
/// When anything is missing in the end. What was fetched and checked stays.
pub fn pull(source: &Source, hub: &HubEnvironment, watch: &dyn Fn(Pulling)) -> Result<Pulled, PullError> {
    let Source::Hub { repo, revision, file } = source else {
        super::locate(source)?;
        return Ok(Pulled::default());
    };
    if hub.offline {
        return match cache::locate(source, &hub.cache) {
            Ok(_) => Ok(Pulled::default()),
            Err(_) => Err(PullError::Offline {
                source_text: source.to_string(),
            }),
        };
    }
    let revision = revision.as_deref().unwrap_or("main");
    let fetch = Fetch::new(repo, revision, hub)?;
    let mut pulled = Pulled::default();
    let listing = fetch.listing()?;
    let first = first_files(&listing.names, file.as_deref()).map_err(|lacks| PullError::Lacks {
        repo: repo.clone(),
        lacks,
        has: listing.names.join(", "),
    })?;
    for name in first {
        fetch.file(&name, &listing.commit, watch, &mut pulled)?;
    }
    if file.is_none() {
        // The index is there now, so that the shards are known.
        let snapshot = fetch.snapshot(&listing.commit);
        for path in weights(&snapshot, &listing.names)? {
            fetch.file(&path, &listing.commit, watch, &mut pulled)?;
        }
    }
    fetch.name_revision(&listing.commit)?;
    cache::locate(source, &hub.cache)?;
    Ok(pulled)
}

/// The files that are wanted whatever the index says, or what is lacking.
fn first_files(names: &[String], file: Option<&str>) -> Result<Vec<String>, String> {
    let has = |name: &str| names.iter().any(|n| n == name);
    if let Some(file) = file {
        return if has(file) {
            Ok(vec![file.to_owned()])
        } else {
            Err(file.to_owned())
        };
    }
    if let Some(lacks) = ["config.json", "tokenizer.json"]
        .into_iter()
        .find(|name| !has(name))
    {
        return Err(lacks.to_owned());
    }
    if !names
        .iter()
        .any(|name| name.ends_with(".safetensors") && !name.contains('/'))
    {
        return Err("safetensors".to_owned());
    }
    let wanted = BESIDE.into_iter().chain([folder::INDEX]).filter(|name| has(name));
    Ok(wanted.map(str::to_owned).collect())
}

/// The weight files: the index's shards, or else what the hub lists.
fn weights(snapshot: &Path, names: &[String]) -> Result<Vec<String>, HubError> {
    let plain = |path: &PathBuf| path.file_name().map(|name| name.to_string_lossy().into_owned());
    if snapshot.join(folder::INDEX).is_file() {
        return Ok(folder::weight_files(snapshot)?.iter().filter_map(plain).collect());
    }
    if names.iter().any(|name| name == folder::SINGLE) {
        return Ok(vec![folder::SINGLE.to_owned()]);
    }
    let top = names
        .iter()
        .filter(|name| name.ends_with(".safetensors") && !name.contains('/'));
    Ok(top.cloned().collect())
}

struct Listing {
    names: Vec<String>,
    commit: String,
}

/// One repository at one revision.
struct Fetch<'a> {
    repo: &'a str,
    revision: &'a str,
    hub: &'a HubEnvironment,
    api: Api,
    remote: ApiRepo,
    cache: hf_hub::CacheRepo,
}

impl<'a> Fetch<'a> {
    fn new(repo: &'a str, revision: &'a str, hub: &'a HubEnvironment) -> Result<Self, PullError> {
        let cache = Cache::new(hub.cache.clone());
        let name = Repo::with_revision(repo.to_owned(), RepoType::Model, revision.to_owned());
        let api = ApiBuilder::from_cache(cache.clone())
            .with_endpoint(hub.endpoint.clone())
            .with_token(hub.token.clone())
            .with_retries(RETRIES)
            .with_progress(false)
            .build();
        let api = api.map_err(|e| PullError::Unreachable {
            endpoint: hub.endpoint.clone(),
            reason: e.to_string(),
        })?;
        Ok(Self {
            repo,
            revision,
            hub,
            remote: api.repo(name.clone()),
            cache: cache.repo(name),
            api,
        })
    }

    fn listing(&self) -> Result<Listing, PullError> {
        let info = self.remote.info();
        let info = info.map_err(|e| self.failure(&e, &format!("revision '{}'", self.revision)))?;
        let commit = info.sha;
        if commit.is_empty() || !commit.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(PullError::Unreachable {
                endpoint: self.hub.endpoint.clone(),
                reason: format!("it names no commit of {}", self.repo),
            });
        }
        // A name that leads out of the repository's folder is none.
        let inside = |name: &String| !name.starts_with('/') && name.split('/').all(|part| part != "..");
        let names = info
            .siblings
            .into_iter()
            .map(|file| file.rfilename)
            .filter(inside)
            .collect();
        Ok(Listing { names, commit })
    }

    fn snapshot(&self, commit: &str) -> PathBuf {
        self.cache.pointer_path(commit)
    }

    fn file(
        &self,
        name: &str,
        commit: &str,
        watch: &dyn Fn(Pulling),
        pulled: &mut Pulled,
    ) -> Result<(), PullError> {
        // The cache names a file only when it is whole.
        if self.snapshot(commit).join(name).is_file() {
            pulled.had_files += 1;
            return Ok(());
        }
        let metadata = self
            .api
            .metadata(&self.remote.url(name))
            .map_err(|e| self.failure(&e, name))?;
        let (bytes, etag) = (metadata.size() as u64, metadata.etag());
        if etag.is_empty() || !etag.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            return Err(PullError::Unreachable {
                endpoint: self.hub.endpoint.clone(),
                reason: format!("the hash of {name} is no hash"),
            });
        }
        watch(Pulling::File { name, bytes });
        let relay = Relay {
            watch,
            at: 0,
            begins: true,
        };
        let fetched = self.remote.download_with_progress(name, relay);
        let pointer = fetched.map_err(|e| self.failure(&e, name))?;
        let blob = self.cache.blob_path(etag);
        if let Err(mismatch) = Checksum::of_etag(etag).check(&blob, bytes) {
            // Neither may stay: the cache's readers believe what it holds.
            let _ = std::fs::remove_file(&pointer);
            let _ = std::fs::remove_file(&blob);
            return Err(PullError::Damaged {
                repo: self.repo.to_owned(),
                file: name.to_owned(),
                mismatch,
            });
        }
        watch(Pulling::Checked { name });
        pulled.fetched_files += 1;
        pulled.fetched_bytes += bytes;
        Ok(())
    }

    /// What `refs` says of the revision, also when every file was there already.
    fn name_revision(&self, commit: &str) -> Result<(), PullError> {
        self.cache.create_ref(commit).map_err(|e| self.disk(&e))
    }

    fn disk(&self, error: &std::io::Error) -> PullError {
        PullError::Disk {
            cache: self.hub.cache.display().to_string(),
            reason: error.to_string(),
        }
    }

    fn failure(&self, error: &ApiError, what: &str) -> PullError {
        let (endpoint, repo) = (self.hub.endpoint.clone(), self.repo.to_owned());
        let file = what.to_owned();
        match error {
            ApiError::RequestError(inner) => match **inner {
                ureq::Error::StatusCode(status @ (401 | 403)) => PullError::Forbidden {
                    endpoint,
                    repo,
                    status,
                },
                ureq::Error::StatusCode(404) => PullError::NotFound {
                    endpoint,
                    repo,
                    what: file,
                },
                ref other => PullError::Unreachable {
                    endpoint,
                    reason: other.to_string(),
                },
            },
            ApiError::TooManyRetries(last) => match self.failure(last, what) {
                PullError::Unreachable { reason, .. } | PullError::Disk { reason, .. } => {
                    PullError::BrokenOff { repo, file, reason }
                }
                plain => plain,
            },
            ApiError::LockAcquisition(_) => PullError::Busy { repo, file },
            ApiError::IoError(error) => self.disk(error),
            other => PullError::Unreachable {
                endpoint,
                reason: other.to_string(),
            },
        }
    }
}

/// Hands hf-hub's progress on.
struct Relay<'a> {
    watch: &'a dyn Fn(Pulling),
    at: u64,
    /// The next update tells where a try begins, not what it brought.
    begins: bool,
}

impl Progress for Relay<'_> {
    fn init(&mut self, _: usize, _: &str) {
        self.begins = true;
    }

    fn update(&mut self, size: usize) {
        let before = if std::mem::take(&mut self.begins) {
            0
        } else {
            self.at
        };
        self.at = before + size as u64;
        (self.watch)(Pulling::At(self.at));
    }

    fn finish(&mut self) {}
}
