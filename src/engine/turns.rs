//! Whose turn it is: deficit round robin over the models of a lane, in seconds of device time.

/// Device time a model may use before the next one is asked.
const QUANTUM_SECONDS: f64 = 0.004;

/// Fair turns between models whose steps differ in length: over time each model that wants the device gets the
/// same share of it, whatever its steps cost.
pub struct Turns {
    credit: Vec<f64>,
    current: usize,
}

impl Turns {
    pub fn new(models: usize) -> Self {
        Self {
            credit: vec![0.0; models],
            current: 0,
        }
    }

    /// The model to step next among those that have work. A model without work keeps no credit.
    pub fn next(&mut self, has_work: &[bool]) -> Option<usize> {
        for (credit, has_work) in self.credit.iter_mut().zip(has_work) {
            if !has_work {
                *credit = credit.min(0.0);
            }
        }
        let mut busy = (0..has_work.len()).filter(|&m| has_work[m]);
        match (busy.next(), busy.next()) {
            (None, _) => return None,
            (Some(only), None) => {
                // Nobody waits for it, so what it uses is no debt.
                self.credit[only] = QUANTUM_SECONDS;
                self.current = only;
                return Some(only);
            }
            _ => {}
        }
        while !(has_work[self.current] && self.credit[self.current] > 0.0) {
            self.current = (self.current + 1) % self.credit.len();
            if has_work[self.current] {
                let credit = &mut self.credit[self.current];
                *credit = (*credit + QUANTUM_SECONDS).min(QUANTUM_SECONDS);
            }
        }
        Some(self.current)
    }

    pub fn charge(&mut self, model: usize, seconds: f64) {
        self.credit[model] -= seconds;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_models_share_time_whatever_their_steps_cost() {
        let costs = [0.0005, 0.003, 0.020];
        let mut turns = Turns::new(3);
        let mut used = [0.0; 3];
        for _ in 0..20_000 {
            let model = turns.next(&[true; 3]).unwrap();
            turns.charge(model, costs[model]);
            used[model] += costs[model];
        }
        let total: f64 = used.iter().sum();
        for share in used.map(|u| u / total) {
            assert!((share - 1.0 / 3.0).abs() < 0.02, "{used:?}");
        }
    }

    #[test]
    fn a_lone_model_never_waits_and_a_newcomer_is_served_soon() {
        let mut turns = Turns::new(2);
        for _ in 0..1000 {
            assert_eq!(turns.next(&[true, false]), Some(0));
            turns.charge(0, 0.05);
        }
        let first = (0..20).position(|_| {
            let model = turns.next(&[true, true]).unwrap();
            turns.charge(model, 0.001);
            model == 1
        });
        assert!(first.unwrap() <= 5);
        assert_eq!(turns.next(&[false, false]), None);
    }
}
