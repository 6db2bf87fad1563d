//! Where the keys and values of one sequence lie: its pages in order, and which of them the prefix cache knows.

use super::pages::Page;
use super::prefix::{Ahead, Block, BlockHash, Link, Offered, PrefixCache};
use crate::model::PAGE_TOKENS;
use crate::units::TokenId;

#[derive(Default)]
pub struct Chain {
    salt: u64,
    /// Names of the full blocks of the sequence's tokens, computed or not.
    names: Vec<BlockHash>,
    pages: Vec<Page>,
    numbers: Vec<u32>,
    /// Holds on the leading blocks that the cache knows. Declared after the pages, so dropped after them: a block
    /// that falls idle here is held by the cache alone.
    links: Vec<Link>,
    /// Leading tokens whose keys and values lie in the pages.
    computed: usize,
    /// The most tokens that ever were.
    reached: usize,
    cached: usize,
}

impl Chain {
    /// Blocks of sequences with different salts are never shared.
    pub fn new(salt: u64) -> Self {
        Self {
            salt,
            ..Self::default()
        }
    }

    pub fn computed(&self) -> usize {
        self.computed
    }

    /// Tokens that came from the cache and were never computed for this sequence.
    pub fn cached(&self) -> usize {
        self.cached
    }

    pub fn page_numbers(&self) -> &[u32] {
        &self.numbers
    }

    /// Pages missing to hold the first `tokens` tokens.
    pub fn pages_missing(&self, tokens: usize) -> usize {
        tokens.div_ceil(PAGE_TOKENS).saturating_sub(self.pages.len())
    }

    pub fn add_page(&mut self, page: Page) {
        self.numbers.push(page.number());
        self.pages.push(page);
    }

    /// Gives all pages back and shares with sequences of another salt from now on.
    pub fn restart(&mut self, salt: u64) {
        self.clear();
        self.names.clear();
        self.salt = salt;
    }

    /// Gives all pages back; what they held is to be computed again, or found in the cache.
    pub fn clear(&mut self) {
        self.pages.clear();
        self.numbers.clear();
        self.links.clear();
        self.computed = 0;
    }

    /// Books `count` computed tokens.
    pub fn advance(&mut self, count: usize) {
        self.computed += count;
        self.reached = self.reached.max(self.computed);
    }

    /// What the cache has of a sequence of `tokens` that holds no page yet.
    pub fn ahead(&mut self, cache: &PrefixCache, tokens: &[TokenId]) -> Ahead {
        self.name_blocks(cache, tokens);
        cache.ahead((0..shareable(tokens)).map(|place| self.block(place, tokens)))
    }

    /// Takes the blocks that follow the last full one from the cache, as many as it has in a row, but always leaves
    /// one token to compute: the next one is sampled from its logits.
    pub fn take_cached(&mut self, cache: &PrefixCache, tokens: &[TokenId]) {
        let full = self.links.len();
        if full * PAGE_TOKENS != self.computed || self.pages.len() != full {
            return;
        }
        self.name_blocks(cache, tokens);
        for place in full..shareable(tokens) {
            let found = cache.find(self.links.last(), &self.block(place, tokens));
            let Some((link, page)) = found else {
                break;
            };
            self.add_page(page);
            self.links.push(link);
            self.computed += PAGE_TOKENS;
        }
        self.cached += self.computed.saturating_sub(self.reached);
        self.reached = self.reached.max(self.computed);
    }

    /// Offers the blocks that have become full to the cache. Where it has the same block in another page, that page
    /// is used from now on and this sequence's goes back.
    pub fn offer(&mut self, cache: &PrefixCache, tokens: &[TokenId]) {
        if self.links.len() == self.computed / PAGE_TOKENS {
            return;
        }
        self.name_blocks(cache, tokens);
        for place in self.links.len()..self.computed / PAGE_TOKENS {
            let offered = cache.offer(self.links.last(), &self.block(place, tokens), &self.pages[place]);
            match offered {
                Offered::Kept(link) => self.links.push(link),
                Offered::Known(link, page) => {
                    self.numbers[place] = page.number();
                    self.pages[place] = page;
                    self.links.push(link);
                }
                Offered::Clash => break,
            }
        }
    }

    /// Whether `older` is about to compute the block that this sequence of `tokens` needs next.
    pub fn awaits(&self, tokens: &[TokenId], older: &Chain) -> bool {
        let place = self.computed / PAGE_TOKENS;
        self.computed.is_multiple_of(PAGE_TOKENS)
            && place < shareable(tokens)
            && older.computed / PAGE_TOKENS <= place
            && self
                .names
                .get(place)
                .is_some_and(|name| older.names.get(place) == Some(name))
    }

    fn name_blocks(&mut self, cache: &PrefixCache, tokens: &[TokenId]) {
        for block in tokens.chunks_exact(PAGE_TOKENS).skip(self.names.len()) {
            let name = cache.name(self.names.last().copied(), self.salt, block);
            self.names.push(name);
        }
    }

    fn block<'a>(&self, place: usize, tokens: &'a [TokenId]) -> Block<'a> {
        Block {
            hash: self.names[place],
            salt: self.salt,
            tokens: &tokens[place * PAGE_TOKENS..][..PAGE_TOKENS],
        }
    }
}

/// Leading blocks of `tokens` that may come from the cache.
fn shareable(tokens: &[TokenId]) -> usize {
    tokens.len().saturating_sub(1) / PAGE_TOKENS
}
