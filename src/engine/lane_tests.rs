//! A lane with decoders that can tell when a page holds what it should not.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock};

use proptest::prelude::*;
use tokio::sync::mpsc;

use super::super::board::PageUse;
use super::super::chain::Chain;
use super::super::host::Memory;
use super::super::prefix::{PrefixCache, Uses};
use super::super::request::{FinishReason, Job, JobStream, Outcome, Sampling};
use super::*;
use crate::energy::Account;
use crate::model::{Compute, Decoder, ModelError, ModelSource, PAGE_TOKENS, Precision, Tokenizer};
use crate::units::{ModelId, RequestId, TokenId};

const VOCABULARY: usize = 640;

/// Keeps token ids for keys and values, and answers a context with a token that depends on each of its tokens. What
/// it reads comes out of the pages alone, so a page that is lost, shared wrongly or overwritten changes the answer.
struct Echo {
    pages: Arc<Mutex<HashMap<u32, [u32; PAGE_TOKENS]>>>,
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
struct Seen(Mutex<Vec<Vec<(u32, u32)>>>);

impl StepSink for Seen {
    fn begin_step(&self, _: DeviceId, _: Moment) {}

    fn record(&self, step: StepRecord) {
        let rows = step.rows.iter().map(|r| (r.prefill_tokens, r.decode_tokens));
        self.0.lock().unwrap().push(rows.collect());
    }
}

/// What kinds of decoders a lane is to have.
#[derive(Clone, Copy, Default)]
struct Kind {
    bytes_per_page: u64,
    alone: bool,
    salted: bool,
}

const SMALL: Kind = Kind {
    bytes_per_page: 70,
    alone: false,
    salted: false,
};

struct World {
    lane: Lane,
    memory: Vec<Arc<Mutex<HashMap<u32, [u32; PAGE_TOKENS]>>>>,
    kinds: Vec<Kind>,
    bytes: u64,
    seen: Arc<Seen>,
}

impl World {
    fn new(kinds: &[Kind], bytes: u64, step_tokens: usize, cache: bool) -> Self {
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

    fn submit(&mut self, model: u16, prompt: Vec<TokenId>, max_tokens: u32) -> Asked {
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

    fn busy(&self) -> bool {
        self.lane.hosts.iter().any(Host::has_work)
    }

    /// Serves until nothing is left to do. The number of turns it took.
    fn serve(&mut self, most_turns: usize) -> usize {
        for turn in 0..most_turns {
            if !self.busy() {
                return turn;
            }
            self.turn();
        }
        panic!("not done after {most_turns} turns");
    }

    fn turn(&mut self) {
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

    fn pages(&self) -> Vec<PageUse> {
        self.lane.hosts.iter().map(Host::page_use).collect()
    }

    fn preemptions(&self) -> u64 {
        self.pages().iter().map(|p| p.preemptions).sum()
    }

    /// Prompt tokens of all steps so far.
    fn prefilled(&self) -> u32 {
        self.seen.0.lock().unwrap().iter().flatten().map(|r| r.0).sum()
    }

    /// Gives all memory back, which must be all there is.
    fn empty(&mut self) {
        for host in &mut self.lane.hosts {
            assert_eq!(host.page_use().used, 0, "pages leaked");
            while host.evict() {}
            assert_eq!(host.page_use().cached, 0, "a cached page cannot be had");
            host.trim(u64::MAX);
        }
        assert_eq!(self.lane.budget.left(), self.bytes);
    }
}

struct Asked {
    prompt: Vec<TokenId>,
    max_tokens: u32,
    stream: JobStream,
}

impl Asked {
    fn finish(&mut self) -> Outcome {
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
fn text(family: u32, own: u32, branch: usize, length: usize) -> Vec<TokenId> {
    let token = |place: usize| {
        let salt = if place < branch { family } else { 1000 + own };
        TokenId((place as u32 * 31 + salt * 7) % 600 + 10)
    };
    (0..length).map(token).collect()
}

#[test]
fn a_prompt_that_came_before_is_not_computed_again() {
    for cache in [true, false] {
        let mut world = World::new(&[SMALL], 70 * 100, 64, cache);
        let mut first = world.submit(0, text(0, 0, 200, 200), 5);
        world.serve(100);
        assert_eq!(first.finish().cached_tokens, 0);
        let before = world.prefilled();
        // The same prompt, one that goes on where it ended, one that leaves it in the third page.
        let mut again = [
            world.submit(0, text(0, 0, 200, 192), 5),
            world.submit(0, text(0, 0, 200, 250), 5),
            world.submit(0, text(0, 1, 70, 250), 5),
        ];
        world.serve(200);
        let cached = again.each_mut().map(|asked| asked.finish().cached_tokens);
        assert_eq!(cached, if cache { [160, 192, 64] } else { [0; 3] });
        let computed = world.prefilled() - before;
        assert_eq!(computed, 192 + 250 + 250 - cached.iter().sum::<u32>());
        world.empty();
    }
}

#[test]
fn answers_of_one_request_share_its_prompt_though_they_come_together() {
    let mut world = World::new(&[SMALL], 70 * 100, 48, true);
    let mut siblings: Vec<_> = (0..4)
        .map(|_| world.submit(0, text(0, 0, 300, 170), 40))
        .collect();
    while world.prefilled() < 170 + 3 * 10 {
        world.turn();
    }
    world.turn();
    // Five full pages for all of them and a page for the end of each.
    assert_eq!(world.pages()[0].used, 5 + 4);
    world.serve(200);
    let cached: Vec<_> = siblings.iter_mut().map(|s| s.finish().cached_tokens).collect();
    assert_eq!(cached, [0, 160, 160, 160]);
    assert_eq!(world.prefilled(), 170 + 3 * 10);
    world.empty();
}

#[test]
fn a_sibling_goes_on_alone_when_the_one_it_waits_for_is_gone() {
    let mut world = World::new(&[SMALL], 70 * 100, 32, true);
    let older = world.submit(0, text(0, 0, 300, 250), 5);
    let mut younger = world.submit(0, text(0, 0, 300, 250), 5);
    world.turn();
    world.turn();
    drop(older);
    world.serve(100);
    assert_eq!(younger.finish().cached_tokens, 64);
    world.empty();
}

#[test]
fn a_client_that_goes_away_frees_its_pages_at_the_next_turn() {
    let mut world = World::new(&[SMALL], 70 * 100, 512, false);
    let stays = world.submit(0, text(0, 0, 300, 40), 50);
    let goes = world.submit(0, text(1, 0, 300, 250), 50);
    world.turn();
    assert_eq!(world.pages()[0].used, 2 + 8);
    drop(goes);
    world.turn();
    assert_eq!(world.pages()[0].used, 2);
    drop(stays);
    world.turn();
    world.empty();
}

#[test]
fn salts_keep_pages_apart() {
    let salted = Kind {
        salted: true,
        ..SMALL
    };
    let mut world = World::new(&[salted], 70 * 100, 64, true);
    let mut found = [90, 95, 110, 120].map(|length| {
        let mut asked = world.submit(0, text(0, 0, 300, length), 3);
        world.serve(100);
        asked.finish().cached_tokens
    });
    found.sort_unstable();
    assert_eq!(
        found,
        [0, 0, 64, 96],
        "one of each side found the other of its own"
    );
    world.empty();
}

#[test]
fn a_name_is_not_trusted() {
    let cache = PrefixCache::new(ModelId(0), Uses::default());
    let budget = KvBudget::new(1 << 20);
    let pool = super::super::pages::PagePool::new(budget, 1);
    let tokens = text(0, 0, 300, 70);
    let fill = |chain: &mut Chain| {
        while chain.pages_missing(70) > 0 {
            chain.add_page(pool.take().unwrap().0);
        }
        chain.advance(70 - chain.computed());
        chain.offer(&cache, &tokens);
    };
    let mut first = Chain::new(0);
    fill(&mut first);
    let name = cache.name(None, 0, &tokens[..PAGE_TOKENS]);
    cache.forge(name, TokenId(9));
    let mut second = Chain::new(0);
    assert_eq!(second.ahead(&cache, &tokens).blocks, 0);
    second.take_cached(&cache, &tokens);
    assert_eq!(second.computed(), 0);
    fill(&mut second);
    let pages = |chain: &Chain| chain.page_numbers().to_vec();
    assert!(pages(&first).iter().all(|page| !pages(&second).contains(page)));
    assert_eq!(cache.len(), 2, "what clashes is not kept, nor what follows it");
}

#[test]
fn the_page_used_longest_ago_goes_first_and_ends_before_beginnings() {
    // Room for ten pages: two old texts of four pages each stay cached.
    let mut world = World::new(&[SMALL], 70 * 10, 512, true);
    for family in [0, 1] {
        let mut asked = world.submit(0, text(family, 0, 300, 129), 1);
        world.serve(10);
        asked.finish();
    }
    assert_eq!(world.pages()[0].cached, 8);
    // Five pages: two free ones, three of the first text's.
    let mut asked = world.submit(0, text(2, 0, 300, 129), 1);
    world.serve(10);
    asked.finish();
    let mut found = |family| {
        let mut asked = world.submit(0, text(family, 0, 300, 129), 1);
        world.serve(10);
        asked.finish().cached_tokens
    };
    assert_eq!(found(1), 128);
    assert_eq!(found(0), 32);
    world.empty();
}

#[test]
fn a_full_cache_of_one_model_yields_to_another() {
    let other = Kind {
        bytes_per_page: 110,
        ..SMALL
    };
    let mut world = World::new(&[SMALL, other], 1000, 512, true);
    for family in 0..3 {
        let mut asked = world.submit(0, text(family, 0, 300, 130), 1);
        world.serve(10);
        asked.finish();
    }
    assert!(world.pages()[0].cached >= 9);
    let mut asked = world.submit(1, text(0, 0, 300, 250), 10);
    world.serve(20);
    asked.finish();
    assert_eq!(world.preemptions(), 0);
    world.empty();
}

#[test]
fn who_waits_for_memory_is_not_overtaken() {
    // Ten pages. The first answer holds three, the second needs nine, the third two.
    let mut world = World::new(&[SMALL, SMALL], 70 * 10, 512, true);
    let mut first = world.submit(0, text(0, 0, 300, 70), 20);
    world.turn();
    let mut long = world.submit(0, text(1, 0, 300, 270), 5);
    let mut short = world.submit(1, text(2, 0, 300, 40), 5);
    let mut order = Vec::new();
    while world.busy() {
        world.turn();
        for (name, model) in [("long", 0), ("short", 1)] {
            let runs = world.lane.hosts[model].running.keys().any(|t| t.0 > 0);
            if runs && !order.contains(&name) {
                order.push(name);
            }
        }
    }
    assert_eq!(order, ["long", "short"]);
    for asked in [&mut first, &mut long, &mut short] {
        asked.finish();
    }
    assert_eq!(world.preemptions(), 0);
    world.empty();
}

#[test]
fn one_row_decoders_get_one_sequence_and_its_prompt_whole() {
    let alone = Kind { alone: true, ..SMALL };
    let mut world = World::new(&[alone, SMALL], 70 * 30, 16, true);
    let mut asked: Vec<_> = (0..4)
        .map(|own| world.submit(0, text(0, own, 64, 100), 30))
        .collect();
    asked.push(world.submit(1, text(0, 9, 64, 100), 60));
    world.serve(1000);
    for asked in &mut asked {
        assert_eq!(asked.finish().cached_tokens, 0);
    }
    let seen = world.seen.0.lock().unwrap().clone();
    assert_eq!(seen.iter().filter(|rows| rows[..] == [(100, 0)]).count(), 4);
    assert!(seen.iter().all(|rows| rows.len() == 1));
    assert_eq!(world.preemptions(), 0);
    world.empty();
}

#[test]
fn a_preempted_answer_waits_until_it_can_go_on() {
    // Twelve pages; three answers that would need five each.
    let mut world = World::new(&[SMALL], 70 * 12, 512, false);
    let mut asked: Vec<_> = (0..3)
        .map(|own| world.submit(0, text(0, own, 0, 60), 90))
        .collect();
    world.serve(1000);
    for asked in &mut asked {
        asked.finish();
    }
    assert_eq!(
        world.preemptions(),
        1,
        "the youngest gave way once and came back to stay"
    );
    world.empty();
}

#[derive(Clone, Debug)]
enum Act {
    Ask {
        model: u16,
        family: u32,
        branch: usize,
        length: usize,
        answer: u32,
    },
    Cancel(usize),
    Serve(usize),
}

fn act() -> impl Strategy<Value = Act> {
    let ask = (0u16..3, 0u32..3, 0usize..160, 1usize..160, 1u32..96);
    prop_oneof![
        4 => ask.prop_map(|(model, family, branch, length, answer)| Act::Ask {
            model, family, branch, length, answer
        }),
        1 => any::<usize>().prop_map(Act::Cancel),
        3 => (1usize..40).prop_map(Act::Serve),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever comes, goes and gives way: every answer is what it is alone, no byte is lost or made, all of it comes
    /// back, and the work ends.
    #[test]
    fn scarce_memory_changes_no_answer_and_all_are_answered(
        acts in prop::collection::vec(act(), 1..40),
        cache in any::<bool>(),
        room in 0u64..700,
        step_tokens in 8usize..200,
    ) {
        let kinds = [
            SMALL,
            Kind { bytes_per_page: 110, salted: true, ..SMALL },
            Kind { bytes_per_page: 90, alone: true, ..SMALL },
        ];
        // The longest context is eight pages; one of them must fit.
        let mut world = World::new(&kinds, 8 * 110 + room, step_tokens, cache);
        let mut asked = Vec::new();
        let mut work = 0;
        for act in acts {
            match act {
                Act::Ask { model, family, branch, length, answer } => {
                    let own = asked.len() as u32;
                    asked.push(world.submit(model, text(family, own, branch, length), answer));
                    work += length + answer as usize;
                }
                Act::Cancel(which) if !asked.is_empty() => {
                    asked.swap_remove(which % asked.len());
                }
                Act::Cancel(_) => {}
                Act::Serve(turns) => (0..turns).for_each(|_| world.turn()),
            }
        }
        world.serve(4 * work + 100);
        for asked in &mut asked {
            asked.finish();
        }
        world.empty();
    }
}
