//! What must not be forgotten: requests, decisions, feedback, responses, snapshots, the ledger.
//!
//! One SQLite database in a data folder that one process may use, written by one thread with group commit.
//! Router events are opaque JSON here, numbered in the order in which they were handed in, so that state =
//! snapshot + the events after it. A commit that failed leaves a gap: whoever still holds the state that
//! includes it closes it with a new snapshot. No SQL leaves this room.

mod error;
mod export;
mod flight;
mod read;
mod record;
mod response;
mod schema;
#[cfg(test)]
mod tests;
mod writer;

pub use error::StoreError;
pub use record::{AnswerRecord, EnergyRecord, FeedbackRecord, RequestRecord, TimingRecord};
pub use response::ResponseRecord;

use std::future::Future;
use std::io::Write;
use std::path::Path;
use std::pin::Pin;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::thread::JoinHandle;

use serde_json::Value;
use tokio::sync::oneshot;

use crate::units::RequestId;
use flight::Flight;
use read::Reader;
use writer::{Job, Message, Order, Writer};

/// Rows read at a time by an export, so that it never holds up other readers for long.
const PAGE: usize = 500;

/// What was found in the data folder.
#[derive(Clone, Debug, PartialEq)]
pub struct Recovered {
    /// The router's state after the event of this number.
    pub snapshot: Option<(u64, Value)>,
    /// The events after it, in order.
    pub events: Vec<(u64, Value)>,
    pub ledger: Option<Value>,
}

/// Which requests to list, newest first.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter {
    pub model: Option<String>,
    pub sla: Option<String>,
    /// Only requests older than this one: the last of the page before.
    pub before: Option<RequestId>,
    pub limit: usize,
}

impl Default for Filter {
    fn default() -> Self {
        Self {
            model: None,
            sla: None,
            before: None,
            limit: 100,
        }
    }
}

/// What became of a feedback.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FeedbackOutcome {
    /// New. Its events are in the log, in the order of this call.
    Recorded,
    /// The same was said before.
    Repeated,
    /// Something else was said before, and that stands.
    Contradicts { was: f64 },
    /// No such request.
    Unknown,
}

/// A feedback's outcome, known at once, and its commit, which must be awaited before anyone is told.
#[derive(Debug)]
pub struct FeedbackReceipt {
    pub outcome: FeedbackOutcome,
    pub commit: Commit,
}

/// A write under way. Await it to know that it is durable; drop it not to care.
#[derive(Debug)]
pub struct Commit {
    seq: u64,
    done: oneshot::Receiver<Result<u64, StoreError>>,
}

impl Commit {
    /// The number of the last event handed in up to this write, durable or not yet: what a snapshot of the
    /// router taken now is a snapshot of.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Blocks the thread; not for async code.
    pub fn wait(self) -> Result<u64, StoreError> {
        self.done.blocking_recv().unwrap_or(Err(StoreError::Closed))
    }
}

impl Future for Commit {
    type Output = Result<u64, StoreError>;
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.done)
            .poll(context)
            .map(|answer| answer.unwrap_or(Err(StoreError::Closed)))
    }
}

/// The handle; clones share one writer.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    outbox: Sender<Message>,
    flight: Arc<Mutex<Flight>>,
    reader: Mutex<Reader>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Inner {
    /// The folder is free once the writer has ended.
    fn close(&self) {
        let _ = self.outbox.send(Message::Close);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the store's writer had died; what was not acknowledged is lost");
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

impl Store {
    /// Opens or creates a data folder and reads back what it holds.
    pub fn open(folder: &Path) -> Result<(Self, Recovered), StoreError> {
        let lock = schema::lock(folder)?;
        let path = schema::database(folder);
        let connection = schema::writer(&path)?;
        let (recovered, last) = read::recover(&connection, &path)?;
        let reader = Reader {
            connection: schema::reader(&path)?,
            path: path.clone(),
        };
        let flight = Arc::new(Mutex::new(Flight::new(last + 1)));
        let (outbox, inbox) = mpsc::channel();
        let writer = Writer {
            connection,
            path,
            inbox,
            flight: flight.clone(),
            _lock: lock,
        };
        let thread = std::thread::Builder::new()
            .name("store".into())
            .spawn(move || writer.run())
            .map_err(|error| StoreError::folder(folder, error))?;
        let inner = Inner {
            outbox,
            flight,
            reader: Mutex::new(reader),
            thread: Mutex::new(Some(thread)),
        };
        Ok((
            Self {
                inner: Arc::new(inner),
            },
            recovered,
        ))
    }

    /// Hands in events, and with them the record of the request they are about. Calls are numbered and
    /// committed in the order in which they are made.
    pub fn append(&self, events: Vec<Value>, request: Option<RequestRecord>) -> Commit {
        let record = request.map(|record| Job::Record(Box::new(record)));
        let mut flight = self.flight();
        self.enqueue(&mut flight, &events, record.into_iter().collect())
    }

    /// Writes the whole record of a request over what was there, its feedback excepted.
    pub fn put_request(&self, record: RequestRecord) -> Commit {
        self.append(vec![], Some(record))
    }

    /// Takes feedback on a request. Whether it is new is decided here, in one order for all callers; when it
    /// is, the events are appended in the same transaction.
    pub fn feedback(
        &self,
        id: RequestId,
        feedback: FeedbackRecord,
        events: Vec<Value>,
    ) -> Result<FeedbackReceipt, StoreError> {
        let mut flight = self.flight();
        let stands = match flight.satisfied(id) {
            Some(satisfied) => Some(Some(satisfied)),
            None => self.reader().feedback(id)?.or(flight.knows(id).then_some(None)),
        };
        let satisfied = feedback.satisfied;
        let (outcome, events, jobs) = match stands {
            None => (FeedbackOutcome::Unknown, vec![], vec![]),
            Some(None) => (
                FeedbackOutcome::Recorded,
                events,
                vec![Job::Feedback { id, feedback }],
            ),
            Some(Some(was)) if was == satisfied => (
                FeedbackOutcome::Repeated,
                vec![],
                vec![Job::Confirm { id, satisfied }],
            ),
            Some(Some(was)) => (
                FeedbackOutcome::Contradicts { was },
                vec![],
                vec![Job::Confirm { id, satisfied: was }],
            ),
        };
        let commit = self.enqueue(&mut flight, &events, jobs);
        Ok(FeedbackReceipt { outcome, commit })
    }

    /// Keeps the router's state as it was after event `seq`; the events up to it are pruned in the same
    /// transaction.
    pub fn snapshot(&self, seq: u64, state: &Value) -> Commit {
        let mut flight = self.flight();
        self.enqueue(
            &mut flight,
            &[],
            vec![Job::Snapshot {
                seq,
                body: state.to_string(),
            }],
        )
    }

    pub fn save_ledger(&self, ledger: &Value) -> Commit {
        let mut flight = self.flight();
        self.enqueue(
            &mut flight,
            &[],
            vec![Job::Ledger {
                body: ledger.to_string(),
            }],
        )
    }

    /// Keeps a response over what was there under its id.
    pub fn put_response(&self, record: ResponseRecord) -> Commit {
        let mut flight = self.flight();
        self.enqueue(&mut flight, &[], vec![Job::Response(Box::new(record))])
    }

    /// Forgets a response, if it is there.
    pub fn delete_response(&self, id: RequestId) -> Commit {
        let mut flight = self.flight();
        self.enqueue(&mut flight, &[], vec![Job::Forget { response: id }])
    }

    /// A response that is durable.
    pub fn response(&self, id: RequestId) -> Result<Option<ResponseRecord>, StoreError> {
        self.reader().response(id)
    }

    /// A response and all that it goes on from, the oldest first; none when it is not there. Where one of them was
    /// deleted, the chain begins after it.
    pub fn responses_up_to(&self, id: RequestId) -> Result<Vec<ResponseRecord>, StoreError> {
        self.reader().responses_up_to(id)
    }

    /// The number of the last event handed in.
    pub fn last_seq(&self) -> u64 {
        self.flight().next - 1
    }

    pub fn request(&self, id: RequestId) -> Result<Option<RequestRecord>, StoreError> {
        self.reader().request(id)
    }

    /// Newest first.
    pub fn requests(&self, filter: &Filter) -> Result<Vec<RequestRecord>, StoreError> {
        self.reader().requests(filter)
    }

    /// Every request, oldest first, a page at a time.
    pub fn for_each(
        &self,
        mut take: impl FnMut(RequestRecord) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut last = None;
        loop {
            let page = self.reader().after(last, PAGE)?;
            let Some(newest) = page.last() else { return Ok(()) };
            last = Some(newest.id);
            page.into_iter().try_for_each(&mut take)?;
        }
    }

    /// The whole log as a trace for `replay`; `models` in rising order of cost.
    pub fn export_csv(&self, models: &[String], out: &mut dyn Write) -> Result<(), StoreError> {
        export::put(out, &export::header(models))?;
        self.for_each(|record| export::put(out, &export::row(&record, models)))
    }

    /// Returns when everything handed in so far is committed or has failed; later writes are refused.
    pub fn close(&self) {
        self.inner.close();
    }

    /// The lock makes numbering, the verdict on a feedback and the place in the writer's line one step.
    fn enqueue(&self, flight: &mut Flight, events: &[Value], mut jobs: Vec<Job>) -> Commit {
        if !events.is_empty() {
            let bodies = events.iter().map(Value::to_string).collect();
            jobs.push(Job::Events {
                first: flight.next,
                bodies,
            });
            flight.next += events.len() as u64;
        }
        jobs.iter().for_each(|job| flight.departs(job));
        let seq = flight.next - 1;
        let (done, commit) = oneshot::channel();
        // A closed writer drops the sender, which the waiter sees as `Closed`.
        let _ = self.inner.outbox.send(Message::Order(Order { jobs, seq, done }));
        Commit { seq, done: commit }
    }

    fn flight(&self) -> MutexGuard<'_, Flight> {
        self.inner.flight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reader(&self) -> MutexGuard<'_, Reader> {
        self.inner.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
