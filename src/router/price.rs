//! The dual price of satisfaction: λ of the linear programme
//!
//! ```text
//! minimise Σ_r e(r, m_r)/R   subject to   Σ_r ŝ(r, m_r)/R ≥ α
//! ```
//!
//! over the last requests r, with e in units of the dearest model's mean answer. For a given λ every request
//! takes argmin e − λŝ; the mean ŝ of these choices never falls as λ rises, so λ is found by bisection.
//! (Idea: drift-plus-penalty with learned Lagrange multipliers, Huang & Neely; see also the place-holder
//! backlog.)

use serde::{Deserialize, Serialize};

/// No price above this is asked: the best model answers anyway.
pub const DEAREST: f64 = 100.0;
const HALVINGS: u32 = 32;

/// One request: per model (from small to large) its scaled cost and predicted satisfaction.
pub type Row = Vec<(f64, f64)>;

/// What the programme says.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dual {
    pub price: f64,
    /// Mean satisfaction when only cost counts.
    pub lowest: f64,
    /// Mean satisfaction when only satisfaction counts.
    pub highest: f64,
}

/// The choice at a price: the place of the least e − λŝ; ties go to the smaller model.
pub fn choose(row: &[(f64, f64)], price: f64) -> usize {
    let mut best = (0, f64::INFINITY);
    for (place, (cost, satisfaction)) in row.iter().enumerate() {
        let score = cost - price * satisfaction;
        if score < best.1 {
            best = (place, score);
        }
    }
    best.0
}

pub fn solve(rows: &[Row], alpha: f64) -> Option<Dual> {
    if rows.is_empty() {
        return None;
    }
    let mean = |price: f64| rows.iter().map(|row| row[choose(row, price)].1).sum::<f64>() / rows.len() as f64;
    let best = |row: &Row| row.iter().map(|(_, s)| *s).fold(0.0, f64::max);
    let highest = rows.iter().map(best).sum::<f64>() / rows.len() as f64;
    let lowest = mean(0.0);
    if lowest >= alpha {
        return Some(Dual {
            price: 0.0,
            lowest,
            highest,
        });
    }
    let (mut low, mut high) = (0.0, DEAREST);
    if mean(high) < alpha {
        return Some(Dual {
            price: high,
            lowest,
            highest,
        });
    }
    for _ in 0..HALVINGS {
        let middle = 0.5 * (low + high);
        if mean(middle) >= alpha {
            high = middle
        } else {
            low = middle
        }
    }
    Some(Dual {
        price: high,
        lowest,
        highest,
    })
}

/// The whole trade: which mean satisfaction every price buys.
///
/// Every request starts with its cheapest model and climbs the corners of its lower convex hull of
/// (satisfaction, cost); sorted by slope, these climbs are the solutions of the linear programme for every α.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// Mean satisfaction when only cost counts.
    pub lowest: f64,
    /// Rising prices, each with the mean satisfaction of the choices just above it.
    steps: Vec<(f64, f64)>,
}

/// Steps a curve is kept in.
const STEPS: f64 = 48.0;
/// Prices closer than this are one step.
const ALIKE: f64 = 1e-3;

impl Curve {
    pub fn of(rows: &[Row]) -> Self {
        let count = rows.len().max(1) as f64;
        let mut lowest = 0.0;
        let mut climbs: Vec<(f64, f64)> = vec![];
        for row in rows.iter().filter(|row| !row.is_empty()) {
            let mut at = row[choose(row, 0.0)];
            lowest += at.1 / count;
            while let Some((slope, next)) = climb(row, at) {
                climbs.push((slope, (next.1 - at.1) / count));
                at = next;
            }
        }
        climbs.sort_by(|one, other| one.0.total_cmp(&other.0));
        let width = climbs.iter().map(|(_, gain)| gain).sum::<f64>() / STEPS;
        let mut steps: Vec<(f64, f64)> = vec![];
        let (mut reach, mut written) = (lowest, lowest);
        for (price, gain) in climbs {
            reach += gain;
            match steps.last_mut() {
                Some(last) if price <= last.0 * (1.0 + ALIKE) || reach - written < width => {
                    *last = (price, reach)
                }
                _ => {
                    written = reach;
                    steps.push((price, reach));
                }
            }
        }
        Self { lowest, steps }
    }

    /// Mean satisfaction when only satisfaction counts.
    pub fn highest(&self) -> f64 {
        self.steps.last().map_or(self.lowest, |(_, reach)| *reach)
    }

    /// The least price that buys this mean satisfaction; beyond reach, the one that buys the most there is.
    pub fn price(&self, target: f64) -> f64 {
        if target <= self.lowest {
            return 0.0;
        }
        let enough = self.steps.iter().find(|(_, reach)| *reach >= target);
        enough
            .or(self.steps.last())
            .map_or(0.0, |(price, _)| *price)
            .min(DEAREST)
    }

    /// What the choices at a price reach on average.
    pub fn reach(&self, price: f64) -> f64 {
        let within = self.steps.iter().rev().find(|(step, _)| *step <= price);
        within.map_or(self.lowest, |(_, reach)| *reach)
    }
}

/// The next corner of a request's hull above `at`, and its slope.
fn climb(row: &[(f64, f64)], at: (f64, f64)) -> Option<(f64, (f64, f64))> {
    let better = row.iter().filter(|offer| offer.1 > at.1 + 1e-9);
    let slopes = better.map(|offer| (((offer.0 - at.0) / (offer.1 - at.1)).max(0.0), *offer));
    slopes.min_by(|one, other| one.0.total_cmp(&other.0).then(other.1.1.total_cmp(&one.1.1)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_price_is_the_slope_of_the_lower_hull() {
        let rows = vec![vec![(0.2, 0.55), (0.4, 0.78), (1.0, 0.96)]; 10];
        let dual = solve(&rows, 0.85).unwrap();
        assert!((dual.price - 0.6 / 0.18).abs() < 1e-6, "{dual:?}");
        assert!((solve(&rows, 0.60).unwrap().price - 0.2 / 0.23).abs() < 1e-6);
        assert_eq!(solve(&rows, 0.5).unwrap().price, 0.0);
        assert_eq!(solve(&rows, 0.99).unwrap().price, DEAREST);
        assert_eq!(solve(&[], 0.5), None);
        let curve = Curve::of(&rows);
        assert!((curve.price(0.85) - 0.6 / 0.18).abs() < 1e-6, "{curve:?}");
        assert!((curve.price(0.60) - 0.2 / 0.23).abs() < 1e-6);
        assert!(curve.price(0.5) == 0.0 && (curve.lowest - dual.lowest).abs() < 1e-9);
        assert!((curve.highest() - 0.96).abs() < 1e-9 && curve.price(0.99) == curve.price(0.95));
        assert!((curve.reach(1.0) - 0.78).abs() < 1e-9 && curve.reach(0.1) == curve.lowest);
    }

    proptest! {
        /// The curve is the bisection's answer for every promise, up to the width of a step.
        #[test]
        fn the_curve_is_the_programme(
            rows in prop::collection::vec(prop::collection::vec((0.01f64..1.0, 0.0f64..1.0), 3), 40..60),
            alpha in 0.05f64..0.95,
        ) {
            let (curve, dual) = (Curve::of(&rows), solve(&rows, alpha).unwrap());
            prop_assert!((curve.highest() - dual.highest).abs() < 1e-9);
            prop_assert!((curve.lowest - dual.lowest).abs() < 1e-9);
            let bought = |price: f64| rows.iter().map(|r| r[choose(r, price * (1.0 + 1e-9))].1).sum::<f64>() / rows.len() as f64;
            let goal = alpha.min(dual.highest);
            if goal > dual.lowest && curve.price(goal) < DEAREST {
                prop_assert!(bought(curve.price(goal)) >= goal - 1e-6);
                prop_assert!(curve.price(goal) >= dual.price.min(curve.price(1.0)) - 1e-6);
            }
        }
    }
}
