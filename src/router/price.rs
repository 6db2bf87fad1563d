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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_price_is_the_slope_of_the_lower_hull() {
        let rows = vec![vec![(0.2, 0.55), (0.4, 0.78), (1.0, 0.96)]; 10];
        let dual = solve(&rows, 0.85).unwrap();
        assert!((dual.price - 0.6 / 0.18).abs() < 1e-6, "{dual:?}");
        assert!((solve(&rows, 0.60).unwrap().price - 0.2 / 0.23).abs() < 1e-6);
        assert_eq!(solve(&rows, 0.5).unwrap().price, 0.0);
        assert_eq!(solve(&rows, 0.99).unwrap().price, DEAREST);
        assert_eq!(solve(&[], 0.5), None);
    }
}
