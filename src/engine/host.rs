//! One model on a lane: its decoder, its pages, and the sequences that wait for it or run on it.

use std::collections::BTreeMap;

use super::pages::{KvBudget, Page, PagePool};
use super::plan::{Need, plan};
use super::sequence::Sequence;
use crate::model::{Decoder, Tokenizer};
use crate::units::{ModelId, TokenId};

/// Arrival order of a job on its lane: the smaller, the older, and the older wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

pub struct Host {
    pub id: ModelId,
    pub name: String,
    pub decoder: Box<dyn Decoder>,
    pub tokenizer: Tokenizer,
    pub end_tokens: Vec<TokenId>,
    pub pool: PagePool,
    pub waiting: BTreeMap<Ticket, Sequence>,
    pub running: BTreeMap<Ticket, Sequence>,
}

impl Host {
    pub fn new(
        id: ModelId,
        name: String,
        decoder: Box<dyn Decoder>,
        tokenizer: Tokenizer,
        end_tokens: Vec<TokenId>,
        budget: KvBudget,
    ) -> Self {
        let pool = PagePool::new(budget, decoder.bytes_per_page());
        Self {
            id,
            name,
            decoder,
            tokenizer,
            end_tokens,
            pool,
            waiting: BTreeMap::new(),
            running: BTreeMap::new(),
        }
    }

    pub fn has_work(&self) -> bool {
        !self.running.is_empty() || !self.waiting.is_empty()
    }

    /// A page with memory, or `None` when the device's budget is spent.
    pub fn take_page(&mut self) -> Option<Page> {
        let (page, fresh) = self.pool.take()?;
        if fresh {
            self.decoder.materialise_page(page.number());
        }
        Some(page)
    }

    /// Returns the memory of pages nobody holds to the budget; true when there were any.
    pub fn trim(&mut self) -> bool {
        let retired = self.pool.trim();
        for page in &retired {
            self.decoder.release_page(*page);
        }
        !retired.is_empty()
    }

    /// The youngest sequence that holds pages.
    pub fn youngest_holder(&self) -> Option<Ticket> {
        self.running
            .iter()
            .rev()
            .find(|(_, s)| s.holds_pages())
            .map(|(ticket, _)| *ticket)
    }

    /// Sends a running sequence back to the queue without its pages.
    pub fn preempt(&mut self, ticket: Ticket) {
        if let Some(mut sequence) = self.running.remove(&ticket) {
            sequence.release_pages();
            self.waiting.insert(ticket, sequence);
        }
    }

    /// What the next step is to compute.
    pub fn plan(&self, budget: usize) -> Vec<Need<Ticket>> {
        let needs: Vec<_> = self
            .running
            .iter()
            .map(|(key, s)| Need {
                key: *key,
                tokens: s.remaining(),
            })
            .collect();
        plan(&needs, budget)
    }
}
