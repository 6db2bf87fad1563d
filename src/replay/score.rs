//! What one run came to, added up request by request.

use super::course::Course;

/// Points of a curve over a run.
pub const POINTS: usize = 240;

/// A run so far, at one of [`POINTS`] moments.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Requests so far.
    pub requests: usize,
    /// Share of them that were satisfied.
    pub satisfaction: f64,
    /// The virtual queue, in requests; 0 for a policy that has none.
    pub queue: f64,
}

/// One run: one policy, stream, α and seed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Run {
    pub requests: usize,
    /// Joules of the answers shown (and of lesser ones that a cascade tried before).
    pub joules: f64,
    /// Joules of extra answers that only taught.
    pub exploration_joules: f64,
    pub satisfied: f64,
    /// Σ α over the requests.
    pub promised: f64,
    /// Answers shown, per model.
    pub calls: Vec<u64>,
    pub explored: u64,
    /// Greatest queue seen.
    pub most_queue: f64,
    /// Requests after a change until the next [`WINDOW`] requests are satisfied at α; None when they never are.
    pub recovered: Option<usize>,
    pub curve: Vec<Point>,
}

/// Requests over which a recovery is judged.
pub const WINDOW: usize = 500;

impl Run {
    pub fn satisfaction(&self) -> f64 {
        self.satisfied / self.requests.max(1) as f64
    }

    /// Joules with exploration billed.
    pub fn true_joules(&self) -> f64 {
        self.joules + self.exploration_joules
    }

    /// Whether the promise was kept at the end; against the mean α where it was changed.
    pub fn met(&self) -> bool {
        // Sums of unit fractions: a run exactly at α must not fail by rounding.
        self.satisfied + 1e-9 * self.requests as f64 >= self.promised
    }
}

/// What became of one request.
#[derive(Clone, Copy, Debug)]
pub struct Outcome<'a> {
    /// The model whose answer was shown.
    pub model: usize,
    /// Models whose answers only taught.
    pub extra: &'a [usize],
    pub explored: bool,
    pub queue: f64,
    pub alpha: f64,
}

impl Outcome<'_> {
    /// One model, nothing else.
    pub fn plain(model: usize, alpha: f64) -> Self {
        Self {
            model,
            extra: &[],
            explored: false,
            queue: 0.0,
            alpha,
        }
    }
}

/// Adds up a run.
pub struct Score<'a> {
    course: &'a Course<'a>,
    run: Run,
    /// Where recovery counts from, and satisfied − α per request since.
    change: Option<usize>,
    surplus: Vec<f32>,
}

impl<'a> Score<'a> {
    /// `change` is the request at which something changes, if recovery is of interest.
    pub fn new(course: &'a Course<'a>, change: Option<usize>) -> Self {
        let run = Run {
            calls: vec![0; course.models()],
            curve: Vec::with_capacity(POINTS),
            ..Run::default()
        };
        Self {
            course,
            run,
            change,
            surplus: vec![],
        }
    }

    /// Books the course's next request.
    pub fn add(&mut self, outcome: &Outcome) {
        let at = self.run.requests;
        let run = &mut self.run;
        let answer = self.course.answer(at, outcome.model);
        run.requests += 1;
        run.joules += answer.joules;
        run.exploration_joules += outcome
            .extra
            .iter()
            .map(|m| self.course.answer(at, *m).joules)
            .sum::<f64>();
        run.satisfied += answer.satisfied;
        run.promised += outcome.alpha;
        run.calls[outcome.model] += 1;
        run.explored += u64::from(outcome.explored);
        run.most_queue = run.most_queue.max(outcome.queue);
        if self.change.is_some_and(|change| at >= change) {
            self.surplus.push((answer.satisfied - outcome.alpha) as f32);
        }
        // The point due next is the one whose share of the course has gone by.
        let points = POINTS.min(self.course.len());
        if run.requests * points >= (run.curve.len() + 1) * self.course.len() {
            run.curve.push(Point {
                requests: run.requests,
                satisfaction: run.satisfaction(),
                queue: outcome.queue,
            });
        }
    }

    /// Bills a lesser answer that was tried before the one shown; the request itself is booked by [`Self::add`].
    pub fn tried(&mut self, model: usize) {
        self.run.joules += self.course.answer(self.run.requests, model).joules;
    }

    pub fn end(mut self) -> Run {
        let mut sum: f64 = self.surplus.iter().take(WINDOW).map(|s| f64::from(*s)).sum();
        for start in 0..(self.surplus.len() + 1).saturating_sub(WINDOW) {
            if sum >= -1e-6 {
                self.run.recovered = Some(start);
                break;
            }
            let next = self.surplus.get(start + WINDOW).copied().unwrap_or(0.0);
            sum += f64::from(next - self.surplus[start]);
        }
        self.run
    }
}
