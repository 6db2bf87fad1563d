//! One model on a lane: its decoder, its pages, and the sequences that wait for it or run on it.

use std::collections::BTreeMap;

use super::board::PageUse;
use super::pages::{KvBudget, Page, PagePool};
use super::plan::{Need, plan};
use super::prefix::{Ahead, PrefixCache, Uses};
use super::sequence::{Arrival, Sequence};
use crate::model::{Decoder, Tokenizer};
use crate::units::{ModelId, TokenId};

/// Arrival order of a job on its lane: the smaller, the older, and the older wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// What the hosts of a lane share for keys and values.
#[derive(Clone)]
pub struct Memory {
    pub budget: KvBudget,
    /// `None`: no host keeps a prefix cache.
    pub uses: Option<Uses>,
}

pub struct Host {
    pub id: ModelId,
    pub name: String,
    pub decoder: Box<dyn Decoder>,
    pub tokenizer: Tokenizer,
    pub end_tokens: Vec<TokenId>,
    pub waiting: BTreeMap<Ticket, Sequence>,
    pub running: BTreeMap<Ticket, Sequence>,
    pool: PagePool,
    /// `None`: its sequences share no pages.
    prefix: Option<PrefixCache>,
    most_rows: usize,
    whole_prompts: bool,
    preemptions: u64,
}

impl Host {
    /// `most_rows` sequences run together, fewer if the decoder says so.
    pub fn new(
        id: ModelId,
        name: String,
        decoder: Box<dyn Decoder>,
        tokenizer: Tokenizer,
        end_tokens: Vec<TokenId>,
        memory: Memory,
        most_rows: usize,
    ) -> Self {
        let pool = PagePool::new(memory.budget, decoder.bytes_per_page());
        let whole_prompts = decoder.whole_prompts();
        Self {
            id,
            name,
            tokenizer,
            end_tokens,
            waiting: BTreeMap::new(),
            running: BTreeMap::new(),
            pool,
            prefix: memory
                .uses
                .filter(|_| !whole_prompts)
                .map(|uses| PrefixCache::new(id, uses)),
            most_rows: decoder
                .max_rows()
                .map_or(most_rows, |rows| rows.clamp(1, most_rows)),
            whole_prompts,
            preemptions: 0,
            decoder,
        }
    }

    pub fn has_work(&self) -> bool {
        !self.running.is_empty() || !self.waiting.is_empty()
    }

    pub fn enter(&mut self, ticket: Ticket, arrival: Arrival) {
        let salt = self.decoder.cache_salt(arrival.job.prompt.len());
        self.waiting.insert(ticket, Sequence::new(arrival, salt));
    }

    /// The oldest waiting sequence, if there is a row for it.
    pub fn next_in_queue(&self) -> Option<Ticket> {
        let (ticket, _) = self.waiting.first_key_value()?;
        (self.running.len() < self.most_rows).then_some(*ticket)
    }

    /// Bytes that the oldest waiting sequence needs beyond what the cache has of it, and bytes of the pages it would
    /// take from the cache that count as free until then.
    pub fn bytes_to_admit(&mut self) -> (u64, u64) {
        let Some(mut first) = self.waiting.first_entry() else {
            return (0, 0);
        };
        let sequence = first.get_mut();
        let ahead = match &self.prefix {
            Some(cache) => sequence.ahead(cache),
            None => Ahead::default(),
        };
        let missing = sequence.pages_to_go_on().saturating_sub(ahead.blocks);
        let page = self.pool.bytes_per_page();
        (missing as u64 * page, ahead.idle as u64 * page)
    }

    /// Lets the oldest waiting sequence run, with what the cache has of it.
    pub fn admit(&mut self) {
        if let Some((ticket, mut sequence)) = self.waiting.pop_first() {
            sequence.leave_queue();
            if let Some(cache) = &self.prefix {
                sequence.take_cached(cache);
            }
            self.running.insert(ticket, sequence);
        }
    }

    /// Bytes of the pages that running sequences will need for the tokens they have.
    pub fn bytes_promised(&self) -> u64 {
        let missing: usize = self
            .running
            .values()
            .map(|s| s.pages_missing(s.remaining()))
            .sum();
        missing as u64 * self.pool.bytes_per_page()
    }

    /// Bytes that others can have without anybody's giving way, beside those nobody has taken.
    pub fn bytes_to_spare(&self) -> u64 {
        u64::from(self.pool.free() + self.idle_pages()) * self.pool.bytes_per_page()
    }

    pub fn bytes_per_page(&self) -> u64 {
        self.pool.bytes_per_page()
    }

    fn idle_pages(&self) -> u32 {
        self.prefix.as_ref().map_or(0, PrefixCache::idle)
    }

    /// A page with memory, or `None` when the device's budget is spent.
    pub fn take_page(&mut self) -> Option<Page> {
        let (page, fresh) = self.pool.take()?;
        if fresh {
            self.decoder.materialise_page(page.number());
        }
        Some(page)
    }

    /// Returns the memory of pages nobody holds to the budget, about `bytes` of it; true when there were any.
    pub fn trim(&mut self, bytes: u64) -> bool {
        let most = bytes.div_ceil(self.pool.bytes_per_page().max(1));
        let retired = self.pool.trim(most as usize);
        for page in &retired {
            self.decoder.release_page(*page);
        }
        !retired.is_empty()
    }

    /// Takes the page back that the cache alone holds and that was used longest ago; false when there is none.
    pub fn evict(&mut self) -> bool {
        self.prefix.as_ref().is_some_and(PrefixCache::evict)
    }

    /// When the page that [`Host::evict`] would take was last used.
    pub fn oldest_cached(&self) -> Option<u64> {
        self.prefix.as_ref()?.oldest()
    }

    /// The running sequence to give way first: the youngest that holds pages. The flag, which goes before age, says
    /// that it may find again what it gives; one that must be computed from the start gives way last.
    pub fn first_to_give_way(&self) -> Option<(bool, Ticket)> {
        let mut holders = self.running.iter().rev().filter(|(_, s)| s.holds_pages());
        holders.next().map(|(ticket, _)| (!self.whole_prompts, *ticket))
    }

    /// Sends a running sequence back to the queue without its pages.
    pub fn preempt(&mut self, ticket: Ticket) {
        if let Some(mut sequence) = self.running.remove(&ticket) {
            sequence.release_pages();
            self.preemptions += 1;
            self.waiting.insert(ticket, sequence);
        }
    }

    /// What the next step is to compute. A sequence whose next page an older one is about to fill waits for it, and
    /// finds it in the cache then.
    pub fn plan(&mut self, budget: usize) -> Vec<Need<Ticket>> {
        if let Some(cache) = &self.prefix {
            for sequence in self.running.values_mut().filter(|s| s.remaining() > 1) {
                sequence.take_cached(cache);
            }
        }
        let mut prefills: Vec<&Sequence> = Vec::new();
        let mut needs = Vec::with_capacity(self.running.len());
        for (key, sequence) in &self.running {
            let tokens = sequence.remaining();
            if tokens > 1 && self.prefix.is_some() {
                let waits = prefills.iter().any(|older| sequence.awaits(older));
                prefills.push(sequence);
                if waits {
                    continue;
                }
            }
            needs.push(Need { key: *key, tokens });
        }
        plan(&needs, if self.whole_prompts { usize::MAX } else { budget })
    }

    /// Books `tokens` computed tokens of a running sequence; pages that became full go to the cache.
    pub fn advance(&mut self, ticket: Ticket, tokens: usize) {
        if let Some(sequence) = self.running.get_mut(&ticket) {
            sequence.advance(tokens);
            if let Some(cache) = &self.prefix {
                sequence.offer_pages(cache);
            }
        }
    }

    pub fn page_use(&self) -> PageUse {
        let cached = self.idle_pages();
        PageUse {
            used: self.pool.in_use() - cached,
            cached,
            free: self.pool.free(),
            preemptions: self.preemptions,
        }
    }
}
