//! When to ask a model for the sake of learning, which one, and at whose expense.
//!
//! A model is worth asking only while its best plausible quality would change the choice; then one such
//! contender is drawn with probability p_t = min(most, rate/√t), t = judged answers since the start or the
//! last noticed change. It either answers the client (which costs what the choice loses at the present price;
//! only while the promise is kept or the model is good enough for it) or answers unseen beside the chosen
//! model (which costs its joules, and teaches only if unseen answers get judged): the cheaper way per label
//! is taken. A small floor asks anyone.

use super::draw::Draw;
use crate::units::ModelId;

/// One model as the explorer sees it.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    pub model: ModelId,
    /// Cost in units of the dearest model's mean answer.
    pub cost: f64,
    /// e − price·ŝ.
    pub score: f64,
    /// e − price·(best plausible ŝ).
    pub hope: f64,
    /// Whether it may answer the client for the sake of learning.
    pub presentable: bool,
}

#[derive(Clone, Copy, Debug)]
pub struct Terms {
    pub rate: f64,
    /// Chance that an unseen answer gets judged.
    pub shadow_yield: f64,
    /// False when the budget for extra answers is spent.
    pub shadows_allowed: bool,
    pub floor: f64,
}

/// What to do for the sake of learning, if anything; drawn with this probability.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The model that answers the client instead of the best.
    pub serve: Option<ModelId>,
    /// Models that answer unseen.
    pub unseen: Vec<ModelId>,
    pub propensity: f64,
}

impl Plan {
    pub fn exploit(propensity: f64) -> Self {
        Self {
            serve: None,
            unseen: vec![],
            propensity,
        }
    }

    pub fn explores(&self) -> bool {
        self.serve.is_some() || !self.unseen.is_empty()
    }
}

/// p_t = min(most, rate/√t).
pub fn rate(rate: f64, most: f64, labels: u64) -> f64 {
    most.min(rate / (labels.max(1) as f64).sqrt())
}

pub fn plan(candidates: &[Candidate], best: usize, terms: &Terms, draw: &mut Draw) -> Plan {
    let askable = |place: usize| place != best && (candidates[place].presentable || terms.shadows_allowed);
    let others: Vec<usize> = (0..candidates.len()).filter(|p| askable(*p)).collect();
    let contends = |place: &usize| candidates[*place].hope < candidates[best].score;
    let contenders: Vec<usize> = others.iter().copied().filter(contends).collect();
    // What might be gained for what asking costs.
    let worth =
        |place: usize| (candidates[best].score - candidates[place].hope) / candidates[place].cost.max(1e-9);
    let total: f64 = contenders.iter().map(|place| worth(*place)).sum();
    let rate = if total > 0.0 { terms.rate } else { 0.0 };
    let floor = if others.is_empty() { 0.0 } else { terms.floor };
    let dice = draw.uniform();
    let place = if dice < rate {
        let mut left = total * draw.uniform();
        let drawn = contenders.iter().copied().find(|place| {
            left -= worth(*place);
            left < 0.0
        });
        drawn.unwrap_or(contenders[contenders.len() - 1])
    } else if dice < rate + floor {
        others[draw.below(others.len())]
    } else {
        return Plan::exploit(1.0 - rate - floor);
    };
    let as_contender = if contends(&place) {
        rate * worth(place) / total
    } else {
        0.0
    };
    let propensity = as_contender + floor / others.len() as f64;
    let loss = candidates[place].score - candidates[best].score;
    let unseen = candidates[place].cost / terms.shadow_yield.max(1e-3);
    let model = candidates[place].model;
    if candidates[place].presentable && (loss <= unseen || !terms.shadows_allowed) {
        Plan {
            serve: Some(model),
            unseen: vec![],
            propensity,
        }
    } else {
        Plan {
            serve: None,
            unseen: vec![model],
            propensity,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(place: u16, cost: f64, score: f64, hope: f64, presentable: bool) -> Candidate {
        Candidate {
            model: ModelId(place),
            cost,
            score,
            hope,
            presentable,
        }
    }

    #[test]
    fn only_contenders_are_asked_and_the_propensity_is_true() {
        let candidates = [
            candidate(0, 0.2, 0.0, -2.0, true),
            candidate(1, 0.4, -1.0, -1.5, true),
            candidate(2, 1.0, 0.5, 0.0, true),
        ];
        let terms = Terms {
            rate: 0.3,
            shadow_yield: 1.0,
            shadows_allowed: true,
            floor: 0.0,
        };
        let mut asked = 0.0;
        for n in 0..10_000 {
            let plan = plan(&candidates, 1, &terms, &mut Draw::new(5, n));
            if plan.explores() {
                assert_eq!(
                    (plan.serve, plan.unseen),
                    (None, vec![ModelId(0)]),
                    "unseen is the cheaper way here"
                );
                asked += 1.0;
            }
            assert!((plan.propensity - 0.3).abs() < 1e-12 || (plan.propensity - 0.7).abs() < 1e-12);
        }
        assert!((asked / 10_000.0f64 - 0.3).abs() < 0.02, "{asked}");
    }

    #[test]
    fn a_client_is_not_shown_what_the_promise_cannot_bear() {
        let candidates = [
            candidate(0, 0.2, -0.9, -2.0, false),
            candidate(1, 0.4, -1.0, -1.5, true),
        ];
        let terms = Terms {
            rate: 1.0,
            shadow_yield: 1.0,
            shadows_allowed: false,
            floor: 0.5,
        };
        assert_eq!(
            plan(&candidates, 1, &terms, &mut Draw::new(1, 1)),
            Plan::exploit(1.0)
        );
        let terms = Terms {
            shadows_allowed: true,
            ..terms
        };
        assert_eq!(
            plan(&candidates, 1, &terms, &mut Draw::new(1, 1)).unseen,
            [ModelId(0)]
        );
    }
}
