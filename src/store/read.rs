//! Questions to the database, answered beside the writer.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::Value;

use super::error::StoreError;
use super::record::{FeedbackRecord, RequestRecord};
use super::writer::key;
use super::{Filter, Recovered};
use crate::units::RequestId;

const COLUMNS: &str = "id, body, satisfied, label_source, judged_at";

pub struct Reader {
    pub connection: Connection,
    pub path: PathBuf,
}

/// A row as it lies in the table.
struct Raw {
    id: i64,
    body: String,
    feedback: Option<FeedbackRecord>,
}

impl Raw {
    fn take(row: &Row) -> Result<Self, rusqlite::Error> {
        let satisfied: Option<f64> = row.get(2)?;
        let source: Option<String> = row.get(3)?;
        let at: Option<f64> = row.get(4)?;
        let feedback = satisfied.map(|satisfied| FeedbackRecord {
            satisfied,
            source: source.unwrap_or_default(),
            at: at.unwrap_or_default(),
        });
        Ok(Self {
            id: row.get(0)?,
            body: row.get(1)?,
            feedback,
        })
    }

    fn read(self) -> Result<RequestRecord, StoreError> {
        let name = RequestId(self.id as u64).to_string();
        let mut record: RequestRecord =
            serde_json::from_str(&self.body).map_err(|error| StoreError::Record(name, error.to_string()))?;
        record.feedback = self.feedback;
        Ok(record)
    }
}

impl Reader {
    fn fail(&self) -> impl Fn(rusqlite::Error) -> StoreError + '_ {
        |error| StoreError::read(&self.path, &error)
    }

    pub fn request(&self, id: RequestId) -> Result<Option<RequestRecord>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM requests WHERE id = ?1");
        let mut query = self.connection.prepare_cached(&sql).map_err(self.fail())?;
        let raw = query
            .query_row([key(id)], Raw::take)
            .optional()
            .map_err(self.fail())?;
        raw.map(Raw::read).transpose()
    }

    /// Whether the request is known, and what was said of it.
    pub fn feedback(&self, id: RequestId) -> Result<Option<Option<f64>>, StoreError> {
        let sql = "SELECT satisfied FROM requests WHERE id = ?1";
        let mut query = self.connection.prepare_cached(sql).map_err(self.fail())?;
        query
            .query_row([key(id)], |row| row.get(0))
            .optional()
            .map_err(self.fail())
    }

    pub fn requests(&self, filter: &Filter) -> Result<Vec<RequestRecord>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM requests WHERE id < ?1 AND (?2 IS NULL OR model = ?2) AND (?3 IS NULL OR sla = ?3) \
             ORDER BY id DESC LIMIT ?4"
        );
        let before = filter.before.map_or(i64::MAX, key);
        let bounds = params![before, filter.model, filter.sla, filter.limit as i64];
        let mut query = self.connection.prepare_cached(&sql).map_err(self.fail())?;
        let rows = query.query_map(bounds, Raw::take).map_err(self.fail())?;
        rows.map(|row| row.map_err(self.fail()).and_then(Raw::read))
            .collect()
    }

    /// Up to `limit` requests after an id, oldest first.
    pub fn after(&self, id: Option<RequestId>, limit: usize) -> Result<Vec<RequestRecord>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM requests WHERE id > ?1 ORDER BY id LIMIT ?2");
        let mut query = self.connection.prepare_cached(&sql).map_err(self.fail())?;
        let bounds = params![id.map_or(i64::MIN, key), limit as i64];
        let rows = query.query_map(bounds, Raw::take).map_err(self.fail())?;
        rows.map(|row| row.map_err(self.fail()).and_then(Raw::read))
            .collect()
    }
}

/// Everything a server starts from, and the last sequence number in use.
pub fn recover(connection: &Connection, path: &Path) -> Result<(Recovered, u64), StoreError> {
    let fail = |error: rusqlite::Error| StoreError::read(path, &error);
    let parse = |body: String| {
        serde_json::from_str::<Value>(&body).map_err(|error| StoreError::Corrupt {
            path: path.to_owned(),
            why: error.to_string(),
        })
    };
    let single = |name: &str| {
        let sql = "SELECT seq, body FROM singles WHERE name = ?1";
        let row = connection.query_row(sql, [name], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?))
        });
        let found = row.optional().map_err(fail)?;
        found
            .map(|(seq, body)| Ok((seq as u64, parse(body)?)))
            .transpose()
    };
    let snapshot = single("snapshot")?;
    let ledger = single("ledger")?.map(|(_, value)| value);
    let start = snapshot.as_ref().map_or(0, |(seq, _)| *seq);
    let mut query = connection
        .prepare("SELECT seq, body FROM events WHERE seq > ?1 ORDER BY seq")
        .map_err(fail)?;
    let rows = query
        .query_map([start as i64], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?))
        })
        .map_err(fail)?;
    let mut events = vec![];
    for row in rows {
        let (seq, body) = row.map_err(fail)?;
        events.push((seq as u64, parse(body)?));
    }
    let last = events.last().map_or(start, |(seq, _)| *seq);
    Ok((
        Recovered {
            snapshot,
            events,
            ledger,
        },
        last,
    ))
}
