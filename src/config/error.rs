//! What can be wrong with a zoo file, said in one sentence: where, what, and the mend.

use std::fmt;

/// Why a zoo file, or an argument that changes it, is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file itself.
    #[error("{file} cannot be read ({reason}): check the path, or leave --zoo out to use the demo zoo")]
    Unreadable { file: String, reason: String },
    /// What is not TOML.
    #[error("{file}:{line}: {reason}")]
    Syntax {
        file: String,
        line: usize,
        reason: String,
    },
    /// A key, or its value.
    #[error("{file}:{line}: `{key}` {problem}: {mend}")]
    Refused {
        file: String,
        line: usize,
        key: String,
        problem: String,
        mend: String,
    },
    /// What was not said in the file.
    #[error("`{argument}` {problem}: {mend}")]
    Argument {
        argument: String,
        problem: String,
        mend: String,
    },
}

impl ConfigError {
    /// The line of the zoo file it is about.
    pub fn line(&self) -> Option<usize> {
        match self {
            Self::Syntax { line, .. } | Self::Refused { line, .. } => Some(*line),
            Self::Unreadable { .. } | Self::Argument { .. } => None,
        }
    }
}

/// What is wrong with one value, said without knowing where it stands: `problem` goes on from the key's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Refusal {
    pub problem: String,
    pub mend: String,
}

impl Refusal {
    pub fn new(problem: impl Into<String>, mend: impl Into<String>) -> Self {
        Self {
            problem: problem.into(),
            mend: mend.into(),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.problem, self.mend)
    }
}

/// An input or output error without the number the standard library appends.
pub(super) fn plain_io(error: &std::io::Error) -> String {
    let text = error.to_string();
    let end = text.find(" (os error").unwrap_or(text.len());
    text[..end].to_lowercase()
}
