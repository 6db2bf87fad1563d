//! `random`: every model is equally likely.

use serde::{Deserialize, Serialize};

use super::{Choice, Rules, Sight, Standing, World};
use crate::router::draw::Draw;
use crate::router::event::Stage;
use crate::units::ModelId;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Random;

impl Rules for Random {
    fn choose(&self, world: &World, sight: &Sight, draw: &mut Draw) -> Choice {
        let count = world.order.len();
        let model = ModelId(draw.below(count) as u16);
        let satisfaction = world.satisfaction(sight.sla, sight.context);
        Choice {
            model,
            explore: vec![],
            explored: false,
            propensity: 1.0 / count as f64,
            credited: satisfaction[model.index()],
            satisfaction,
            queue: 0.0,
            price: 0.0,
            // The choice looked at no text, so its labels may teach the base rates.
            stage: Stage::BaseRates,
        }
    }

    fn standing(&self, world: &World, sla: usize) -> Standing {
        let count = world.order.len();
        let rates: Vec<_> = (0..count).map(|m| world.learner.rate(sla, m)).collect();
        let rate = rates.iter().map(|(rate, _)| rate).sum::<f64>() / count as f64;
        let deviation = rates.iter().map(|(_, deviation)| deviation).sum::<f64>() / count as f64;
        let feasible = rate + 2.0 * deviation >= world.config.slas[sla].alpha;
        Standing {
            reachable: Some((rate, rate)),
            feasible,
            ..Standing::default()
        }
    }
}
