//! Pages of different sizes share an arena: none overlaps another, what one holds stays when it moves.

use std::collections::HashMap;
use std::sync::Arc;

use proptest::prelude::*;

use crate::model::cuda::arena::{Arena, PageShape};
use crate::model::cuda::device::{Address, Device};
use crate::model::cuda::emulated::Emulated;

const SHAPES: [PageShape; 3] = [
    PageShape {
        stride: 256,
        bytes: 4 * 256,
    },
    PageShape {
        stride: 96,
        bytes: 10 * 96,
    },
    PageShape {
        stride: 1024,
        bytes: 2 * 1024,
    },
];

#[derive(Clone, Debug)]
enum Act {
    Place(usize),
    Release(usize),
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn what_the_budget_allows_has_room_and_keeps_what_it_holds(
        acts in prop::collection::vec(
            prop_oneof![(0usize..3).prop_map(Act::Place), any::<usize>().prop_map(Act::Release)],
            1..150,
        ),
        bytes in 4000u64..20_000,
    ) {
        let device: Arc<dyn Device> = Arc::new(Emulated::default());
        let arena = Arena::new(&device, bytes).unwrap();
        let tenants = SHAPES.map(|shape| arena.enter(shape).unwrap());
        let mut held: Vec<(usize, u32)> = Vec::new();
        let mut left = bytes;
        let mut next = 0;
        let mut marks: HashMap<(usize, u32), u8> = HashMap::new();
        let at = |tenant: usize, page: u32| {
            let place = arena.with_places(tenants[tenant], |places| places[page as usize]).unwrap();
            Address(arena.region().at.0 + u64::from(place) * SHAPES[tenant].stride)
        };
        for act in acts {
            match act {
                Act::Place(tenant) => {
                    let room = SHAPES[tenant].room();
                    if room > left {
                        continue;
                    }
                    left -= room;
                    arena.place(tenants[tenant], next).unwrap();
                    held.push((tenant, next));
                    marks.insert((tenant, next), next as u8);
                    // SAFETY: the page has that many bytes.
                    unsafe { device.fill(at(tenant, next), next as u8, SHAPES[tenant].bytes) }.unwrap();
                    next += 1;
                }
                Act::Release(which) if !held.is_empty() => {
                    let (tenant, page) = held.swap_remove(which % held.len());
                    arena.release(tenants[tenant], page);
                    left += SHAPES[tenant].room();
                }
                Act::Release(_) => {}
            }
            for &(tenant, page) in &held {
                let mut found = vec![0; SHAPES[tenant].bytes as usize];
                // SAFETY: the page has that many bytes.
                unsafe { device.download(&mut found, at(tenant, page)) }.unwrap();
                prop_assert!(found.iter().all(|byte| *byte == marks[&(tenant, page)]));
            }
        }
    }
}
