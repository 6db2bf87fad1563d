//! The order in which a trace's requests come by: which of them, shuffled by which seed, and what changes on the way.

use super::trace::{Answer, Request, Trace};
use crate::router::draw::Draw;

/// How a trace becomes streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shape {
    /// Every benchmark is a stream of its own, shuffled.
    #[default]
    Each,
    /// All requests are one stream, shuffled.
    Mixed,
    /// The benchmarks come one after another, as they were recorded.
    Chain,
}

/// Requests that are replayed together.
#[derive(Clone, Debug, PartialEq)]
pub struct Stream {
    pub name: String,
    /// Places in [`Trace::requests`].
    pub requests: Vec<u32>,
    pub shuffled: bool,
}

/// The streams of a trace.
pub fn streams(trace: &Trace, shape: Shape) -> Vec<Stream> {
    let of = |benchmark: usize| {
        let belongs = move |(_, request): &(usize, &Request)| usize::from(request.benchmark) == benchmark;
        trace
            .requests
            .iter()
            .enumerate()
            .filter(belongs)
            .map(|(at, _)| at as u32)
    };
    let benchmarks = 0..trace.benchmarks.len();
    match shape {
        Shape::Each => benchmarks
            .map(|b| Stream {
                name: trace.benchmarks[b].clone(),
                requests: of(b).collect(),
                shuffled: true,
            })
            .collect(),
        Shape::Mixed => vec![Stream {
            name: "mixed".into(),
            requests: (0..trace.requests.len() as u32).collect(),
            shuffled: true,
        }],
        Shape::Chain => {
            vec![Stream {
                name: "chain".into(),
                requests: benchmarks.flat_map(of).collect(),
                shuffled: false,
            }]
        }
    }
}

/// From request `at` on, two models have exchanged their qualities and kept their costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Swap {
    pub at: usize,
    pub models: [usize; 2],
}

/// One stream as one seed sees it.
#[derive(Clone, Debug)]
pub struct Course<'a> {
    pub trace: &'a Trace,
    pub seed: u64,
    swap: Option<Swap>,
    order: Vec<u32>,
}

/// Tells the shuffling's draws from those of other uses of a seed.
const SHUFFLING: u64 = 0x5aff_1e00;

impl<'a> Course<'a> {
    /// The first `limit` requests, after the shuffle.
    pub fn new(trace: &'a Trace, stream: &Stream, seed: u64, limit: usize, swap: Option<Swap>) -> Self {
        let mut order = stream.requests.clone();
        if stream.shuffled {
            // Fisher and Yates; the same order for every policy.
            let mut draw = Draw::new(seed, SHUFFLING);
            for at in (1..order.len()).rev() {
                order.swap(at, draw.below(at + 1));
            }
        }
        order.truncate(limit);
        Self {
            trace,
            seed,
            swap,
            order,
        }
    }

    pub fn len(&self) -> usize {
        self.order.len()
    }

    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    pub fn models(&self) -> usize {
        self.trace.models.len()
    }

    pub fn request(&self, at: usize) -> &'a Request {
        &self.trace.requests[self.order[at] as usize]
    }

    /// Place of the request in the trace.
    pub fn place(&self, at: usize) -> usize {
        self.order[at] as usize
    }

    pub fn features(&self, at: usize) -> &'a [u16] {
        self.trace.features(self.place(at))
    }

    pub fn answer(&self, at: usize, model: usize) -> Answer {
        let answers = self.trace.answers(self.place(at));
        let Some(Swap {
            at: from,
            models: [one, two],
        }) = self.swap
        else {
            return answers[model];
        };
        let quality = match model {
            m if at < from => m,
            m if m == one => two,
            m if m == two => one,
            m => m,
        };
        Answer {
            joules: answers[model].joules,
            output_tokens: answers[model].output_tokens,
            ..answers[quality]
        }
    }
}
