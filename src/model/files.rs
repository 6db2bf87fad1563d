//! The files of a model, wherever they lie: a folder on disk or bytes inside the binary.

use std::borrow::Cow;
use std::fs::File;
use std::io::Read;
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

    /// A file to read from its start, and its length in bytes.
    pub fn open(&self, name: &str) -> Result<(Box<dyn Read + '_>, u64), ModelError> {
        match self {
            Self::Embedded(_) => {
                let bytes = self.read(name)?;
                let length = bytes.len() as u64;
                Ok((Box::new(std::io::Cursor::new(bytes)), length))
            }
            Self::Folder(folder) => {
                let path = folder.join(name);
                let opened = File::open(&path).and_then(|file| Ok((file.metadata()?.len(), file)));
                match opened {
                    Ok((length, file)) => Ok((Box::new(file), length)),
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                        Err(ModelError::MissingFile {
                            place: self.place(),
                            file: name.to_owned(),
                        })
                    }
                    Err(error) => Err(ModelError::Unreadable {
                        path,
                        reason: error.to_string(),
                    }),
                }
            }
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
