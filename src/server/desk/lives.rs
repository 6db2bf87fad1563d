//! Requests under way, counted, so that a drain knows when the last one is over.

use tokio::sync::watch;

/// A count that can be waited for.
#[derive(Debug)]
pub(super) struct Lives(watch::Sender<usize>);

/// One request under way; dropping it ends it.
pub(super) struct Life(watch::Sender<usize>);

impl Default for Lives {
    fn default() -> Self {
        Self(watch::Sender::new(0))
    }
}

impl Lives {
    pub fn begin(&self) -> Life {
        self.0.send_modify(|count| *count += 1);
        Life(self.0.clone())
    }

    pub fn count(&self) -> usize {
        *self.0.borrow()
    }

    /// Resolves when none is under way.
    pub async fn over(&self) {
        // The sender lives in self, so waiting cannot fail.
        let _ = self.0.subscribe().wait_for(|count| *count == 0).await;
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}
