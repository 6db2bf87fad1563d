//! Whether a fetched file is the one that the hub has: its size and the hash in its etag.

use std::fmt;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use sha1::Sha1;
use sha2::{Digest, Sha256};

/// Bytes read at a time.
const CHUNK: usize = 1 << 20;

/// A hash as the hub states it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Checksum {
    /// Of a large file: SHA-256 of its bytes.
    Sha256(String),
    /// Of a file kept in git: SHA-1 of `blob SIZE\0` and its bytes.
    GitBlob(String),
    /// Another kind of etag; only the size can be checked.
    Unknown,
}

/// What is wrong with a fetched file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mismatch {
    Size { got: u64, wanted: u64 },
    Hash { got: String, wanted: String },
    Unreadable(String),
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Size { got, wanted } => write!(f, "it has {got} bytes of {wanted}"),
            Self::Hash { got, wanted } => write!(f, "its hash is {got}, the hub says {wanted}"),
            Self::Unreadable(why) => write!(f, "it cannot be read: {why}"),
        }
    }
}

impl Checksum {
    pub(super) fn of_etag(etag: &str) -> Self {
        let is_hash = etag.bytes().all(|b| b.is_ascii_hexdigit());
        match etag.len() {
            64 if is_hash => Self::Sha256(etag.to_lowercase()),
            40 if is_hash => Self::GitBlob(etag.to_lowercase()),
            _ => Self::Unknown,
        }
    }

    pub(super) fn check(&self, path: &Path, bytes: u64) -> Result<(), Mismatch> {
        let unreadable = |e: std::io::Error| Mismatch::Unreadable(e.to_string());
        let file = File::open(path).map_err(unreadable)?;
        let got = file.metadata().map_err(unreadable)?.len();
        if got != bytes {
            return Err(Mismatch::Size { got, wanted: bytes });
        }
        let (wanted, got) = match self {
            Self::Sha256(wanted) => (wanted, hashed(Sha256::new(), file).map_err(unreadable)?),
            Self::GitBlob(wanted) => {
                let head = Sha1::new_with_prefix(format!("blob {bytes}\0"));
                (wanted, hashed(head, file).map_err(unreadable)?)
            }
            Self::Unknown => return Ok(()),
        };
        if *wanted == got {
            return Ok(());
        }
        Err(Mismatch::Hash {
            got,
            wanted: wanted.clone(),
        })
    }
}

/// The digest of a file in hexadecimal.
fn hashed<D: Digest>(mut digest: D, file: File) -> std::io::Result<String> {
    let mut file = BufReader::with_capacity(CHUNK, file);
    let mut chunk = vec![0; CHUNK];
    loop {
        match file.read(&mut chunk)? {
            0 => {
                return Ok(digest
                    .finalize()
                    .iter()
                    .map(|byte| format!("{byte:02x}"))
                    .collect());
            }
            read => digest.update(&chunk[..read]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `sha256sum` and `git hash-object` of the same file.
    #[test]
    fn hashes_are_those_of_the_usual_tools() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        std::fs::write(&path, "hello\n").unwrap();
        let sha256 = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
        let blob = "ce013625030ba8dba906f756967f9e9ca394464a";
        for etag in [sha256, blob, "\"weak-etag\""] {
            assert_eq!(Checksum::of_etag(etag).check(&path, 6), Ok(()), "{etag}");
        }
        let short = Checksum::of_etag(sha256).check(&path, 7);
        assert_eq!(short, Err(Mismatch::Size { got: 6, wanted: 7 }));
        for etag in [sha256, blob] {
            let other = etag.replace('5', "6");
            assert!(matches!(
                Checksum::of_etag(&other).check(&path, 6),
                Err(Mismatch::Hash { .. })
            ));
        }
    }
}
