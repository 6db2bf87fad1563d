//! Where a model comes from, where it computes, and in which numbers.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::{Refusal, nearest};

/// The models that come with the binary, cheapest first.
pub const DEMO_MODELS: [&str; 3] = ["small", "medium", "large"];

/// `hf:ORG/NAME[@REV][:FILE.gguf]`, `path:DIR`, `path:FILE.gguf` or `demo:NAME`; `random:SHAPE` for benchmarks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// A repository of the Hugging Face Hub, looked up in the local cache.
    Hub {
        /// `ORG/NAME`
        repo: String,
        /// A branch, tag or commit; `None` is `main`.
        revision: Option<String>,
        /// A GGUF file of the repository; `None` is the repository's safetensors.
        file: Option<String>,
    },
    /// A folder with `config.json`, `tokenizer.json` and safetensors.
    Folder(PathBuf),
    /// One GGUF file.
    Gguf(PathBuf),
    /// One of [`DEMO_MODELS`].
    Demo(String),
    /// Random weights in the shape of a published model, for benchmarks only.
    Random(String),
}

impl Source {
    /// The same source with a relative path taken from `folder`, and `~/` from the home directory.
    pub(super) fn resolved(self, folder: &Path) -> Self {
        let resolve = |path: PathBuf| match (path.strip_prefix("~"), std::env::var_os("HOME")) {
            (Ok(rest), Some(home)) => PathBuf::from(home).join(rest),
            _ => folder.join(path),
        };
        match self {
            Self::Folder(path) => Self::Folder(resolve(path)),
            Self::Gguf(path) => Self::Gguf(resolve(path)),
            other => other,
        }
    }
}

impl FromStr for Source {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        match text.split_once(':') {
            Some(("hf", rest)) => hub(text, rest),
            Some(("path", rest)) if !rest.is_empty() => Ok(if is_gguf(rest) {
                Self::Gguf(PathBuf::from(rest))
            } else {
                Self::Folder(PathBuf::from(rest))
            }),
            Some(("path", _)) => Err(Refusal::new(
                "is 'path:' with no path",
                "write path:DIR or path:FILE.gguf",
            )),
            Some(("demo", name)) if DEMO_MODELS.contains(&name) => Ok(Self::Demo(name.into())),
            Some(("demo", name)) => Err(Refusal::new(
                format!("is 'demo:{name}', but the demo zoo has no such model"),
                "write demo:small, demo:medium or demo:large",
            )),
            Some(("random", name)) if !name.is_empty() => Ok(Self::Random(name.into())),
            _ => Err(Refusal::new(
                format!("is {text:?}, which says not where the model is"),
                "write hf:ORG/NAME, path:DIR, path:FILE.gguf or demo:NAME",
            )),
        }
    }
}

/// Neither a repository's name nor a revision holds a colon, so what follows the first one is a file.
fn hub(text: &str, rest: &str) -> Result<Source, Refusal> {
    let refuse = |problem: &str| {
        Err(Refusal::new(
            format!("is {text:?}, where {problem}"),
            "write hf:ORG/NAME, hf:ORG/NAME@REVISION or hf:ORG/NAME:FILE.gguf",
        ))
    };
    let (head, file) = rest
        .split_once(':')
        .map_or((rest, None), |(head, file)| (head, Some(file)));
    let (repo, revision) = head
        .split_once('@')
        .map_or((head, None), |(repo, rev)| (repo, Some(rev)));
    let part = |p: &str| {
        !p.is_empty()
            && !p.starts_with(['.', '-'])
            && !p.contains("..")
            && p.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
    };
    // These become names of folders in the cache: nothing may lead out of it.
    let inside = |path: &str| path.split('/').all(|p| !p.is_empty() && p != "." && p != "..");
    match repo.split_once('/') {
        Some((org, name)) if part(org) && part(name) => {}
        _ => return refuse(&format!("'{repo}' is not ORG/NAME")),
    }
    if revision.is_some_and(|r| !inside(r) || r.contains(char::is_whitespace)) {
        return refuse("the revision after @ is not a branch, tag or commit");
    }
    match file {
        Some(file) if !is_gguf(file) || !inside(file) => refuse("the file after ':' is not FILE.gguf"),
        _ => Ok(Source::Hub {
            repo: repo.into(),
            revision: revision.map(Into::into),
            file: file.map(Into::into),
        }),
    }
}

fn is_gguf(path: &str) -> bool {
    Path::new(path)
        .extension()
        .is_some_and(|e| e.eq_ignore_ascii_case("gguf"))
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hub { repo, revision, file } => {
                write!(f, "hf:{repo}")?;
                revision.iter().try_for_each(|r| write!(f, "@{r}"))?;
                file.iter().try_for_each(|n| write!(f, ":{n}"))
            }
            Self::Folder(path) | Self::Gguf(path) => write!(f, "path:{}", path.display()),
            Self::Demo(name) => write!(f, "demo:{name}"),
            Self::Random(name) => write!(f, "random:{name}"),
        }
    }
}

/// Where a model computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Device {
    /// The first GPU of a build that can use one, else the CPU.
    #[default]
    Auto,
    Cpu,
    Cuda(usize),
}

impl FromStr for Device {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        let number = |n: &str| {
            n.chars()
                .all(|c| c.is_ascii_digit())
                .then(|| n.parse().ok())
                .flatten()
        };
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            _ => text
                .strip_prefix("cuda:")
                .and_then(number)
                .map(Self::Cuda)
                .ok_or_else(|| {
                    Refusal::new(
                        format!("is {text:?}, which is no device"),
                        "write auto, cpu or cuda:N, say cuda:0",
                    )
                }),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(n) => write!(f, "cuda:{n}"),
        }
    }
}

/// The numbers a model computes in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// What suits the device: f32 on the CPU, the file's own on a GPU.
    #[default]
    Auto,
    F32,
    F16,
    Bf16,
}

impl Dtype {
    fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        }
    }
}

impl FromStr for Dtype {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        choose(
            text,
            &[Self::Auto, Self::F32, Self::F16, Self::Bf16].map(|d| (d.name(), d)),
        )
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One of a few words; the nearest is offered to who mistypes it.
pub(super) fn choose<T: Copy>(text: &str, words: &[(&str, T)]) -> Result<T, Refusal> {
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
        return Ok(*value);
    }
    let names: Vec<_> = words.iter().map(|(word, _)| *word).collect();
    let mend = match nearest(text, &names) {
        Some(word) => format!("did you mean \"{word}\"? It may be {}", names.join(", ")),
        None => format!("it may be {}", names.join(", ")),
    };
    Err(Refusal::new(format!("is {text:?}"), mend))
}
