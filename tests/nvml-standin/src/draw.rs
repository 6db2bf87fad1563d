//! What a card truly drew: idle watts by time and pieces of energy on top, each spread evenly over its time.

struct Spend {
    start: u64,
    end: u64,
    energy: f64,
}

/// Times in nanoseconds, energies in microjoules.
pub(crate) struct Draw {
    /// Time, watts, microjoules up to here.
    idle: Vec<(u64, f64, f64)>,
    /// By their end.
    spends: Vec<Spend>,
    /// Energy of all spends before each, and of all.
    before: Vec<f64>,
    longest: u64,
}

impl Draw {
    /// `idle` in seconds and watts.
    pub(crate) fn new(idle: &[(f64, f64)]) -> Self {
        let mut points: Vec<(u64, f64, f64)> = Vec::new();
        for &(seconds, watts) in idle {
            let at = (seconds * 1e9) as u64;
            let energy = match points.last() {
                Some(&(before, level, energy)) => {
                    energy + at.saturating_sub(before) as f64 * 1e-3 * (level + watts) / 2.0
                }
                None => at as f64 * 1e-3 * watts,
            };
            points.push((at, watts, energy));
        }
        Self {
            idle: points,
            spends: Vec::new(),
            before: vec![0.0],
            longest: 0,
        }
    }

    pub(crate) fn spend(&mut self, start: u64, end: u64, microjoules: f64) {
        let end = end.max(start);
        let place = self.spends.partition_point(|s| s.end <= end);
        let energy = microjoules;
        self.spends.insert(place, Spend { start, end, energy });
        self.longest = self.longest.max(end - start);
        self.before.truncate(place + 1);
        for spend in &self.spends[place..] {
            self.before
                .push(self.before[self.before.len() - 1] + spend.energy);
        }
    }

    /// Microjoules drawn from the beginning until `at`.
    pub(crate) fn until(&self, at: u64) -> f64 {
        let ended = self.spends.partition_point(|s| s.end <= at);
        let running: f64 = self.spends[ended..]
            .iter()
            .take_while(|s| s.end <= at.saturating_add(self.longest))
            .filter(|s| s.start < at)
            .map(|s| s.energy * (at - s.start) as f64 / (s.end - s.start) as f64)
            .sum();
        self.before[ended] + running + self.idle_until(at)
    }

    fn idle_until(&self, at: u64) -> f64 {
        let next = self.idle.partition_point(|p| p.0 <= at);
        let Some(&(since, watts, energy)) = next.checked_sub(1).and_then(|i| self.idle.get(i)) else {
            return self.idle.first().map_or(0.0, |p| at as f64 * 1e-3 * p.1);
        };
        let level = match self.idle.get(next) {
            Some(&(end, goal, _)) => {
                watts + (goal - watts) * (at - since) as f64 / (end - since) as f64 / 2.0
            }
            None => watts,
        };
        energy + (at - since) as f64 * 1e-3 * level
    }

    /// Mean watts over the `window` nanoseconds before `at`.
    pub(crate) fn watts(&self, at: u64, window: u64) -> f64 {
        let from = at.saturating_sub(window.max(1_000_000));
        if at == from {
            return self.idle.first().map_or(0.0, |p| p.1);
        }
        (self.until(at) - self.until(from)) * 1e3 / (at - from) as f64
    }
}
