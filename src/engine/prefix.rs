//! The prefix cache of one model: full pages found again by what they hold.
//!
//! A full page is a block of [`PAGE_TOKENS`] tokens. Its name is a keyed hash over the name of the block before it
//! and its own tokens, so a name stands for the whole text up to the block's end. A block stays while its memory is
//! not wanted; whoever uses it holds a [`Link`], and a sequence holds links to all blocks from the first on, so that
//! no block is ever held without those before it.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;

use siphasher::sip128::SipHasher13;

use super::pages::Page;
use crate::model::PAGE_TOKENS;
use crate::units::{ModelId, TokenId};

/// The name of a block: 128 bits of a hash whose key nobody outside the process knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BlockHash(u128);

/// Counts uses, so that the caches of a lane agree on what was used longest ago.
#[derive(Clone, Default)]
pub struct Uses(Rc<Cell<u64>>);

impl Uses {
    fn next(&self) -> u64 {
        self.0.set(self.0.get() + 1);
        self.0.get()
    }
}

/// An entry of the cache. A name may come back after an eviction, a serial number never does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct EntryId {
    hash: BlockHash,
    serial: u64,
}

struct Entry {
    serial: u64,
    parent: Option<EntryId>,
    salt: u64,
    tokens: [TokenId; PAGE_TOKENS],
    page: Page,
    /// Links alive.
    holders: u32,
    /// Entries whose parent this is.
    children: u32,
    /// When the last link went.
    used: u64,
}

struct Index {
    entries: HashMap<BlockHash, Entry>,
    /// Entries that nobody holds and that are no one's parent, by when they were last used.
    leaves: BTreeMap<u64, BlockHash>,
    /// Entries nobody holds.
    idle: u32,
    next_serial: u64,
    uses: Uses,
}

impl Index {
    /// The entry of that name, if it holds the same tokens after the same entry.
    fn get(&self, parent: Option<EntryId>, block: &Block<'_>) -> Option<&Entry> {
        self.entries.get(&block.hash).filter(|entry| {
            entry.parent == parent && entry.salt == block.salt && entry.tokens[..] == *block.tokens
        })
    }

    fn hold(&mut self, hash: BlockHash) -> Option<(EntryId, Page)> {
        let entry = self.entries.get_mut(&hash)?;
        if entry.holders == 0 {
            self.idle -= 1;
            self.leaves.remove(&entry.used);
        }
        entry.holders += 1;
        let serial = entry.serial;
        Some((EntryId { hash, serial }, entry.page.clone()))
    }

    fn let_go(&mut self, id: EntryId) {
        let entry = self
            .entries
            .get_mut(&id.hash)
            .expect("an entry with holders is never evicted");
        debug_assert_eq!(entry.serial, id.serial);
        entry.holders -= 1;
        if entry.holders == 0 {
            self.idle += 1;
            entry.used = self.uses.next();
            if entry.children == 0 {
                self.leaves.insert(entry.used, id.hash);
            }
        }
    }

    fn insert(&mut self, parent: Option<EntryId>, block: &Block<'_>, page: &Page) -> Option<EntryId> {
        let tokens = block.tokens.try_into().ok()?;
        if let Some(parent) = parent {
            self.entries.get_mut(&parent.hash)?.children += 1;
        }
        let serial = self.next_serial;
        self.next_serial += 1;
        let entry = Entry {
            serial,
            parent,
            salt: block.salt,
            tokens,
            page: page.clone(),
            holders: 1,
            children: 0,
            used: 0,
        };
        self.entries.insert(block.hash, entry);
        Some(EntryId {
            hash: block.hash,
            serial,
        })
    }

    fn evict(&mut self) -> Option<Entry> {
        let (_, hash) = self.leaves.pop_first()?;
        let entry = self.entries.remove(&hash)?;
        self.idle -= 1;
        if let Some(parent) = entry.parent
            && let Some(before) = self.entries.get_mut(&parent.hash)
        {
            before.children -= 1;
            if before.children == 0 && before.holders == 0 {
                self.leaves.insert(before.used, parent.hash);
            }
        }
        Some(entry)
    }
}

/// A block as somebody asks for it.
pub struct Block<'a> {
    pub hash: BlockHash,
    pub salt: u64,
    /// [`PAGE_TOKENS`] of them.
    pub tokens: &'a [TokenId],
}

/// A hold on a cached block; dropping it lets the block be evicted once nobody else holds it.
pub struct Link {
    id: EntryId,
    index: Rc<RefCell<Index>>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.index.borrow_mut().let_go(self.id);
    }
}

/// What became of a block that was offered.
pub enum Offered {
    /// Its page is the cache's now too.
    Kept(Link),
    /// The cache had the block already, in another page.
    Known(Link, Page),
    /// Another block has the same name.
    Clash,
}

/// Blocks at the beginning of a sequence that need not be computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ahead {
    pub blocks: usize,
    /// Those of them that nobody holds now.
    pub idle: usize,
}

pub struct PrefixCache {
    model: ModelId,
    keys: (u64, u64),
    index: Rc<RefCell<Index>>,
}

impl PrefixCache {
    /// The key is random, so that nobody can make prompts whose names clash.
    pub fn new(model: ModelId, uses: Uses) -> Self {
        let random = RandomState::new();
        let index = Index {
            entries: HashMap::new(),
            leaves: BTreeMap::new(),
            idle: 0,
            next_serial: 0,
            uses,
        };
        Self {
            model,
            keys: (random.hash_one(0u8), random.hash_one(1u8)),
            index: Rc::new(RefCell::new(index)),
        }
    }

    /// The name of the block with `tokens` that follows the block `parent`.
    pub fn name(&self, parent: Option<BlockHash>, salt: u64, tokens: &[TokenId]) -> BlockHash {
        const HEAD: usize = 16 + 8 + 8;
        let mut bytes = [0u8; HEAD + 4 * PAGE_TOKENS];
        bytes[..16].copy_from_slice(&parent.map_or(0, |p| p.0).to_le_bytes());
        bytes[16..24].copy_from_slice(&u64::from(self.model.0).to_le_bytes());
        bytes[24..HEAD].copy_from_slice(&salt.to_le_bytes());
        for (place, token) in bytes[HEAD..].chunks_exact_mut(4).zip(tokens) {
            place.copy_from_slice(&token.0.to_le_bytes());
        }
        let hasher = SipHasher13::new_with_keys(self.keys.0, self.keys.1);
        BlockHash(hasher.hash(&bytes).as_u128())
    }

    /// How many of `blocks`, which begin a sequence, the cache has.
    pub fn ahead<'a>(&self, blocks: impl Iterator<Item = Block<'a>>) -> Ahead {
        let index = self.index.borrow();
        let mut found = Ahead::default();
        let mut parent = None;
        for block in blocks {
            let Some(entry) = index.get(parent, &block) else {
                break;
            };
            found.blocks += 1;
            found.idle += usize::from(entry.holders == 0);
            parent = Some(EntryId {
                hash: block.hash,
                serial: entry.serial,
            });
        }
        found
    }

    /// The page of a block that follows what `parent` holds.
    pub fn find(&self, parent: Option<&Link>, block: &Block<'_>) -> Option<(Link, Page)> {
        let mut index = self.index.borrow_mut();
        index.get(parent.map(|link| link.id), block)?;
        let (id, page) = index.hold(block.hash)?;
        Some((self.link(id), page))
    }

    /// Offers a page that has just become full and will not be written again.
    pub fn offer(&self, parent: Option<&Link>, block: &Block<'_>, page: &Page) -> Offered {
        if let Some((link, page)) = self.find(parent, block) {
            return Offered::Known(link, page);
        }
        let mut index = self.index.borrow_mut();
        if index.entries.contains_key(&block.hash) {
            return Offered::Clash;
        }
        match index.insert(parent.map(|link| link.id), block, page) {
            Some(id) => Offered::Kept(self.link(id)),
            None => Offered::Clash,
        }
    }

    /// Forgets the block that nobody has used for longest, ends of chains first; false when all are held.
    pub fn evict(&self) -> bool {
        // The entry's page goes back to its shelf when it drops here, after the index is free again.
        let evicted = self.index.borrow_mut().evict();
        evicted.is_some()
    }

    /// Blocks that nobody holds: their pages can be had at once.
    pub fn idle(&self) -> u32 {
        self.index.borrow().idle
    }

    /// When the block that [`PrefixCache::evict`] would forget was last used.
    pub fn oldest(&self) -> Option<u64> {
        self.index.borrow().leaves.keys().next().copied()
    }

    fn link(&self, id: EntryId) -> Link {
        Link {
            id,
            index: self.index.clone(),
        }
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.index.borrow().entries.len()
    }

    /// Gives one block another's tokens, as if their names had clashed.
    #[cfg(test)]
    pub fn forge(&self, hash: BlockHash, token: TokenId) {
        let mut index = self.index.borrow_mut();
        let entry = index.entries.get_mut(&hash).expect("the block is cached");
        entry.tokens = [token; PAGE_TOKENS];
    }
}
