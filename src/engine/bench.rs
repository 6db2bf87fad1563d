//! What the benches of `benches/engine.rs` drive: a lane whose decoder costs nothing, and parts by themselves.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::StepSink;
use super::board::Board;
use super::chain::Chain;
use super::host::{Host, Memory};
use super::lane::Lane;
use super::pages::{KvBudget, PagePool};
use super::prefix::{PrefixCache, Uses};
use super::request::{Event, Job, JobStream, Sampling};
use super::sampler::{self, History};
use super::sequence::Arrival;
use crate::energy::{Account, StepRecord};
use crate::model::{Batch, Decoder, Logits, ModelError, PAGE_TOKENS, Tokenizer};
use crate::units::{Clock, DeviceId, ModelId, Moment, RequestId, TokenId};

const VOCABULARY: usize = 256;
const FAVOURITE: usize = 100;
const ANSWER: u32 = 1000;

/// Answers every row with the same token, at once.
struct Constant(Vec<f32>);

impl Decoder for Constant {
    fn forward(&mut self, batch: &Batch) -> Result<Logits, ModelError> {
        let rows = batch.logit_rows.len();
        Ok(Logits::new(self.0.repeat(rows), VOCABULARY))
    }

    fn materialise_page(&mut self, _: u32) {}

    fn release_page(&mut self, _: u32) {}

    fn bytes_per_page(&self) -> u64 {
        1
    }
}

struct Nobody;

impl StepSink for Nobody {
    fn begin_step(&self, _: DeviceId, _: Moment) {}

    fn record(&self, _: StepRecord) {}
}

/// A lane on which a fixed number of answers is always being decoded.
pub struct BusyLane {
    lane: Lane,
    board: Arc<Board>,
    clock: Clock,
    streams: Vec<JobStream>,
    jobs: u32,
}

impl BusyLane {
    pub fn new(rows: usize, tokenizer: Tokenizer) -> Self {
        let mut logits = vec![0.0; VOCABULARY];
        logits[FAVOURITE] = 1.0;
        let memory = Memory {
            budget: KvBudget::new(1 << 40),
            uses: Some(Uses::default()),
        };
        let budget = memory.budget.clone();
        let host = Host::new(
            ModelId(0),
            "constant".to_owned(),
            Box::new(Constant(logits)),
            tokenizer,
            Vec::new(),
            memory,
            rows,
        );
        let board = Arc::new(Board::new(1));
        let clock = Clock::start();
        let lane = Lane::new(
            DeviceId(0),
            vec![host],
            budget,
            512,
            board.clone(),
            Arc::new(Nobody),
            clock,
        );
        let mut busy = Self {
            lane,
            board,
            clock,
            streams: Vec::new(),
            jobs: 0,
        };
        for _ in 0..rows {
            let stream = busy.submit();
            busy.streams.push(stream);
        }
        // All prompts are computed before anything is timed.
        for _ in 0..4 * rows {
            busy.turn();
        }
        busy
    }

    /// Time of one turn. Whoever reads the answers is not part of it; one that has ended makes room for another.
    pub fn turn(&mut self) -> Duration {
        let start = Instant::now();
        self.lane.turn();
        let took = start.elapsed();
        for place in 0..self.streams.len() {
            while let Ok(event) = self.streams[place].try_recv() {
                if let Event::Done(_) | Event::Failed(_) = event {
                    self.streams[place] = self.submit();
                }
            }
        }
        took
    }

    fn submit(&mut self) -> JobStream {
        self.jobs += 1;
        let job = Job {
            account: Account::Request(RequestId::fresh()),
            model: ModelId(0),
            prompt: (0..200).map(|i| TokenId(self.jobs % 97 + i % 50)).collect(),
            max_tokens: ANSWER,
            sampling: Sampling {
                temperature: 0.0,
                ..Sampling::default()
            },
            stop: Vec::new(),
            logprobs: None,
            constraint: None,
        };
        let (events, stream) = mpsc::unbounded_channel();
        let place = self.board.enter_queue(0, usize::MAX);
        self.lane.enter(Arrival {
            job,
            guide: None,
            events,
            place: place.expect("the queue has no limit"),
            at: self.clock.now(),
        });
        stream
    }
}

/// A prefix cache that knows one prompt.
pub struct KnownPrompt {
    cache: PrefixCache,
    prompt: Vec<TokenId>,
}

impl KnownPrompt {
    pub fn new(tokens: usize) -> Self {
        let cache = PrefixCache::new(ModelId(0), Uses::default());
        let prompt: Vec<_> = (0..tokens as u32).map(TokenId).collect();
        let pool = PagePool::new(KvBudget::new(1 << 40), 1);
        let mut chain = Chain::new(0);
        while let Some((page, _)) = pool.take().filter(|_| chain.pages_missing(tokens) > 0) {
            chain.add_page(page);
        }
        chain.advance(tokens);
        chain.offer(&cache, &prompt);
        Self { cache, prompt }
    }

    /// What admitting the prompt again costs: names of its blocks, look-up, pages taken and given back. The tokens found.
    pub fn look_up(&self) -> usize {
        let mut chain = Chain::new(0);
        let ahead = chain.ahead(&self.cache, &self.prompt);
        chain.take_cached(&self.cache, &self.prompt);
        assert_eq!(ahead.blocks * PAGE_TOKENS, chain.computed());
        chain.computed()
    }
}

/// A token out of a row of logits, with nothing of a past.
pub fn sample(logits: &mut [f32], sampling: &Sampling, position: usize) -> TokenId {
    sampler::sample(logits, sampling, &History::default(), position)
}
