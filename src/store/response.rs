//! Responses that clients asked to keep, so that a later request may go on from them.

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::Value;

use super::error::StoreError;
use super::read::Reader;
use super::writer::key;
use crate::units::RequestId;

/// A response as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct ResponseRecord {
    /// The request that it answers.
    pub id: RequestId,
    /// Who may see it; `None` where nobody needs a key.
    pub owner: Option<String>,
    /// The response that it goes on from.
    pub previous: Option<RequestId>,
    /// Its input and the response itself: plain JSON here.
    pub body: Value,
}

const COLUMNS: &str = "id, owner, previous, body";

/// A row as it lies in the table.
struct Raw {
    id: i64,
    owner: Option<String>,
    previous: Option<i64>,
    body: String,
}

impl Raw {
    fn take(row: &Row) -> Result<Self, rusqlite::Error> {
        Ok(Self {
            id: row.get(0)?,
            owner: row.get(1)?,
            previous: row.get(2)?,
            body: row.get(3)?,
        })
    }

    fn read(self) -> Result<ResponseRecord, StoreError> {
        let id = RequestId(self.id as u64);
        let body = serde_json::from_str(&self.body)
            .map_err(|error| StoreError::Record(id.to_string(), error.to_string()))?;
        Ok(ResponseRecord {
            id,
            owner: self.owner,
            previous: self.previous.map(|previous| RequestId(previous as u64)),
            body,
        })
    }
}

impl Reader {
    pub fn response(&self, id: RequestId) -> Result<Option<ResponseRecord>, StoreError> {
        let fail = |error: rusqlite::Error| StoreError::read(&self.path, &error);
        let sql = format!("SELECT {COLUMNS} FROM responses WHERE id = ?1");
        let mut query = self.connection.prepare_cached(&sql).map_err(fail)?;
        let raw = query.query_row([key(id)], Raw::take).optional().map_err(fail)?;
        raw.map(Raw::read).transpose()
    }

    /// A response and all that it goes on from, the oldest first. Where one of them was deleted, the chain begins after
    /// it.
    pub fn responses_up_to(&self, id: RequestId) -> Result<Vec<ResponseRecord>, StoreError> {
        let fail = |error: rusqlite::Error| StoreError::read(&self.path, &error);
        let sql = "WITH RECURSIVE chain AS ( \
                       SELECT id, owner, previous, body, 0 AS age FROM responses WHERE id = ?1 \
                       UNION ALL SELECT r.id, r.owner, r.previous, r.body, c.age + 1 FROM responses r \
                       JOIN chain c ON r.id = c.previous) \
                   SELECT id, owner, previous, body FROM chain ORDER BY age DESC";
        let mut query = self.connection.prepare_cached(sql).map_err(fail)?;
        let rows = query.query_map([key(id)], Raw::take).map_err(fail)?;
        rows.map(|row| row.map_err(fail).and_then(Raw::read)).collect()
    }
}

pub fn put(connection: &Connection, record: &ResponseRecord) -> Result<(), rusqlite::Error> {
    let sql = format!("INSERT OR REPLACE INTO responses ({COLUMNS}) VALUES (?1, ?2, ?3, ?4)");
    let mut insert = connection.prepare_cached(&sql)?;
    let previous = record.previous.map(key);
    let values = params![key(record.id), record.owner, previous, record.body.to_string()];
    insert.execute(values).map(|_| ())
}

pub fn delete(connection: &Connection, id: RequestId) -> Result<(), rusqlite::Error> {
    let mut delete = connection.prepare_cached("DELETE FROM responses WHERE id = ?1")?;
    delete.execute([key(id)]).map(|_| ())
}
