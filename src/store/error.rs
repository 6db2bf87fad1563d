//! What can go wrong with the data folder, each as one sentence with its mend.

use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

/// Cloned to everyone who waits on the same commit.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum StoreError {
    #[error(
        "the data folder {0} is in use by another messplus process: stop that one or choose another --data-dir"
    )]
    Busy(PathBuf),
    #[error(
        "the data folder {path} cannot be used: {why}; make it a folder that this user may write, or choose another --data-dir"
    )]
    Folder { path: PathBuf, why: String },
    #[error("the database {path} is damaged: {why}; move it away and restart, or restore a copy")]
    Corrupt { path: PathBuf, why: String },
    #[error(
        "the database {path} was written by a newer messplus (schema {found}, this one knows {known}): upgrade messplus"
    )]
    Newer { path: PathBuf, found: i64, known: i64 },
    #[error("the disk under {0} is full: nothing more is recorded until space is freed")]
    Full(PathBuf),
    #[error("the database {path} cannot be written: {why}; check its permissions and its disk")]
    Write { path: PathBuf, why: String },
    #[error("the database {path} cannot be read: {why}; check its permissions and its disk")]
    Read { path: PathBuf, why: String },
    #[error("the record of {0} cannot be read back: {1}; it was written by another version")]
    Record(String, String),
    #[error("the feedback on {0} was not recorded: the write that came before it failed; send it again")]
    Unconfirmed(String),
    #[error("the store is closed: the server is shutting down")]
    Closed,
    #[error("the export stopped: {0}")]
    Export(String),
}

impl StoreError {
    pub(super) fn folder(path: &Path, why: impl ToString) -> Self {
        Self::Folder {
            path: path.to_owned(),
            why: why.to_string(),
        }
    }

    pub(super) fn write(path: &Path, error: &rusqlite::Error) -> Self {
        Self::told(path, error).unwrap_or_else(|| Self::Write {
            path: path.to_owned(),
            why: error.to_string(),
        })
    }

    pub(super) fn read(path: &Path, error: &rusqlite::Error) -> Self {
        Self::told(path, error).unwrap_or_else(|| Self::Read {
            path: path.to_owned(),
            why: error.to_string(),
        })
    }

    /// The failures that have a mend of their own.
    fn told(path: &Path, error: &rusqlite::Error) -> Option<Self> {
        match error.sqlite_error_code()? {
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => Some(Self::Corrupt {
                path: path.to_owned(),
                why: error.to_string(),
            }),
            ErrorCode::DiskFull => Some(Self::Full(path.to_owned())),
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => Some(Self::Busy(path.to_owned())),
            _ => None,
        }
    }
}
