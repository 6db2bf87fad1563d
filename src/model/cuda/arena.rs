//! The memory that the models of a device share for keys and values, and where each of their pages lies in it.
//!
//! Pages of different models differ in size. The lane hands out numbers within a budget of bytes; here a number gets a
//! place of its own, and when the free bytes are scattered the pages move together, so that what the budget allows always
//! has room. Kernels find a page by its place in units, hence moving one changes no captured graph.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::device::{Device, DeviceError, Memory, Region};

/// Bytes that places are counted in. Slots of all tokens of 512 GiB fit 32 bits, and little of a page is lost.
pub const UNIT: u64 = 4096;

/// Who owns a page: a model of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tenant(usize);

struct Shelf {
    /// Units of a page, by tenant.
    sizes: Vec<u32>,
    /// The first unit of each page that has memory, by tenant and number.
    places: Vec<Vec<Option<u32>>>,
    /// Who lies where, by first unit.
    lying: BTreeMap<u32, (Tenant, u32)>,
    /// A page is copied through here when it moves.
    passage: Option<Memory>,
}

pub struct Arena {
    device: Arc<dyn Device>,
    memory: Memory,
    shelf: Mutex<Shelf>,
}

impl Arena {
    /// Takes `bytes`, less what is no whole unit.
    pub fn new(device: &Arc<dyn Device>, bytes: u64) -> Result<Self, DeviceError> {
        Ok(Self {
            memory: Memory::new(device, bytes / UNIT * UNIT, "keys and values")?,
            device: device.clone(),
            shelf: Mutex::new(Shelf {
                sizes: Vec::new(),
                places: Vec::new(),
                lying: BTreeMap::new(),
                passage: None,
            }),
        })
    }

    pub fn region(&self) -> Region {
        self.memory.whole()
    }

    /// Bytes of a page of `bytes`, in whole units.
    pub fn page_bytes(bytes: u64) -> u64 {
        bytes.next_multiple_of(UNIT)
    }

    /// A model whose pages have `page_bytes`, in whole units.
    pub fn enter(&self, page_bytes: u64) -> Result<Tenant, DeviceError> {
        let mut shelf = self.shelf();
        let widest = shelf.passage.as_ref().map_or(0, Memory::bytes);
        if page_bytes > widest {
            shelf.passage = Some(Memory::new(&self.device, page_bytes, "moving pages")?);
        }
        shelf.sizes.push((page_bytes / UNIT) as u32);
        shelf.places.push(Vec::new());
        Ok(Tenant(shelf.sizes.len() - 1))
    }

    /// Gives a page a place, moving others together if there is none.
    ///
    /// # Errors
    /// When all pages together take more than the arena has, which the lane's budget rules out.
    pub fn place(&self, tenant: Tenant, page: u32) -> Result<(), DeviceError> {
        let mut shelf = self.shelf();
        if shelf.place_of(tenant, page).is_some() {
            return Ok(());
        }
        let units = (self.memory.bytes() / UNIT) as u32;
        let size = shelf.sizes[tenant.0];
        let at = match shelf.gap(size, units) {
            Some(at) => at,
            None => {
                self.move_together(&mut shelf)?;
                shelf.gap(size, units).ok_or_else(|| DeviceError::OutOfMemory {
                    device: self.device.name().to_owned(),
                    what: "a page of keys and values".to_owned(),
                    wanted: u64::from(size) * UNIT,
                    free: u64::from(units - shelf.taken()) * UNIT,
                })?
            }
        };
        shelf.lying.insert(at, (tenant, page));
        let places = &mut shelf.places[tenant.0];
        if places.len() <= page as usize {
            places.resize(page as usize + 1, None);
        }
        places[page as usize] = Some(at);
        Ok(())
    }

    /// Takes a page's place back; what it held is lost.
    pub fn release(&self, tenant: Tenant, page: u32) {
        let mut shelf = self.shelf();
        let place = shelf.places[tenant.0].get_mut(page as usize);
        if let Some(at) = place.and_then(Option::take) {
            shelf.lying.remove(&at);
        }
    }

    /// Runs `use_place` with a map from a tenant's page numbers to first units; `None` for pages without memory.
    pub fn with_places<T>(&self, tenant: Tenant, use_places: impl FnOnce(&[Option<u32>]) -> T) -> T {
        use_places(&self.shelf().places[tenant.0])
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn move_together(&self, shelf: &mut Shelf) -> Result<(), DeviceError> {
        let whole = self.memory.whole();
        let lying: Vec<_> = shelf.lying.iter().map(|(&at, &owner)| (at, owner)).collect();
        let mut next = 0u32;
        for (from, (tenant, page)) in lying {
            let size = shelf.sizes[tenant.0];
            if next < from
                && let Some(passage) = &shelf.passage
            {
                let bytes = u64::from(size) * UNIT;
                let place = |unit: u32| whole.part(u64::from(unit) * UNIT, bytes);
                let between = passage.whole().part(0, bytes).at;
                // SAFETY: all three are parts of live memory, and the passage lies apart from the arena.
                unsafe {
                    self.device.copy(between, place(from).at, bytes)?;
                    self.device.copy(place(next).at, between, bytes)?;
                }
                shelf.lying.remove(&from);
                shelf.lying.insert(next, (tenant, page));
                shelf.places[tenant.0][page as usize] = Some(next);
            }
            next += size;
        }
        Ok(())
    }
}

impl Shelf {
    fn place_of(&self, tenant: Tenant, page: u32) -> Option<u32> {
        *self.places[tenant.0].get(page as usize)?
    }

    fn taken(&self) -> u32 {
        self.lying.values().map(|(tenant, _)| self.sizes[tenant.0]).sum()
    }

    /// The first unit of a gap of `size` units: behind all pages, else the first between them.
    fn gap(&self, size: u32, units: u32) -> Option<u32> {
        let end_of = |(&at, (tenant, _)): (&u32, &(Tenant, u32))| at + self.sizes[tenant.0];
        let end = self.lying.last_key_value().map_or(0, end_of);
        if units - end >= size {
            return Some(end);
        }
        let mut end = 0;
        for page in &self.lying {
            if page.0 - end >= size {
                return Some(end);
            }
            end = end_of(page);
        }
        None
    }
}
