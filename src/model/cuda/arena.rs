//! The memory that the models of a device share for keys and values, and where each of their pages lies in it.
//!
//! Pages of different models differ in size. The lane hands out numbers within a budget of bytes; here a number gets a
//! place of its own, and when the free bytes are scattered the pages move together, so that what the budget allows always
//! has room. Kernels find a page by its place, hence moving one changes no captured graph.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::device::{Device, DeviceError, Memory, Region};

/// Whose pages they are: a model of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tenant(usize);

/// How a model's pages lie: `bytes` from a multiple of `stride` on, counted from the arena's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageShape {
    pub stride: u64,
    pub bytes: u64,
}

impl PageShape {
    /// What a page takes of the arena at most, however its neighbours lie: itself and what it takes to begin at a
    /// multiple of the stride.
    pub fn room(self) -> u64 {
        self.bytes + self.stride
    }
}

#[derive(Default)]
struct Shelf {
    shapes: Vec<PageShape>,
    /// Each page's place in strides, by tenant and number; `None` for one without memory.
    places: Vec<Vec<Option<u32>>>,
    /// Who lies where, by first byte.
    lying: BTreeMap<u64, (Tenant, u32)>,
    /// A page is copied through here when it moves.
    passage: Option<Memory>,
}

pub struct Arena {
    device: Arc<dyn Device>,
    memory: Memory,
    shelf: Mutex<Shelf>,
}

impl Arena {
    pub fn new(device: &Arc<dyn Device>, bytes: u64) -> Result<Self, DeviceError> {
        let memory = Memory::new(device, bytes, "keys and values")?;
        // A page's rows are read whole, those past a sequence's end too: zeros weigh nothing, rubbish may be NaN.
        // SAFETY: the memory is this long.
        unsafe { device.fill(memory.whole().at, 0, bytes)? };
        Ok(Self {
            memory,
            device: device.clone(),
            shelf: Mutex::default(),
        })
    }

    pub fn region(&self) -> Region {
        self.memory.whole()
    }

    /// A model whose pages have this shape.
    pub fn enter(&self, shape: PageShape) -> Result<Tenant, DeviceError> {
        let mut shelf = self.shelf();
        if shape.bytes > shelf.passage.as_ref().map_or(0, Memory::bytes) {
            shelf.passage = Some(Memory::new(&self.device, shape.bytes, "moving pages")?);
        }
        shelf.shapes.push(shape);
        shelf.places.push(Vec::new());
        Ok(Tenant(shelf.shapes.len() - 1))
    }

    /// Gives a page a place, moving others together if there is none.
    ///
    /// # Errors
    /// When all pages' [`PageShape::room`] together is more than the arena, which the lane's budget rules out.
    pub fn place(&self, tenant: Tenant, page: u32) -> Result<(), DeviceError> {
        let mut shelf = self.shelf();
        if shelf.places[tenant.0]
            .get(page as usize)
            .copied()
            .flatten()
            .is_some()
        {
            return Ok(());
        }
        let shape = shelf.shapes[tenant.0];
        let at = match shelf.gap(shape, self.memory.bytes()) {
            Some(at) => at,
            None => {
                self.move_together(&mut shelf)?;
                let gap = shelf.gap(shape, self.memory.bytes());
                gap.ok_or_else(|| DeviceError::OutOfMemory {
                    device: self.device.name().to_owned(),
                    what: "a page of keys and values".to_owned(),
                    wanted: shape.bytes,
                    free: self.memory.bytes() - shelf.taken(),
                })?
            }
        };
        shelf.lay(at, tenant, page);
        Ok(())
    }

    /// Takes a page's place back; what it held is lost.
    pub fn release(&self, tenant: Tenant, page: u32) {
        let mut shelf = self.shelf();
        let stride = shelf.shapes[tenant.0].stride;
        let place = shelf.places[tenant.0].get_mut(page as usize);
        if let Some(at) = place.and_then(Option::take) {
            shelf.lying.remove(&(u64::from(at) * stride));
        }
    }

    /// Lends the places of a tenant's pages, in strides, by number; `None` for pages without memory.
    pub fn with_places<T>(&self, tenant: Tenant, use_places: impl FnOnce(&[Option<u32>]) -> T) -> T {
        use_places(&self.shelf().places[tenant.0])
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn move_together(&self, shelf: &mut Shelf) -> Result<(), DeviceError> {
        let whole = self.memory.whole();
        let lying: Vec<_> = shelf.lying.iter().map(|(&at, &owner)| (at, owner)).collect();
        let mut end = 0;
        for (from, (tenant, page)) in lying {
            let PageShape { stride, bytes } = shelf.shapes[tenant.0];
            let to = u64::next_multiple_of(end, stride);
            if to < from
                && let Some(passage) = &shelf.passage
            {
                let between = passage.whole().part(0, bytes).at;
                // SAFETY: all three are parts of live memory, and the passage lies apart from the arena.
                unsafe {
                    self.device.copy(between, whole.part(from, bytes).at, bytes)?;
                    self.device.copy(whole.part(to, bytes).at, between, bytes)?;
                }
                shelf.lying.remove(&from);
                shelf.lay(to, tenant, page);
            }
            end = to + bytes;
        }
        Ok(())
    }
}

impl Shelf {
    fn lay(&mut self, at: u64, tenant: Tenant, page: u32) {
        self.lying.insert(at, (tenant, page));
        let place = (at / self.shapes[tenant.0].stride) as u32;
        let places = &mut self.places[tenant.0];
        if places.len() <= page as usize {
            places.resize(page as usize + 1, None);
        }
        places[page as usize] = Some(place);
    }

    fn taken(&self) -> u64 {
        self.lying
            .values()
            .map(|(tenant, _)| self.shapes[tenant.0].bytes)
            .sum()
    }

    /// Where a page can begin: behind all others, else in the first gap between them.
    fn gap(&self, shape: PageShape, end_of_all: u64) -> Option<u64> {
        let end_of = |(&at, (tenant, _)): (&u64, &(Tenant, u32))| at + self.shapes[tenant.0].bytes;
        let behind = self.lying.last_key_value().map_or(0, end_of);
        let at = behind.next_multiple_of(shape.stride);
        if at + shape.bytes <= end_of_all {
            return Some(at);
        }
        let mut end = 0u64;
        for page in &self.lying {
            let at = end.next_multiple_of(shape.stride);
            if at + shape.bytes <= *page.0 {
                return Some(at);
            }
            end = end_of(page);
        }
        None
    }
}
