//! What is enqueued but not yet on disk: which requests exist and what was said of them. With it, whether a
//! feedback is new, repeated or contradicting is known the moment it arrives, in one order for all, though
//! its commit is still to come.

use std::collections::HashMap;

use super::writer::Job;
use crate::units::RequestId;

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    records: u32,
    feedbacks: u32,
    satisfied: Option<f64>,
}

#[derive(Debug)]
pub struct Flight {
    /// The next event's sequence number.
    pub next: u64,
    entries: HashMap<RequestId, Entry>,
}

impl Flight {
    pub fn new(next: u64) -> Self {
        Self {
            next,
            entries: HashMap::new(),
        }
    }

    pub fn departs(&mut self, job: &Job) {
        match job {
            Job::Record(record) => self.entries.entry(record.id).or_default().records += 1,
            Job::Feedback { id, feedback } => {
                let entry = self.entries.entry(*id).or_default();
                entry.feedbacks += 1;
                entry.satisfied = Some(feedback.satisfied);
            }
            _ => {}
        }
    }

    /// The job is committed or has failed; either way the database now tells the truth.
    pub fn landed(&mut self, job: &Job) {
        let id = match job {
            Job::Record(record) => record.id,
            Job::Feedback { id, .. } => *id,
            _ => return,
        };
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        if matches!(job, Job::Record(_)) {
            entry.records = entry.records.saturating_sub(1);
        } else {
            entry.feedbacks = entry.feedbacks.saturating_sub(1);
        }
        if entry.feedbacks == 0 {
            entry.satisfied = None;
        }
        if entry.records + entry.feedbacks == 0 {
            self.entries.remove(&id);
        }
    }

    pub fn satisfied(&self, id: RequestId) -> Option<f64> {
        self.entries.get(&id).and_then(|entry| entry.satisfied)
    }

    pub fn knows(&self, id: RequestId) -> bool {
        self.entries.contains_key(&id)
    }
}
