//! The bars that bills are held to, and what bills they are.

use std::collections::BTreeMap;

use super::played_lane::PlayedLane;
use super::stage::Outcome;
use crate::units::{Moment, RequestId};

/// Requests that begin earlier than this are not looked at: the law is being learnt. The first twelve seconds are each
/// model's warming up alone.
pub(super) const WARM_UP: f64 = 20.0;

/// What must hold of the bills of a set of requests.
#[derive(Clone, Copy)]
pub(super) struct Bars {
    /// Seconds from a request's first step to the end of its last.
    pub(super) life: (f64, f64),
    pub(super) fewest: usize,
    pub(super) median: f64,
    pub(super) p95: f64,
    /// Of the mean of the relative errors, and of the sum of all joules.
    pub(super) bias: f64,
}

pub(super) type Bills = BTreeMap<RequestId, f64>;

impl Bars {
    pub(super) fn hold(&self, name: &str, lane: &PlayedLane, bills: &Bills) -> Result<(), String> {
        let (mut errors, mut ratios, mut got, mut want) = (vec![], 0.0, 0.0, 0.0);
        for (id, truth) in &lane.truth {
            let (start, end) = lane.lives[id];
            let life = end.seconds_since(start);
            if start < Moment(0).plus_seconds(WARM_UP) || life < self.life.0 || life > self.life.1 {
                continue;
            }
            errors.push((bills[id] / truth - 1.0).abs());
            ratios += bills[id] / truth;
            got += bills[id];
            want += truth;
        }
        errors.sort_by(f64::total_cmp);
        let count = errors.len();
        assert!(count >= self.fewest, "{name}: only {count} requests");
        let (median, p95) = (errors[count / 2], errors[count * 95 / 100]);
        let (mean, bias) = (ratios / count as f64 - 1.0, got / want - 1.0);
        let said = format!(
            "{name}: {count} requests, median error {median:.4}, p95 {p95:.4}, mean {mean:+.4}, bias {bias:+.4}"
        );
        println!("{said}");
        let held =
            median <= self.median && p95 <= self.p95 && mean.abs() <= self.bias && bias.abs() <= self.bias;
        if held { Ok(()) } else { Err(said) }
    }
}

pub(super) fn billed(outcome: &Outcome) -> Bills {
    let bills = outcome.bills.iter();
    bills.map(|(id, bill)| (*id, bill.total().0)).collect()
}
