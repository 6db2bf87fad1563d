//! References that know what no router can: average rates, or every answer. What they choose depends on no feedback.

use super::course::Course;
use super::mixture::{self, Mix, Offer};
use super::score::{Outcome, Score};
use crate::router::draw::Draw;

/// Tells the lots' draws from those of other uses of a seed.
const LOTS: u64 = 0x10f5_0000_0000;

/// Per group of requests its weight, and per model its mean joules and satisfaction in it.
fn offers(course: &Course, groups: usize, group: impl Fn(usize) -> usize) -> Vec<(f64, Vec<Offer>)> {
    let mut offers = vec![(0.0f64, vec![(0.0, 0.0); course.models()]); groups];
    for at in 0..course.len() {
        let (weight, sums) = &mut offers[group(at)];
        *weight += 1.0;
        for (model, sum) in sums.iter_mut().enumerate() {
            let answer = course.answer(at, model);
            sum.0 += answer.joules;
            sum.1 += answer.satisfied;
        }
    }
    for (weight, sums) in &mut offers {
        let count = weight.max(1.0);
        sums.iter_mut()
            .for_each(|sum| *sum = (sum.0 / count, sum.1 / count));
    }
    offers
}

/// Mean joules and satisfaction of every model.
pub fn averages(course: &Course) -> Vec<Offer> {
    offers(course, 1, |_| 0).remove(0).1
}

pub fn educated(course: &Course, alpha: f64, score: &mut Score) {
    let rates: Vec<f64> = averages(course).iter().map(|(_, rate)| *rate).collect();
    let shares = mixture::educated(&rates, alpha);
    for at in 0..course.len() {
        let mut left = Draw::new(course.seed, LOTS + at as u64).uniform();
        let drawn = shares.iter().position(|share| {
            left -= share;
            left < 0.0
        });
        score.add(&Outcome::plain(drawn.unwrap_or(shares.len() - 1), alpha));
    }
}

/// One lot for all requests, or one a category.
pub fn static_mix(course: &Course, alpha: f64, by_category: bool, score: &mut Score) {
    let group = |at: usize| {
        if by_category {
            usize::from(course.request(at).category)
        } else {
            0
        }
    };
    let groups = if by_category {
        course.trace.categories.len()
    } else {
        1
    };
    let mixes = mixture::mixtures(&offers(course, groups, group), alpha);
    for at in 0..course.len() {
        let Mix { low, high, share } = mixes[group(at)];
        let lot = Draw::new(course.seed, LOTS + at as u64).uniform();
        score.add(&Outcome::plain(if lot < share { high } else { low }, alpha));
    }
}

pub fn oracle(course: &Course, alpha: f64, score: &mut Score) {
    let offer = |at: usize, model: usize| {
        let answer = course.answer(at, model);
        (answer.joules, answer.satisfied)
    };
    let offers: Vec<Vec<Offer>> = (0..course.len())
        .map(|at| (0..course.models()).map(|m| offer(at, m)).collect())
        .collect();
    for choice in mixture::knowing(&offers, alpha * course.len() as f64) {
        score.add(&Outcome::plain(choice, alpha));
    }
}
