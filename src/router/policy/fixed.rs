//! `fixed:NAME`: one model answers everything.

use serde::{Deserialize, Serialize};

use super::{Choice, Rules, Sight, Standing, World};
use crate::router::draw::Draw;
use crate::router::event::Stage;
use crate::units::ModelId;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fixed {
    pub model: ModelId,
}

impl Rules for Fixed {
    fn choose(&self, world: &World, sight: &Sight, _draw: &mut Draw) -> Choice {
        let satisfaction = world.satisfaction(sight.sla, sight.context);
        Choice {
            model: self.model,
            explore: vec![],
            explored: false,
            propensity: 1.0,
            credited: satisfaction[self.model.index()],
            satisfaction,
            queue: 0.0,
            price: 0.0,
            // The choice looked at no text, so its labels may teach the base rates.
            stage: Stage::BaseRates,
        }
    }

    fn standing(&self, world: &World, sla: usize) -> Standing {
        let (rate, deviation) = world.learner.rate(sla, self.model.index());
        let feasible = rate + 2.0 * deviation >= world.config.slas[sla].alpha;
        Standing {
            reachable: Some((rate, rate)),
            feasible,
            ..Standing::default()
        }
    }
}
