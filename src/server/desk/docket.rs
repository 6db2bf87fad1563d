//! The router and its log, behind one short lock: events enter the log in the order in which they change the
//! router, and every decision sees all those before it. Nothing is awaited while the lock is held.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use crate::router::{Ask, CostReport, Decision, Embedding, Router, RouterEvent, RouterSnapshot, SlaReport};
use crate::server::wire::to_value;
use crate::store::{
    Commit, FeedbackOutcome, FeedbackReceipt, FeedbackRecord, RequestRecord, Store, StoreError,
};
use crate::units::RequestId;

use super::DeskError;

/// Events between two snapshots: what a restart has to apply again at most, roughly.
const SNAPSHOT_EVERY: u64 = 2_000;

pub(super) struct Docket {
    state: Mutex<State>,
    store: Store,
}

struct State {
    router: Router,
    since_snapshot: u64,
}

impl Docket {
    pub fn new(router: Router, store: Store) -> Self {
        Self {
            state: Mutex::new(State {
                router,
                since_snapshot: 0,
            }),
            store,
        }
    }

    /// A panic elsewhere leaves the router as it was before the event that was being applied, which is still a
    /// router; refusing all service because of it would help nobody.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Decides, carries out, and only then applies and logs what was decided.
    pub fn decide<T>(
        &self,
        ask: &Ask<'_>,
        embedding: Option<Embedding>,
        carry_out: impl FnOnce(Decision) -> Result<(Decision, T), DeskError>,
    ) -> Result<(Decision, T, Commit), DeskError> {
        let mut state = self.state();
        let (decision, made) = carry_out(state.router.decide_embedded(ask, embedding))?;
        let event = RouterEvent::Decided(Box::new(decision.clone()));
        state.apply(std::slice::from_ref(&event));
        let commit = self.store.append(vec![to_value(&event)], None);
        Ok((decision, made, commit))
    }

    /// What would be decided now.
    pub fn preview(&self, ask: &Ask<'_>, embedding: Option<Embedding>) -> Decision {
        self.state().router.decide_embedded(ask, embedding)
    }

    /// Applies and logs events in their order, and with them the record of the request they are about.
    pub fn note(&self, events: &[RouterEvent], record: RequestRecord) -> Commit {
        let mut state = self.state();
        state.apply(events);
        self.store
            .append(events.iter().map(to_value).collect(), Some(record))
    }

    /// Applies and logs events that belong to no request's record.
    pub fn log(&self, events: &[RouterEvent]) -> Commit {
        let mut state = self.state();
        state.apply(events);
        self.store.append(events.iter().map(to_value).collect(), None)
    }

    /// Takes a verdict on an answer. Only a new one changes the router; whether it is new is the store's word.
    /// `late` is the decision behind the answer, for a router that has forgotten it. Reads the disk.
    pub fn judge(
        &self,
        request: RequestId,
        verdict: FeedbackRecord,
        event: Option<RouterEvent>,
        late: Option<Decision>,
    ) -> Result<FeedbackReceipt, StoreError> {
        let mut state = self.state();
        let forgotten = !state.router.remembers(request);
        let event = event.map(|event| match event {
            RouterEvent::Judged {
                request,
                model,
                satisfied,
                weight,
                source,
                ..
            } => {
                let decision = late.filter(|_| forgotten).map(Box::new);
                RouterEvent::Judged {
                    request,
                    model,
                    satisfied,
                    weight,
                    source,
                    decision,
                }
            }
            other => other,
        });
        let receipt = self
            .store
            .feedback(request, verdict, event.iter().map(to_value).collect())?;
        if receipt.outcome == FeedbackOutcome::Recorded {
            state.apply(event.as_slice());
        }
        Ok(receipt)
    }

    /// Decisions of which nothing else is known: neither joules nor a verdict nor a record. Only right while no
    /// request is under way. Reads the disk.
    pub fn interrupted(&self) -> Result<Vec<RequestId>, StoreError> {
        let (_, router) = self.still();
        let silent = router
            .state
            .memory
            .newest()
            .filter(|known| !known.withdrawn && known.finished.is_empty() && known.judged.is_empty());
        let mut interrupted = Vec::new();
        for known in silent {
            if self.store.request(known.decision.request)?.is_none() {
                interrupted.push(known.decision.request);
            }
        }
        Ok(interrupted)
    }

    /// Tells the router that no verdict will come on what was asked before `bound` and is still unjudged.
    pub fn expire(&self, bound: RequestId) -> Option<Commit> {
        let overdue = self.state().router.unjudged_before(bound);
        let expired: Vec<_> = overdue
            .into_iter()
            .map(|request| RouterEvent::Expired { request })
            .collect();
        (!expired.is_empty()).then(|| self.log(&expired))
    }

    pub fn report(&self) -> Vec<SlaReport> {
        self.state().router.report()
    }

    pub fn cost_report(&self) -> CostReport {
        self.state().router.cost_report()
    }

    /// Writes a snapshot when enough has happened since the last one.
    pub fn snapshot_if_due(&self) -> Option<Commit> {
        // A statement of its own: the lock must be free again before the snapshot takes it.
        let due = self.state().since_snapshot >= SNAPSHOT_EVERY;
        due.then(|| self.snapshot())
    }

    /// Writes down the router as it is now.
    pub fn snapshot(&self) -> Commit {
        let (seq, router) = self.still();
        let body: Value = to_value(&router);
        self.store.snapshot(seq, &body)
    }

    /// The router and the number of the last event that it has seen. Copied under the lock, written out after it.
    fn still(&self) -> (u64, RouterSnapshot) {
        let mut state = self.state();
        state.since_snapshot = 0;
        (self.store.last_seq(), state.router.snapshot())
    }
}

impl State {
    fn apply(&mut self, events: &[RouterEvent]) {
        events.iter().for_each(|event| self.router.apply(event));
        self.since_snapshot += events.len() as u64;
    }
}
