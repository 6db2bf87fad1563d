//! What is written down in the background: the ledger every few seconds, the router when enough has happened.

use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::server::wire::to_value;
use crate::store::{Commit, StoreError};
use crate::units::RequestId;

use super::Inner;

const RHYTHM: Duration = Duration::from_secs(3);
/// How long a verdict is awaited before the router is told that none will come. One that comes later still counts.
const VERDICT_PATIENCE: Duration = Duration::from_secs(24 * 60 * 60);

/// Saves in a rhythm for as long as the desk exists.
pub(super) async fn keep(desk: Weak<Inner>) {
    let mut rhythm = tokio::time::interval(RHYTHM);
    rhythm.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    rhythm.tick().await;
    loop {
        rhythm.tick().await;
        let Some(desk) = desk.upgrade() else { return };
        if let Some(commit) = desk.docket.expire(RequestId::earliest_of(VERDICT_PATIENCE)) {
            complain("that no verdict will come", commit).await;
        }
        desk.save(false).await;
    }
}

impl Inner {
    /// Saves the ledger, and the router's state when it is due or when this is the last chance.
    pub(super) async fn save(self: &Arc<Self>, last: bool) {
        let ledger = to_value(&self.energy.totals().await);
        let desk = Arc::clone(self);
        let handed_in = tokio::task::spawn_blocking(move || {
            let snapshot = if last {
                Some(desk.docket.snapshot())
            } else {
                desk.docket.snapshot_if_due()
            };
            (snapshot, desk.store.save_ledger(&ledger))
        });
        let Ok((snapshot, ledger)) = handed_in.await else {
            return;
        };
        if let Some(snapshot) = snapshot {
            complain("the router's state", snapshot).await;
        }
        complain("the ledger", ledger).await;
    }
}

async fn complain(what: &str, commit: Commit) {
    match commit.await {
        Ok(_) | Err(StoreError::Closed) => {}
        Err(error) => tracing::error!(%error, "{what} could not be saved"),
    }
}
