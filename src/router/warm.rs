//! The warm start: models that were hardly judged yet are asked, and answer nobody until they were.
//!
//! Where unseen answers get judged, all of them are asked beside the model that answers, as far as together
//! they cost no more than the dearest model's answer, in one burst that covers labels still on their way.
//! Where only shown answers are judged, now and then one answers the client. After the burst the asking goes
//! on slowly, since labels may be rare.

use super::draw::Draw;
use super::explore::Plan;
use crate::units::ModelId;

/// Chance of asking a model in the client's place, where unseen answers go unjudged.
const SERVE: f64 = 0.25;
/// Chance of asking on after the burst.
const SLOW: f64 = 0.1;

/// A model that waits to be known.
#[derive(Clone, Copy, Debug)]
pub struct Waiting {
    pub model: ModelId,
    /// Times it was asked.
    pub asked: u64,
    /// Cost in units of the dearest model's mean answer.
    pub cost: f64,
}

/// None when nobody waits. `labels` are needed of each model; `shown_judged` says that shown answers have been judged at all:
/// until then showing lesser ones would teach nothing.
pub fn plan(
    waiting: &[Waiting],
    labels: u32,
    unseen_yield: f64,
    shown_judged: bool,
    draw: &mut Draw,
) -> Option<Plan> {
    let next = waiting.iter().min_by_key(|w| w.asked)?;
    let burst = |w: &Waiting| w.asked < 2 * u64::from(labels);
    let unseen = unseen_yield >= 0.5;
    let chance = match (burst(next), unseen) {
        (true, true) => 1.0,
        (_, false) if !shown_judged => 0.0,
        (true, false) => SERVE,
        (false, _) => SLOW,
    };
    if draw.uniform() >= chance {
        return Some(Plan::exploit(1.0 - chance));
    }
    if !unseen {
        return Some(Plan {
            serve: Some(next.model),
            unseen: vec![],
            propensity: chance,
        });
    }
    let mut asked = vec![next.model];
    let mut cost = next.cost;
    for other in waiting.iter().filter(|w| w.model != next.model && burst(w)) {
        cost += other.cost;
        if cost <= 1.0 {
            asked.push(other.model);
        }
    }
    Some(Plan {
        serve: None,
        unseen: asked,
        propensity: chance,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bursts_together_then_slowly() {
        let mut waiting = vec![
            Waiting {
                model: ModelId(0),
                asked: 0,
                cost: 0.2,
            },
            Waiting {
                model: ModelId(1),
                asked: 0,
                cost: 0.4,
            },
        ];
        let mut draw = Draw::new(1, 1);
        let both = plan(&waiting, 20, 1.0, true, &mut draw).unwrap();
        assert_eq!((both.unseen.len(), both.propensity), (2, 1.0));
        waiting[1].cost = 0.9;
        assert_eq!(
            plan(&waiting, 20, 1.0, true, &mut draw).unwrap().unseen,
            [ModelId(0)]
        );
        waiting.iter_mut().for_each(|w| w.asked = 40);
        let asks = (0..1000)
            .filter(|_| plan(&waiting, 20, 1.0, true, &mut draw).unwrap().explores())
            .count();
        assert!((60..140).contains(&asks), "{asks}");
        assert_eq!(
            plan(&waiting, 20, 0.4, false, &mut draw),
            Some(Plan::exploit(1.0))
        );
        assert_eq!(plan(&[], 20, 1.0, true, &mut draw), None);
    }
}
