//! Who is in residence on a device: the requests that share its idle watts under `idle = "shared"`.

use std::collections::BTreeMap;

use super::attribution::Slot;
use super::ledger::Ledger;
use super::records::{Account, StepRecord};
use crate::units::Moment;

struct Stay {
    from: Moment,
    until: Moment,
    decoding: bool,
}

/// Answers under way, from their first step to their last, or on while the request is unfinished.
#[derive(Default)]
pub(super) struct Residents {
    stays: BTreeMap<Account, Stay>,
}

impl Residents {
    pub(super) fn observe(&mut self, step: &StepRecord) {
        for row in &step.rows {
            if let Account::Request(_) | Account::Exploration(_) = row.account {
                let fresh = Stay {
                    from: step.start,
                    until: step.end,
                    decoding: false,
                };
                let stay = self.stays.entry(row.account).or_insert(fresh);
                stay.until = stay.until.max(step.end);
                stay.decoding |= row.decode_tokens > 0;
            }
        }
    }

    /// Each resident's slot and seconds within the interval.
    pub(super) fn within(&self, from: Moment, until: Moment, ledger: &Ledger) -> Vec<(Slot, f64)> {
        let stays = self.stays.iter().filter_map(|(account, stay)| {
            let slot = match *account {
                Account::Request(id) if stay.decoding => Slot::Decode(id),
                Account::Request(id) => Slot::Prefill(id),
                Account::Exploration(id) => Slot::Exploration(id),
                Account::Router | Account::Load => return None,
            };
            let leaves = if is_open(account, ledger) {
                until
            } else {
                stay.until.min(until)
            };
            Some((slot, leaves.seconds_since(stay.from.max(from))))
        });
        stays.filter(|(_, seconds)| *seconds > 0.0).collect()
    }

    /// Forgets those who left before `until`.
    pub(super) fn settle(&mut self, until: Moment, ledger: &Ledger) {
        self.stays
            .retain(|account, stay| is_open(account, ledger) || stay.until > until);
    }

    pub(super) fn clear(&mut self) {
        self.stays.clear();
    }
}

fn is_open(account: &Account, ledger: &Ledger) -> bool {
    match account {
        Account::Request(id) | Account::Exploration(id) => ledger.is_open(*id),
        Account::Router | Account::Load => false,
    }
}
