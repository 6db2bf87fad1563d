//! Virtual queues: how far a service level is behind its promise, in requests.
//!
//! [`PaperQueue`] is equation (4) of the paper, Q ← max(0, Q + α − s). [`SignedQueue`] keeps surplus as
//! credit, so that the achieved rate lands on α instead of above it, and takes the prediction at dispatch
//! until the label comes:
//!
//! ```text
//! dispatch   Q ← Q + α − ŝ          label   Q ← Q + w (ŝ − s)
//! ```
//!
//! both clipped to [−credit, debt]. Without clipping, Q_T − Q_0 = Σ_t (α − s_t) + Σ_{t unjudged} (s_t − ŝ_t)
//! holds exactly. Clipping below only raises Q, clipping above is counted in `forgiven`; therefore, whatever
//! the predictor and the labels do,
//!
//! ```text
//! Σ_t (α − s_t)  ≤  Q_T − Q_0 + forgiven + Σ_{t unjudged} (ŝ_t − s_t).   (1)
//! ```

use serde::{Deserialize, Serialize};

/// The paper's queue: never negative, fed with true labels only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PaperQueue(pub f64);

impl PaperQueue {
    pub fn step(&mut self, alpha: f64, satisfied: f64) {
        self.0 = (self.0 + alpha - satisfied).max(0.0);
    }
}

/// The signed queue with bounded credit and debt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SignedQueue {
    pub value: f64,
    /// Debt that the upper bound has cut off, in requests.
    pub forgiven: f64,
    /// Σ ŝ(1 − ŝ) over what is not judged yet: the variance of what the labels may still change.
    unjudged: f64,
}

/// Most debt that is kept while no model can keep the promise: enough to choose the best, little enough to
/// recover.
pub const HOPELESS_DEBT: f64 = 8.0;

impl SignedQueue {
    pub fn dispatched(&mut self, alpha: f64, predicted: f64) {
        self.value += alpha - predicted;
        self.unjudged += predicted * (1.0 - predicted);
    }

    pub fn judged(&mut self, predicted: f64, satisfied: f64, weight: f64) {
        self.value += weight * (predicted - satisfied);
        self.settle(weight * predicted * (1.0 - predicted));
    }

    pub fn withdrawn(&mut self, alpha: f64, predicted: f64) {
        self.value -= alpha - predicted;
        self.settle(predicted * (1.0 - predicted));
    }

    fn settle(&mut self, variance: f64) {
        self.unjudged = (self.unjudged - variance).max(0.0);
    }

    /// Applies the bounds; called after every change.
    pub fn clip(&mut self, credit: f64, debt: f64) {
        if self.value > debt {
            self.forgiven += self.value - debt;
            self.value = debt;
        }
        self.value = self.value.max(-credit);
    }

    /// Standard deviation of what the missing labels may still add, in requests.
    pub fn uncertainty(&self) -> f64 {
        self.unjudged.sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Inequality (1), for any predictions, labels, delays and bounds.
        #[test]
        fn the_deficit_never_exceeds_what_the_queue_says(
            alpha in 0.05f64..0.99, credit in 0.0f64..20.0, debt in 0.0f64..20.0,
            steps in prop::collection::vec((0.0f64..=1.0, any::<bool>(), 0usize..9), 1..200),
        ) {
            let mut queue = SignedQueue::default();
            let (mut deficit, mut open) = (0.0, 0.0);
            let mut late = vec![];
            for (at, (predicted, good, delay)) in steps.iter().enumerate() {
                let truth = f64::from(*good);
                queue.dispatched(alpha, *predicted);
                queue.clip(credit, debt);
                deficit += alpha - truth;
                open += predicted - truth;
                if *delay < 8 {
                    late.push((at + delay, *predicted, truth));
                }
                late.retain(|(due, predicted, truth)| {
                    if *due > at { return true; }
                    queue.judged(*predicted, *truth, 1.0);
                    queue.clip(credit, debt);
                    open -= predicted - truth;
                    false
                });
                prop_assert!(deficit <= queue.value + queue.forgiven + open + 1e-9);
                prop_assert!(queue.value <= debt + 1e-9 && queue.value >= -credit - 1e-9);
            }
        }
    }

    #[test]
    fn the_paper_queue_forgets_surplus() {
        let mut queue = PaperQueue(0.5);
        queue.step(0.8, 1.0);
        queue.step(0.8, 1.0);
        queue.step(0.8, 1.0);
        assert_eq!(queue.0, 0.0);
        queue.step(0.8, 0.0);
        assert_eq!(queue.0, 0.8);
    }
}
