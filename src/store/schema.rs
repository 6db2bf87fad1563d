//! The files of a data folder: a lock file that one process may hold, and one SQLite database with a
//! versioned schema.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::error::StoreError;

/// Schema changes in order; the database's `user_version` says how many it has seen. Never edit one that was
/// released.
const MIGRATIONS: [&str; 2] = [
    "
    CREATE TABLE events (seq INTEGER PRIMARY KEY, body TEXT NOT NULL) STRICT;
    CREATE TABLE singles (name TEXT PRIMARY KEY, seq INTEGER NOT NULL, body TEXT NOT NULL) STRICT;
    CREATE TABLE requests (
        id INTEGER PRIMARY KEY, created REAL NOT NULL, model TEXT NOT NULL, sla TEXT, body TEXT NOT NULL,
        satisfied REAL, label_source TEXT, judged_at REAL
    ) STRICT;
    CREATE INDEX requests_by_model ON requests (model, id);
    CREATE INDEX requests_by_sla ON requests (sla, id);
",
    "CREATE TABLE responses (id INTEGER PRIMARY KEY, owner TEXT, previous INTEGER, body TEXT NOT NULL) STRICT;",
];

pub fn database(folder: &Path) -> PathBuf {
    folder.join("messplus.sqlite3")
}

/// Takes the folder for this process; it is free again when the file is dropped, however the process ends.
pub fn lock(folder: &Path) -> Result<File, StoreError> {
    std::fs::create_dir_all(folder).map_err(|error| StoreError::folder(folder, error))?;
    let open = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(folder.join("messplus.lock"));
    let file = open.map_err(|error| StoreError::folder(folder, error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Busy(folder.to_owned())),
        Err(TryLockError::Error(error)) => Err(StoreError::folder(folder, error)),
    }
}

/// The connection that writes. FULL: a commit returns when the disk has it.
pub fn writer(path: &Path) -> Result<Connection, StoreError> {
    let fail = |error: rusqlite::Error| StoreError::write(path, &error);
    let mut connection = Connection::open(path).map_err(fail)?;
    connection.busy_timeout(Duration::from_secs(2)).map_err(fail)?;
    connection
        .pragma_update(None, "journal_mode", "WAL")
        .map_err(fail)?;
    connection
        .pragma_update(None, "synchronous", "FULL")
        .map_err(fail)?;
    migrate(&mut connection, path)?;
    Ok(connection)
}

/// A connection that only reads, beside the writer.
pub fn reader(path: &Path) -> Result<Connection, StoreError> {
    let fail = |error: rusqlite::Error| StoreError::read(path, &error);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(fail)?;
    connection.busy_timeout(Duration::from_secs(2)).map_err(fail)?;
    connection.pragma_update(None, "query_only", true).map_err(fail)?;
    Ok(connection)
}

fn migrate(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let fail = |error: rusqlite::Error| StoreError::write(path, &error);
    let known = MIGRATIONS.len() as i64;
    let transaction = connection.transaction().map_err(fail)?;
    let found: i64 = transaction
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(fail)?;
    if found > known {
        return Err(StoreError::Newer {
            path: path.to_owned(),
            found,
            known,
        });
    }
    for step in &MIGRATIONS[found.max(0) as usize..] {
        transaction.execute_batch(step).map_err(fail)?;
    }
    if found != known {
        transaction
            .pragma_update(None, "user_version", known)
            .map_err(fail)?;
    }
    transaction.commit().map_err(fail)
}
