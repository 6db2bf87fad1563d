//! The one thread that writes. It takes everything that is waiting, makes one transaction of it, commits
//! once, and only then tells those who wait: many requests share the price of one disk flush, and nothing is
//! acknowledged that a crash could lose.

use std::fs::File;
use std::path::PathBuf;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, OptionalExtension, params};
use tokio::sync::oneshot;

use super::error::StoreError;
use super::flight::Flight;
use super::record::{FeedbackRecord, RequestRecord};
use super::response::{self, ResponseRecord};
use crate::units::RequestId;

/// Most jobs that share a commit.
const BATCH: usize = 1024;

/// One thing to write.
pub enum Job {
    Events {
        first: u64,
        bodies: Vec<String>,
    },
    Record(Box<RequestRecord>),
    Feedback {
        id: RequestId,
        feedback: FeedbackRecord,
    },
    /// Writes nothing: fails unless the feedback stands as said.
    Confirm {
        id: RequestId,
        satisfied: f64,
    },
    Snapshot {
        seq: u64,
        body: String,
    },
    Ledger {
        body: String,
    },
    Response(Box<ResponseRecord>),
    Forget {
        response: RequestId,
    },
}

/// Jobs that are committed together, and who waits for them.
pub struct Order {
    pub jobs: Vec<Job>,
    pub seq: u64,
    pub done: oneshot::Sender<Result<u64, StoreError>>,
}

pub enum Message {
    Order(Order),
    Close,
}

pub struct Writer {
    pub connection: Connection,
    pub path: PathBuf,
    pub inbox: Receiver<Message>,
    pub flight: Arc<Mutex<Flight>>,
    /// The folder belongs to whoever writes, for as long as it may write.
    pub _lock: File,
}

impl Writer {
    /// Runs until it is told to close or every handle is gone; what was enqueued before is committed first.
    pub fn run(mut self) {
        while let Ok(first) = self.inbox.recv() {
            let mut orders = vec![];
            let mut closing = false;
            let mut next = Some(first);
            while let Some(message) = next {
                match message {
                    Message::Order(order) => orders.push(order),
                    Message::Close => {
                        closing = true;
                        break;
                    }
                }
                next = if orders.len() < BATCH {
                    self.inbox.try_recv().ok()
                } else {
                    None
                };
            }
            self.commit(orders);
            if closing {
                // Folding the log into the database is a courtesy to whoever copies the file; recovery works
                // without.
                let _ = self.connection.pragma_update(None, "wal_checkpoint", "TRUNCATE");
                return;
            }
        }
    }

    fn commit(&mut self, orders: Vec<Order>) {
        if orders.is_empty() {
            return;
        }
        let outcome = self
            .write(&orders)
            .map_err(|error| StoreError::write(&self.path, &error));
        if let Err(error) = &outcome {
            tracing::error!(orders = orders.len(), "{error}");
        }
        let mut flight = self.flight.lock().unwrap_or_else(PoisonError::into_inner);
        for job in orders.iter().flat_map(|order| &order.jobs) {
            flight.landed(job);
        }
        drop(flight);
        let unconfirmed = outcome.as_ref().cloned().unwrap_or_default();
        for (place, order) in orders.into_iter().enumerate() {
            let answer = match (&outcome, unconfirmed.iter().find(|(p, _)| *p == place)) {
                (Err(error), _) => Err(error.clone()),
                (Ok(_), Some((_, id))) => Err(StoreError::Unconfirmed(id.to_string())),
                (Ok(_), None) => Ok(order.seq),
            };
            let _ = order.done.send(answer);
        }
    }

    /// One transaction; returns the orders whose confirmation failed. An error rolls everything back.
    fn write(&mut self, orders: &[Order]) -> Result<Vec<(usize, RequestId)>, rusqlite::Error> {
        let mut unconfirmed = vec![];
        let transaction = self.connection.transaction()?;
        for (place, order) in orders.iter().enumerate() {
            for job in &order.jobs {
                if let Job::Confirm { id, satisfied } = job {
                    if stands(&transaction, *id)? != Some(*satisfied) {
                        unconfirmed.push((place, *id));
                    }
                } else {
                    run(&transaction, job)?;
                }
            }
        }
        transaction.commit()?;
        Ok(unconfirmed)
    }
}

fn stands(connection: &Connection, id: RequestId) -> Result<Option<f64>, rusqlite::Error> {
    let mut query = connection.prepare_cached("SELECT satisfied FROM requests WHERE id = ?1")?;
    Ok(query.query_row([key(id)], |row| row.get(0)).optional()?.flatten())
}

fn run(connection: &Connection, job: &Job) -> Result<(), rusqlite::Error> {
    match job {
        Job::Events { first, bodies } => {
            let mut insert = connection.prepare_cached("INSERT INTO events (seq, body) VALUES (?1, ?2)")?;
            for (at, body) in bodies.iter().enumerate() {
                insert.execute(params![(first + at as u64) as i64, body])?;
            }
        }
        Job::Record(record) => {
            let mut upsert = connection.prepare_cached(
                "INSERT INTO requests (id, created, model, sla, body) VALUES (?1, ?2, ?3, ?4, ?5) \
                 ON CONFLICT (id) DO UPDATE SET created = ?2, model = ?3, sla = ?4, body = ?5",
            )?;
            let body = serde_json::to_string(record)
                .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
            upsert.execute(params![
                key(record.id),
                record.created,
                record.model,
                record.sla,
                body
            ])?;
        }
        Job::Feedback { id, feedback } => {
            let mut update = connection.prepare_cached(
                "UPDATE requests SET satisfied = ?2, label_source = ?3, judged_at = ?4 WHERE id = ?1",
            )?;
            update.execute(params![
                key(*id),
                feedback.satisfied,
                feedback.source,
                feedback.at
            ])?;
        }
        Job::Snapshot { seq, body } => {
            single(connection, "snapshot", *seq, body)?;
            connection.execute("DELETE FROM events WHERE seq <= ?1", [*seq as i64])?;
        }
        Job::Ledger { body } => single(connection, "ledger", 0, body)?,
        Job::Response(record) => response::put(connection, record)?,
        Job::Forget { response } => response::delete(connection, *response)?,
        Job::Confirm { .. } => {}
    }
    Ok(())
}

/// Keeps the newest of its name; an older sequence number never replaces a newer one.
fn single(connection: &Connection, name: &str, seq: u64, body: &str) -> Result<(), rusqlite::Error> {
    let mut upsert = connection.prepare_cached(
        "INSERT INTO singles (name, seq, body) VALUES (?1, ?2, ?3) \
         ON CONFLICT (name) DO UPDATE SET seq = ?2, body = ?3 WHERE seq <= ?2",
    )?;
    upsert.execute(params![name, seq as i64, body]).map(|_| ())
}

/// SQLite's integers are signed; the cast keeps the order of ids for the next 250 years.
pub fn key(id: RequestId) -> i64 {
    id.0 as i64
}
