//! The zoo file: which models, on which devices, under which promises. Read once, checked whole, refused with the
//! line and the mend before anything is loaded.
//!
//! [`Zoo::load`] is the only way in; what it returns is known to hold together. Only [`crate::units`] is imported.

mod bytes;
mod check;
mod error;
mod labels;
mod names;
mod parse;
mod reader;
#[cfg(test)]
mod refusal_tests;
mod source;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use crate::units::{ModelId, Watts};

pub use bytes::{bytes_text, parse_bytes};
pub use error::{ConfigError, Refusal};
pub use labels::Labels;
use names::nearest;
pub use source::{DEMO_MODELS, Device, Dtype, Source};

/// The demo zoo, which needs no file, no network and no GPU: also the commented example of a zoo file.
pub const DEMO_ZOO: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/models/demo.toml"));

/// How errors name the zoo that comes with the binary.
const DEMO_ORIGIN: &str = "models/demo.toml (built in)";

/// The name of the class that `model: "auto"` is answered under.
pub const DEFAULT_SLA: &str = "default";

/// The share promised when a zoo file has no `[[sla]]`.
pub const DEFAULT_ALPHA: f64 = 0.80;

/// A zoo file that holds together.
#[derive(Clone, Debug, PartialEq)]
pub struct Zoo {
    /// The file it came from, as errors name it.
    pub origin: String,
    pub server: Server,
    pub energy: Energy,
    /// At least one; names are unique. A [`ModelId`] is an index into it.
    pub models: Vec<Model>,
    /// At least one; names are unique and one is [`DEFAULT_SLA`].
    pub slas: Vec<Sla>,
    pub router: Router,
}

/// `[server]`
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    pub listen: SocketAddr,
    /// One key a line, blank lines and lines that begin with `#` aside. Without it only loopback is listened on.
    pub api_keys_file: Option<PathBuf>,
    /// Requests of one key that may be under way; one more is answered 429. `None` sets no bound.
    pub max_per_key: Option<usize>,
    /// A certificate chain and its key in PEM: with them the door speaks TLS and nothing else.
    pub tls: Option<TlsFiles>,
    /// Requests that may wait; one more is answered 429.
    pub max_queue: usize,
    /// Sequences of one model that run together; more wait.
    pub max_batch: usize,
    /// Bytes of a request's body; a longer one is answered 413.
    pub max_body: usize,
    /// Tokens of a request's prompts; more are answered 400. `None`: as many as a context holds.
    pub max_prompt: Option<usize>,
    /// Keep keys and values for prompts that begin alike, as long as their memory is not wanted.
    pub prefix_cache: bool,
}

/// The files of a TLS server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080),
            api_keys_file: None,
            max_per_key: None,
            tls: None,
            max_queue: 256,
            max_batch: 256,
            max_body: 16 << 20,
            max_prompt: None,
            prefix_cache: true,
        }
    }
}

/// `[energy]`
#[derive(Clone, Debug, PartialEq)]
pub struct Energy {
    pub meter: MeterKind,
    pub idle: IdlePolicy,
    /// The NVML library: a bare name is looked up as the system does, anything with a slash is a path.
    pub nvml_library: String,
    /// What a device without a counter is taken to draw at rest.
    pub modelled_idle_watts: Watts,
    /// What it is taken to draw while computing, rest included.
    pub modelled_active_watts: Watts,
    /// The file that every step and every reading is appended to, by its path; none when absent.
    pub record: Option<PathBuf>,
}

impl Default for Energy {
    /// 10 W and 65 W: a desktop processor's package at rest, and the thermal design power most of them are sold
    /// with. A declared guess, which is why every joule that comes of it is labelled `modelled`.
    fn default() -> Self {
        Self {
            meter: MeterKind::Auto,
            idle: IdlePolicy::Separate,
            nvml_library: "libnvidia-ml.so.1".into(),
            modelled_idle_watts: Watts(10.0),
            modelled_active_watts: Watts(65.0),
            record: None,
        }
    }
}

/// Where joules come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MeterKind {
    /// The best counter the machine has; `modelled` where it has none.
    #[default]
    Auto,
    Nvml,
    Rapl,
    Modelled,
}

/// Who pays for idle watts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IdlePolicy {
    /// An account of its own.
    #[default]
    Separate,
    /// The requests in flight.
    Shared,
}

/// One `[[model]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    pub name: String,
    /// Folders and files in it are resolved against the zoo file's folder.
    pub source: Source,
    pub device: Device,
    pub dtype: Dtype,
    /// `None`: as many tokens as the model was made for.
    pub max_context: Option<usize>,
    /// Bytes for keys and values; see [`Model::kv_budget`] for what `None` means.
    pub kv_cache: Option<u64>,
    /// The line of its `[[model]]`, so that what is found wrong later can still name it.
    pub line: usize,
}

impl Model {
    /// Bytes of keys and values this model adds to its device's pool: what the file says, or room for 64 full
    /// contexts but no more than 1 GiB, and never less than one full context.
    pub fn kv_budget(&self, bytes_per_token: u64, max_context: usize) -> u64 {
        const GENEROUS: u64 = 1 << 30;
        let one = bytes_per_token.saturating_mul(max_context as u64);
        self.kv_cache
            .unwrap_or_else(|| one.saturating_mul(64).min(GENEROUS).max(one))
    }
}

/// One `[[sla]]`: a promise.
#[derive(Clone, Debug, PartialEq)]
pub struct Sla {
    pub name: String,
    /// The promised long-run share of satisfied requests, in (0, 1).
    pub alpha: f64,
    /// Whose word counts on whether an answer satisfies.
    pub labels: Labels,
}

/// `[router]`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Router {
    pub policy: Policy,
    pub features: Features,
    /// The line that says so, so that what is found wrong later can still name it; 0 for n-grams, where nothing can be.
    pub features_line: usize,
}

/// What the router sees of a text besides its length.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Features {
    /// Its words and pairs of words.
    #[default]
    Ngrams,
    /// These and the smallest model's hidden state of the prompt.
    Hidden,
    /// These and an encoder's vector.
    ModernBert(Source),
}

impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ngrams => f.write_str("ngrams"),
            Self::Hidden => f.write_str("hidden"),
            Self::ModernBert(source) => write!(f, "modernbert {source}"),
        }
    }
}

/// How a model is chosen for a request that names none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    #[default]
    MessPlus,
    Paper,
    /// Always this model, which is in the zoo.
    Fixed(String),
    Random,
    /// One of [`BASELINES`].
    Baseline(&'static str),
}

/// Simpler policies to compare with: `bandit` is `thompson`.
pub const BASELINES: [&str; 5] = ["bandit", "epsilon-greedy", "thompson", "ucb", "threshold"];

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MessPlus => f.write_str("mess-plus"),
            Self::Paper => f.write_str("paper"),
            Self::Fixed(model) => write!(f, "fixed:{model}"),
            Self::Random => f.write_str("random"),
            Self::Baseline(name) => f.write_str(name),
        }
    }
}

impl Zoo {
    /// Reads and checks a zoo file; with no path, the demo zoo built into the binary.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let Some(path) = path else {
            return Self::parse(DEMO_ORIGIN, DEMO_ZOO, Path::new(""));
        };
        let origin = path.display().to_string();
        let bytes = std::fs::read(path).map_err(|e| ConfigError::Unreadable {
            file: origin.clone(),
            reason: error::plain_io(&e),
        })?;
        let text = match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(e) => {
                let start = &e.as_bytes()[..e.utf8_error().valid_up_to()];
                return Err(ConfigError::Syntax {
                    file: origin,
                    line: 1 + start.iter().filter(|b| **b == b'\n').count(),
                    reason: "the text is not UTF-8: save the file as UTF-8".into(),
                });
            }
        };
        Self::parse(&origin, &text, path.parent().unwrap_or(Path::new("")))
    }

    /// Checks the text of a zoo file. `origin` names it in errors; relative paths are taken from `folder`.
    pub fn parse(origin: &str, text: &str, folder: &Path) -> Result<Self, ConfigError> {
        parse::parse(origin, text, folder)
    }

    /// Listens elsewhere than the file says, under the same rules: what `--listen` does.
    pub fn listen_on(&mut self, address: &str) -> Result<(), ConfigError> {
        let refuse = |r: Refusal| ConfigError::Argument {
            argument: "--listen".into(),
            problem: r.problem,
            mend: r.mend,
        };
        let listen = check::listen(address).map_err(refuse)?;
        check::exposure(listen, self.server.api_keys_file.is_some()).map_err(refuse)?;
        self.server.listen = listen;
        Ok(())
    }

    /// The keys of `api_keys_file`, read anew; empty when the zoo has no such file.
    pub fn api_keys(&self) -> Result<Vec<String>, ConfigError> {
        let Some(path) = &self.server.api_keys_file else {
            return Ok(Vec::new());
        };
        check::keys(path).map_err(|r| ConfigError::Argument {
            argument: "server.api_keys_file".into(),
            problem: r.problem,
            mend: r.mend,
        })
    }

    /// The place of the model of that name.
    pub fn model_id(&self, name: &str) -> Option<ModelId> {
        self.models
            .iter()
            .position(|m| m.name == name)
            .map(|i| ModelId(i as u16))
    }

    /// The promise of that name.
    pub fn sla(&self, name: &str) -> Option<&Sla> {
        self.slas.iter().find(|s| s.name == name)
    }

    /// An error about `[router]` that only shows later.
    pub fn refuse_router(&self, key: &str, problem: String, mend: String) -> ConfigError {
        ConfigError::Refused {
            file: self.origin.clone(),
            line: self.router.features_line,
            key: format!("router.{key}"),
            problem,
            mend,
        }
    }

    /// An error about a model that only shows later, say that it does not fit: it names the line of its `[[model]]`.
    pub fn refuse_model(&self, model: &Model, key: &str, problem: String, mend: String) -> ConfigError {
        ConfigError::Refused {
            file: self.origin.clone(),
            line: model.line,
            key: format!("model.{key}"),
            problem: format!("of '{}' {problem}", model.name),
            mend,
        }
    }
}
