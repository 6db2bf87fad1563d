//! A lane to test with: its decoders can tell when a page holds what it should not.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock};

use tokio::sync::mpsc;

use super::super::*;
use crate::energy::Account;
use crate::engine::board::PageUse;
use crate::engine::host::Memory;
use crate::engine::prefix::Uses;
use crate::engine::request::{FinishReason, Job, JobStream, Outcome, Sampling};
use crate::model::{Compute, Decoder, ModelError, ModelSource, PAGE_TOKENS, Precision, Tokenizer};
use crate::units::{ModelId, Moment, RequestId, TokenId};

const VOCABULARY: usize = 640;

/// The pages that have memory, by number, and the tokens in their slots.
type Pages = Arc<Mutex<HashMap<u32, [u32; PAGE_TOKENS]>>>;

/// Keeps token ids for keys and values, and answers a context with a token that depends on each of its tokens. What
/// it reads comes out of the pages alone, so a page that is lost, shared wrongly or overwritten changes the answer.
struct Echo {
    pages: Pages,
    bytes_per_page: u64,
    /// One sequence at a time, its tokens here and in no page.
    alone: Option<Vec<u32>>,
    salted: bool,
}

impl Decoder for Echo {
    fn forward(&mut self, batch: &Batch) -> Result<Logits, ModelError> {
        if self.alone.is_some() {
            return Ok(self.forward_alone(batch));
        }
        let mut pages = self.pages.lock().unwrap();
        for (slot, token) in batch.slots.iter().zip(&batch.input_ids) {
            let slot = *slot as usize;
            let page = pages.get_mut(&((slot / PAGE_TOKENS) as u32));
            page.expect("the page has memory")[slot % PAGE_TOKENS] = token.0;
        }
        let mut logits = Vec::new();
        for &row in &batch.logit_rows {
            let sequence = batch.cu_seqlens.partition_point(|&end| end <= row) - 1;
            let table = &batch.block_tables[sequence * batch.table_width..];
            let context = (0..=batch.positions[row as usize] as usize)
                .map(|place| pages[&table[place / PAGE_TOKENS]][place % PAGE_TOKENS]);
            logits.extend(favour(answer_to(context)));
        }
        Ok(Logits::new(logits, VOCABULARY))
    }

    fn materialise_page(&mut self, page: u32) {
        let before = self.pages.lock().unwrap().insert(page, [u32::MAX; PAGE_TOKENS]);
        assert!(before.is_none(), "page {page} has memory already");
    }

    fn release_page(&mut self, page: u32) {
        let page = self.pages.lock().unwrap().remove(&page);
        assert!(page.is_some(), "the page had no memory");
    }

    fn bytes_per_page(&self) -> u64 {
        self.bytes_per_page
    }

    fn max_rows(&self) -> Option<usize> {
        self.alone.as_ref().map(|_| 1)
    }

    fn whole_prompts(&self) -> bool {
        self.alone.is_some()
    }

    fn cache_salt(&self, prompt_tokens: usize) -> u64 {
        if self.salted {
            prompt_tokens as u64 / 100
        } else {
            0
        }
    }
}

impl Echo {
    fn forward_alone(&mut self, batch: &Batch) -> Logits {
        let context = self.alone.get_or_insert_default();
        assert_eq!(batch.sequences(), 1);
        assert_eq!(batch.logit_rows.len(), 1, "a prompt comes whole");
        if batch.positions[0] == 0 {
            context.clear();
        }
        assert_eq!(batch.positions[0] as usize, context.len());
        context.extend(batch.input_ids.iter().map(|t| t.0));
        Logits::new(favour(answer_to(context.iter().copied())), VOCABULARY)
    }
}

fn answer_to(context: impl Iterator<Item = u32>) -> u32 {
    let mixed = context.fold(7u64, |h, token| {
        (h ^ u64::from(token))
            .wrapping_mul(0x100_0000_01B3)
            .rotate_left(17)
    });
    10 + (mixed >> 20) as u32 % 600
}

fn favour(token: u32) -> Vec<f32> {
    let mut logits = vec![0.0; VOCABULARY];
    logits[token as usize] = 1.0;
    logits
}

fn expected(prompt: &[TokenId], count: u32) -> Vec<TokenId> {
    let mut tokens: Vec<u32> = prompt.iter().map(|t| t.0).collect();
    for _ in 0..count {
        tokens.push(answer_to(tokens.iter().copied()));
    }
    tokens[prompt.len()..].iter().map(|&t| TokenId(t)).collect()
}

/// Keeps the tokens of each step's rows.
#[derive(Default)]
pub struct Seen(pub Mutex<Vec<Vec<(u32, u32)>>>);

impl StepSink for Seen {
    fn begin_step(&self, _: DeviceId, _: Moment) {}

    fn record(&self, step: StepRecord) {
        let rows = step.rows.iter().map(|r| (r.prefill_tokens, r.decode_tokens));
        self.0.lock().unwrap().push(rows.collect());
    }
}

/// What kinds of decoders a lane is to have.
#[derive(Clone, Copy, Default)]
pub struct Kind {
    pub bytes_per_page: u64,
    pub alone: bool,
    pub salted: bool,
}

pub const SMALL: Kind = Kind {
    bytes_per_page: 70,
    alone: false,
    salted: false,
};

pub struct World {
    pub lane: Lane,
    memory: Vec<Pages>,
    kinds: Vec<Kind>,
    bytes: u64,
    pub seen: Arc<Seen>,
}

impl World {
    pub fn new(kinds: &[Kind], bytes: u64, step_tokens: usize, cache: bool) -> Self {
        static TOKENIZER: OnceLock<Tokenizer> = OnceLock::new();
        let tokenizer = TOKENIZER.get_or_init(|| {
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/models/demo/small");
            let source = ModelSource::Folder(folder.into());
            crate::model::load(&source, Compute::Cpu, Precision::Auto)
                .unwrap()
                .tokenizer
        });
        let memory = Memory {
            budget: KvBudget::new(bytes),
            uses: cache.then(Uses::default),
        };
        let pages: Vec<_> = kinds.iter().map(|_| Arc::default()).collect();
        let host = |(id, kind): (u16, &Kind)| {
            let decoder = Echo {
                pages: Arc::clone(&pages[usize::from(id)]),
                bytes_per_page: kind.bytes_per_page,
                alone: kind.alone.then(Vec::new),
                salted: kind.salted,
            };
            Host::new(
                ModelId(id),
                "echo".to_owned(),
                Box::new(decoder),
                tokenizer.clone(),
                Vec::new(),
                memory.clone(),
                16,
            )
        };
        let hosts = (0..).zip(kinds).map(host).collect();
        let seen = Arc::new(Seen::default());
        let lane = Lane::new(
            DeviceId(0),
            hosts,
            memory.budget.clone(),
            step_tokens,
            Arc::new(Board::new(kinds.len())),
            seen.clone(),
            Clock::start(),
        );
        Self {
            lane,
            memory: pages,
            kinds: kinds.to_vec(),
            bytes,
            seen,
        }
    }

    pub fn submit(&mut self, model: u16, prompt: Vec<TokenId>, max_tokens: u32) -> Asked {
        let (events, stream) = mpsc::unbounded_channel();
        let job = Job {
            account: Account::Request(RequestId::fresh()),
            model: ModelId(model),
            prompt: prompt.clone(),
            max_tokens,
            sampling: Sampling {
                temperature: 0.0,
                ..Sampling::default()
            },
            stop: Vec::new(),
            logprobs: Some(0),
            constraint: None,
        };
        let place = self.lane.board.enter_queue(usize::from(model), usize::MAX);
        self.lane.enter(Arrival {
            job,
            guide: None,
            events,
            place: place.ok().unwrap(),
            at: self.lane.clock.now(),
        });
        Asked {
            prompt,
            max_tokens,
            stream,
        }
    }

    pub fn busy(&self) -> bool {
        self.lane.hosts.iter().any(Host::has_work)
    }

    /// Serves until nothing is left to do. The number of turns it took.
    pub fn serve(&mut self, most_turns: usize) -> usize {
        for turn in 0..most_turns {
            if !self.busy() {
                return turn;
            }
            self.turn();
        }
        panic!("not done after {most_turns} turns");
    }

    pub fn turn(&mut self) {
        self.lane.turn();
        let held: u64 = (0..self.kinds.len())
            .map(|m| self.memory[m].lock().unwrap().len() as u64 * self.kinds[m].bytes_per_page)
            .sum();
        assert_eq!(
            held + self.lane.budget.left(),
            self.bytes,
            "bytes are lost or made"
        );
        for (host, memory) in self.lane.hosts.iter().zip(&self.memory) {
            let pages = host.page_use();
            let all = pages.used + pages.cached + pages.free;
            assert_eq!(all as usize, memory.lock().unwrap().len(), "{pages:?}");
            let mut holders: HashMap<u32, Vec<bool>> = HashMap::new();
            for sequence in host.running.values() {
                for (place, page) in sequence.page_numbers().iter().enumerate() {
                    let full = place < sequence.computed() / PAGE_TOKENS;
                    holders.entry(*page).or_default().push(full);
                }
            }
            assert_eq!(pages.used as usize, holders.len(), "a page has no holder");
            let shared = holders.values().filter(|full| full.len() > 1);
            assert!(
                shared.flatten().all(|full| *full),
                "a page that is written has two holders"
            );
        }
    }

    pub fn pages(&self) -> Vec<PageUse> {
        self.lane.hosts.iter().map(Host::page_use).collect()
    }

    pub fn preemptions(&self) -> u64 {
        self.pages().iter().map(|p| p.preemptions).sum()
    }

    /// Prompt tokens of all steps so far.
    pub fn prefilled(&self) -> u32 {
        self.seen.0.lock().unwrap().iter().flatten().map(|r| r.0).sum()
    }

    /// Gives all memory back, which must be all there is.
    pub fn empty(&mut self) {
        for host in &mut self.lane.hosts {
            assert_eq!(host.page_use().used, 0, "pages leaked");
            while host.evict() {}
            assert_eq!(host.page_use().cached, 0, "a cached page cannot be had");
            host.trim(u64::MAX);
        }
        assert_eq!(self.lane.budget.left(), self.bytes);
    }
}

pub struct Asked {
    prompt: Vec<TokenId>,
    max_tokens: u32,
    stream: JobStream,
}

impl Asked {
    pub fn finish(&mut self) -> Outcome {
        let mut tokens = Vec::new();
        loop {
            match self.stream.try_recv().expect("the job has ended") {
                Event::Text { logprobs, .. } => tokens.extend(logprobs.iter().map(|l| l.chosen.token)),
                Event::Done(outcome) => {
                    assert_eq!(tokens, expected(&self.prompt, self.max_tokens));
                    assert_eq!(outcome.finish, FinishReason::Length);
                    assert!(outcome.cached_tokens < outcome.prompt_tokens);
                    assert_eq!(outcome.cached_tokens as usize % PAGE_TOKENS, 0);
                    return outcome;
                }
                Event::Failed(error) => panic!("{error}"),
            }
        }
    }
}

/// `length` tokens of a text that is that of `family` up to `branch` and its own from there.
pub fn text(family: u32, own: u32, branch: usize, length: usize) -> Vec<TokenId> {
    let token = |place: usize| {
        let salt = if place < branch { family } else { 1000 + own };
        TokenId((place as u32 * 31 + salt * 7) % 600 + 10)
    };
    (0..length).map(token).collect()
}
