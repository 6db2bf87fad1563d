//! The files of a model, wherever they lie: a folder on disk or bytes inside the binary.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use super::ModelError;

pub enum Files {
    Folder(PathBuf),
    Embedded(&'static [(&'static str, &'static [u8])]),
}

impl Files {
    /// How messages name the place.
    pub fn place(&self) -> String {
        match self {
            Self::Folder(path) => path.display().to_string(),
            Self::Embedded(_) => "the built-in model".to_owned(),
        }
    }

    pub fn path(&self, name: &str) -> Option<PathBuf> {
        match self {
            Self::Folder(folder) => Some(folder.join(name)),
            Self::Embedded(_) => None,
        }
    }

    pub fn read(&self, name: &str) -> Result<Cow<'static, [u8]>, ModelError> {
        self.read_optional(name)?.ok_or_else(|| ModelError::MissingFile {
            place: self.place(),
            file: name.to_owned(),
        })
    }

    pub fn read_optional(&self, name: &str) -> Result<Option<Cow<'static, [u8]>>, ModelError> {
        match self {
            Self::Embedded(files) => Ok(files
                .iter()
                .find(|(file, _)| *file == name)
                .map(|(_, bytes)| Cow::Borrowed(*bytes))),
            Self::Folder(folder) => read_if_there(&folder.join(name)).map(|bytes| bytes.map(Cow::Owned)),
        }
    }

    /// Parses an optional JSON file.
    pub fn json(&self, name: &str) -> Result<Option<serde_json::Value>, ModelError> {
        let Some(bytes) = self.read_optional(name)? else {
            return Ok(None);
        };
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| ModelError::BadFile {
                place: self.place(),
                file: name.to_owned(),
                reason: error.to_string(),
            })
    }
}

fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, ModelError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ModelError::Unreadable {
            path: path.to_owned(),
            reason: error.to_string(),
        }),
    }
}
