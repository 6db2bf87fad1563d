//! A lane whose memory is scarce, whose prompts are alike, and whose clients go away.

#[path = "lane_world.rs"]
mod world;

use proptest::prelude::*;

use super::*;
use crate::engine::chain::Chain;
use crate::engine::pages::PagePool;
use crate::engine::prefix::{PrefixCache, Uses};
use crate::model::PAGE_TOKENS;
use crate::units::{ModelId, TokenId};
use world::{Kind, SMALL, World, text};

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
    let pool = PagePool::new(budget, 1);
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
