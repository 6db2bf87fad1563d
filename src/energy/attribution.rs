//! Whose energy an interval's energy was. Pure: the interval, the parts of steps in it, the law; out come whole
//! microjoules that sum to the interval's.
//!
//! Idle gets its watts times the time, the rest goes to steps in proportion to their predicted energy, and within a
//! step to rows: prefill by tokens, the step's own cost evenly, decode and context by row.

use std::collections::BTreeMap;

use super::apportion::apportion;
use super::features::{StepFeatures, WIDTH, dot};
use super::law::Law;
use super::records::{Account, StepRow};
use crate::units::{Microjoules, RequestId};

/// Where a share of energy is booked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Slot {
    Prefill(RequestId),
    Decode(RequestId),
    Exploration(RequestId),
    Router,
    Load,
    Idle,
    Unattributed,
}

/// The part of one step that lies in the interval.
pub(super) struct Portion<'a> {
    pub(super) rows: &'a [StepRow],
    pub(super) part: StepFeatures,
}

/// By what the busy energy goes to steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Basis {
    /// By predicted joules: for a real meter.
    Law,
    /// By time alone: for the modelled meter, whose counter is made of exactly that.
    Time,
}

/// One interval between two changes of a counter.
pub(super) struct Interval<'a> {
    pub(super) energy: Microjoules,
    pub(super) seconds: f64,
    pub(super) portions: &'a [Portion<'a>],
    /// Who shares the idle energy, by seconds in residence; empty for nobody.
    pub(super) residents: &'a [(Slot, f64)],
}

/// Splits the interval's energy. The parts sum to it exactly; the order of rows within a step does not matter.
pub(super) fn split(interval: &Interval, law: &Law, basis: Basis) -> Vec<(Slot, Microjoules)> {
    let total = interval.energy.0 as f64;
    let mut shares: BTreeMap<Slot, f64> = BTreeMap::new();
    let idle = if interval.portions.is_empty() {
        total
    } else {
        (law.idle_watts() * interval.seconds * 1e6).clamp(0.0, total)
    };
    spread_idle(idle, interval.residents, &mut shares);
    if !interval.portions.is_empty() {
        let busy = busy_weights(interval.portions, law, basis);
        let sum: f64 = busy.values().sum();
        for (slot, weight) in busy {
            *shares.entry(slot).or_default() += (total - idle) * weight / sum;
        }
    }
    let weights: Vec<f64> = shares.values().copied().collect();
    let parts = apportion(interval.energy.0, &weights);
    shares
        .into_keys()
        .zip(parts.into_iter().map(Microjoules))
        .filter(|(_, part)| part.0 > 0)
        .collect()
}

fn spread_idle(idle: f64, residents: &[(Slot, f64)], shares: &mut BTreeMap<Slot, f64>) {
    let seconds: f64 = residents.iter().map(|(_, s)| s).sum();
    if seconds > 0.0 {
        for (slot, s) in residents {
            *shares.entry(*slot).or_default() += idle * s / seconds;
        }
    } else {
        *shares.entry(Slot::Idle).or_default() += idle;
    }
}

/// Weights of all slots, their sum positive.
fn busy_weights(portions: &[Portion], law: &Law, basis: Basis) -> BTreeMap<Slot, f64> {
    let by_law = |p: &Portion| law.joules(&p.part);
    let by_time = |p: &Portion| p.part.seconds;
    let evenly = |_: &Portion| 1.0;
    let first: &dyn Fn(&Portion) -> f64 = if basis == Basis::Law { &by_law } else { &by_time };
    let rules: [&dyn Fn(&Portion) -> f64; 3] = [first, &by_time, &evenly];
    let rule = rules
        .into_iter()
        .find(|rule| portions.iter().any(|p| rule(p) > 0.0))
        .unwrap_or(&evenly);
    let mut weights = BTreeMap::new();
    for portion in portions {
        let step = rule(portion);
        for (slot, share) in row_shares(portion.rows, &law.coefficients(portion.part.work)) {
            *weights.entry(slot).or_default() += step * share;
        }
    }
    weights
}

/// How a step's energy divides among its rows, as fractions of 1. Predictions for gaps use the same fractions.
pub(super) fn row_shares(rows: &[StepRow], coefficients: &[f64; WIDTH]) -> Vec<(Slot, f64)> {
    if rows.is_empty() {
        return vec![(Slot::Unattributed, 1.0)];
    }
    // Whole-number features first and joules after, so that the order of rows cannot reach the rounding.
    let mut features: BTreeMap<Slot, [f64; WIDTH]> = BTreeMap::new();
    for row in rows {
        let prompt = slot_of(row.account, true);
        let answer = slot_of(row.account, false);
        let host = if row.prefill_tokens > 0 { prompt } else { answer };
        features.entry(prompt).or_default()[0] += f64::from(row.prefill_tokens);
        features.entry(answer).or_default()[2] += f64::from(row.decode_tokens);
        let host = features.entry(host).or_default();
        host[1] += 1.0;
        host[3] += f64::from(row.context);
    }
    let count = rows.len() as f64;
    let [prefill, step, decode, context] = *coefficients;
    let per_row = [prefill, step / count, decode, context];
    let joules: Vec<(Slot, f64)> = features
        .iter()
        .map(|(slot, f)| (*slot, dot(&per_row, f)))
        .collect();
    let sum: f64 = joules.iter().map(|(_, j)| j).sum();
    if sum > 0.0 {
        joules.into_iter().map(|(slot, j)| (slot, j / sum)).collect()
    } else {
        features
            .into_iter()
            .map(|(slot, f)| (slot, f[1] / count))
            .collect()
    }
}

fn slot_of(account: Account, prompt: bool) -> Slot {
    match account {
        Account::Request(id) if prompt => Slot::Prefill(id),
        Account::Request(id) => Slot::Decode(id),
        Account::Exploration(id) => Slot::Exploration(id),
        Account::Router => Slot::Router,
        Account::Load => Slot::Load,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::features::Work;
    use super::super::law::Tick;
    use super::*;
    use crate::units::ModelId;

    fn row(id: u64, prefill: u32, decode: u32, context: u32) -> StepRow {
        let account = Account::Request(RequestId(id));
        StepRow {
            account,
            prefill_tokens: prefill,
            decode_tokens: decode,
            context,
        }
    }

    fn part(rows: &[StepRow], seconds: f64) -> StepFeatures {
        let sum = |f: fn(&StepRow) -> u32| rows.iter().map(|r| f64::from(f(r))).sum();
        let values = [
            sum(|r| r.prefill_tokens),
            1.0,
            sum(|r| r.decode_tokens),
            sum(|r| r.context),
        ];
        StepFeatures {
            work: Work::Model(ModelId(0)),
            values,
            seconds,
        }
    }

    fn law() -> Law {
        let mut law = Law::new(None);
        law.observe_tick(&Tick {
            seconds: 1.0,
            joules: 30.0,
            parts: &[],
        });
        for k in 0..200u32 {
            let rows = [row(1, k % 11 * 8, 0, k % 11 * 8), row(2, 0, k % 3, k * 7 % 300)];
            let part = part(&rows, 0.05);
            let joules = 30.0 * 0.1 + dot(&[0.01, 0.4, 0.05, 0.001], &part.values);
            law.observe_tick(&Tick {
                seconds: 0.1,
                joules,
                parts: &[part],
            });
        }
        law
    }

    #[test]
    fn known_step_is_split_as_the_law_says() {
        let rows = [row(1, 100, 0, 100), row(2, 0, 1, 400)];
        let portions = [Portion {
            rows: &rows,
            part: part(&rows, 0.05),
        }];
        let joules = 3.0 + 1.0 + 0.4 + 0.05 + 0.5;
        let energy = Microjoules((joules * 1e6) as u64);
        let interval = Interval {
            energy,
            seconds: 0.1,
            portions: &portions,
            residents: &[],
        };
        let got: BTreeMap<_, _> = split(&interval, &law(), Basis::Law).into_iter().collect();
        let near = |slot, want: f64| {
            let have = got[&slot].0 as f64 * 1e-6;
            assert!(
                (have - want).abs() < 0.03 * want,
                "{slot:?}: {have} against {want}"
            );
        };
        near(Slot::Idle, 3.0);
        near(Slot::Prefill(RequestId(1)), 1.0 + 0.2 + 0.1);
        near(Slot::Decode(RequestId(2)), 0.05 + 0.2 + 0.4);
    }

    #[test]
    fn shared_idle_goes_to_residents_and_rowless_work_to_nobody() {
        let (a, b) = (Slot::Prefill(RequestId(1)), Slot::Decode(RequestId(2)));
        let residents = [(a, 0.1), (b, 0.3)];
        let interval = Interval {
            energy: Microjoules(400),
            seconds: 0.4,
            portions: &[],
            residents: &residents,
        };
        let got = split(&interval, &Law::new(None), Basis::Law);
        assert_eq!(got, [(a, Microjoules(100)), (b, Microjoules(300))]);

        let portions = [Portion {
            rows: &[],
            part: part(&[], 0.1),
        }];
        let interval = Interval {
            energy: Microjoules(9),
            seconds: 0.1,
            portions: &portions,
            residents: &[],
        };
        assert_eq!(
            split(&interval, &Law::new(None), Basis::Time),
            [(Slot::Unattributed, Microjoules(9))]
        );
    }

    fn rows() -> impl Strategy<Value = Vec<StepRow>> {
        let one = (0u64..4, 0u32..200, 0u32..3, 0u32..4000).prop_map(|(id, p, d, c)| row(id, p, d, c));
        prop::collection::vec(one, 1..9)
    }

    proptest! {
        #[test]
        fn order_of_rows_does_not_matter(rows in rows().prop_shuffle(), energy in 0u64..1_000_000_000, turn in 0usize..9) {
            let law = law();
            let mut turned = rows.clone();
            turned.rotate_left(turn % rows.len());
            turned.swap(0, rows.len() - 1);
            let give = |rows: &[StepRow]| {
                let portions = [Portion { rows, part: part(rows, 0.03) }];
                let interval = Interval { energy: Microjoules(energy), seconds: 0.05, portions: &portions, residents: &[] };
                split(&interval, &law, Basis::Law)
            };
            let got = give(&rows);
            prop_assert_eq!(&got, &give(&turned));
            prop_assert_eq!(got.iter().map(|(_, part)| part.0).sum::<u64>(), energy);
        }

        #[test]
        fn cutting_an_interval_in_two_changes_only_rounding(rows in rows(), cut in 0.05..0.95f64, busy in 0.01..50.0f64) {
            let law = law();
            let give = |share: f64, out: &mut BTreeMap<Slot, f64>| {
                let portions = [Portion { rows: &rows, part: part(&rows, 0.1).part(share) }];
                let energy = Microjoules((share * (busy + 30.0 * 0.1) * 1e6).round() as u64);
                let interval = Interval { energy, seconds: 0.1 * share, portions: &portions, residents: &[] };
                for (slot, part) in split(&interval, &law, Basis::Law) {
                    *out.entry(slot).or_default() += part.0 as f64;
                }
            };
            let (mut whole, mut halves) = (BTreeMap::new(), BTreeMap::new());
            give(1.0, &mut whole);
            give(cut, &mut halves);
            give(1.0 - cut, &mut halves);
            for (slot, joules) in &whole {
                let cut_sum = halves.get(slot).copied().unwrap_or(0.0);
                prop_assert!((cut_sum - joules).abs() <= 4.0, "{slot:?}: {cut_sum} against {joules}");
            }
        }
    }
}
