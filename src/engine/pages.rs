//! KV pages of one model: who holds which, and how much memory they may take together.

use std::cell::RefCell;
use std::rc::Rc;

/// Bytes that all models of a device share for keys and values.
#[derive(Clone)]
pub struct KvBudget(Rc<RefCell<u64>>);

impl KvBudget {
    pub fn new(bytes: u64) -> Self {
        Self(Rc::new(RefCell::new(bytes)))
    }

    fn take(&self, bytes: u64) -> bool {
        let mut left = self.0.borrow_mut();
        match left.checked_sub(bytes) {
            Some(rest) => {
                *left = rest;
                true
            }
            None => false,
        }
    }

    fn give_back(&self, bytes: u64) {
        *self.0.borrow_mut() += bytes;
    }

    /// Bytes nobody has taken.
    pub fn left(&self) -> u64 {
        *self.0.borrow()
    }
}

struct Shelf {
    /// Pages that have memory and no holder.
    free: Vec<u32>,
    /// Numbers whose memory went back to the budget.
    retired: Vec<u32>,
    next: u32,
}

/// The page numbers of one model. A page has memory from its first hand-out until [`PagePool::trim`] retires it.
pub struct PagePool {
    shelf: Rc<RefCell<Shelf>>,
    budget: KvBudget,
    bytes_per_page: u64,
}

/// A page in use; dropping the last clone puts it back on the shelf.
#[derive(Clone)]
pub struct Page(Rc<Lease>);

struct Lease {
    number: u32,
    shelf: Rc<RefCell<Shelf>>,
}

impl Page {
    pub fn number(&self) -> u32 {
        self.0.number
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.shelf.borrow_mut().free.push(self.number);
    }
}

impl PagePool {
    pub fn new(budget: KvBudget, bytes_per_page: u64) -> Self {
        let shelf = Shelf {
            free: Vec::new(),
            retired: Vec::new(),
            next: 0,
        };
        Self {
            shelf: Rc::new(RefCell::new(shelf)),
            budget,
            bytes_per_page,
        }
    }

    /// A page, or `None` when the budget is spent. The flag says whether it must be given memory first.
    pub fn take(&self) -> Option<(Page, bool)> {
        let mut shelf = self.shelf.borrow_mut();
        let (number, fresh) = match shelf.free.pop() {
            Some(number) => (number, false),
            None => {
                if !self.budget.take(self.bytes_per_page) {
                    return None;
                }
                let number = shelf.retired.pop().unwrap_or_else(|| {
                    shelf.next += 1;
                    shelf.next - 1
                });
                (number, true)
            }
        };
        Some((
            Page(Rc::new(Lease {
                number,
                shelf: self.shelf.clone(),
            })),
            fresh,
        ))
    }

    /// Retires up to `most` pages nobody holds, returning their bytes to the budget; the caller takes their memory
    /// away.
    pub fn trim(&self, most: usize) -> Vec<u32> {
        let mut shelf = self.shelf.borrow_mut();
        let kept = shelf.free.len().saturating_sub(most);
        let retired = shelf.free.split_off(kept);
        self.budget.give_back(retired.len() as u64 * self.bytes_per_page);
        shelf.retired.extend(&retired);
        retired
    }

    pub fn bytes_per_page(&self) -> u64 {
        self.bytes_per_page
    }

    pub fn in_use(&self) -> u32 {
        let shelf = self.shelf.borrow();
        shelf.next - shelf.free.len() as u32 - shelf.retired.len() as u32
    }

    pub fn free(&self) -> u32 {
        self.shelf.borrow().free.len() as u32
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Act {
        Take(usize),
        Share(usize, usize),
        Drop(usize, usize),
        Trim(usize, usize),
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            4 => (0usize..2).prop_map(Act::Take),
            1 => (0usize..2, any::<usize>()).prop_map(|(m, i)| Act::Share(m, i)),
            3 => (0usize..2, any::<usize>()).prop_map(|(m, i)| Act::Drop(m, i)),
            1 => (0usize..2, 1usize..9).prop_map(|(m, most)| Act::Trim(m, most)),
        ]
    }

    proptest! {
        /// Two models share a budget: no page has two holders, none leaks, the budget is never passed.
        #[test]
        fn no_leak_no_double_use(acts in prop::collection::vec(act(), 1..200)) {
            const BUDGET: u64 = 1000;
            let sizes = [70, 110];
            let budget = KvBudget::new(BUDGET);
            let pools = sizes.map(|bytes| PagePool::new(budget.clone(), bytes));
            let mut held: [Vec<Page>; 2] = [Vec::new(), Vec::new()];
            let mut memory: [HashSet<u32>; 2] = [HashSet::new(), HashSet::new()];
            for act in acts {
                match act {
                    Act::Take(m) => {
                        if let Some((page, fresh)) = pools[m].take() {
                            prop_assert!(held[m].iter().all(|p| p.number() != page.number()));
                            prop_assert_eq!(fresh, memory[m].insert(page.number()));
                            held[m].push(page);
                        } else {
                            prop_assert!(budget.left() < sizes[m]);
                            prop_assert_eq!(pools[m].free(), 0);
                        }
                    }
                    Act::Share(m, i) if !held[m].is_empty() => {
                        let page = held[m][i % held[m].len()].clone();
                        let copies = held[m].iter().filter(|p| p.number() == page.number()).count();
                        drop(page);
                        prop_assert_eq!(copies, 1);
                    }
                    Act::Drop(m, i) if !held[m].is_empty() => {
                        let at = i % held[m].len();
                        held[m].swap_remove(at);
                    }
                    Act::Trim(m, most) => {
                        for page in pools[m].trim(most) {
                            prop_assert!(memory[m].remove(&page));
                        }
                    }
                    Act::Share(..) | Act::Drop(..) => {}
                }
                let bytes: u64 = (0..2).map(|m| memory[m].len() as u64 * sizes[m]).sum();
                prop_assert_eq!(bytes + budget.left(), BUDGET);
                for m in 0..2 {
                    prop_assert_eq!(pools[m].in_use() as usize, held[m].len());
                }
            }
            held.iter_mut().for_each(Vec::clear);
            for (m, pool) in pools.iter().enumerate() {
                prop_assert_eq!(pool.in_use(), 0);
                prop_assert_eq!(pool.trim(usize::MAX).len(), memory[m].len());
            }
            prop_assert_eq!(budget.left(), BUDGET);
        }
    }
}
