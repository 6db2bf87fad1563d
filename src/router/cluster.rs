//! Kinds of requests, inferred: which template words a text shares with earlier ones.
//!
//! Online leader clustering over folded word features. A kind keeps, per feature, the share of its texts that
//! have it; a text's likeness to a kind is the mean of those shares over the text's telling features, each
//! weighted by its rarity (inverse document frequency). Features seen in fewer than `SEEN` texts say
//! nothing about kinds and are left out. A text unlike every kind founds a new one, up to `KINDS`.

use serde::{Deserialize, Serialize};

use super::features::DIMENSIONS;

/// Most kinds told apart.
pub const KINDS: usize = 32;
const FOLD: usize = DIMENSIONS / KINDS;
const SEEN: f32 = 3.0;
/// Likeness below which a text founds a new kind.
const ALIKE: f32 = 0.35;
/// A kind moves at least this much towards each new member.
const SLOWEST: f32 = 0.01;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kinds {
    members: Vec<u32>,
    /// [`FOLD`] entries a kind: the share of its texts that have the feature.
    #[serde(with = "super::sparse")]
    shares: Vec<(f32, f32)>,
    texts: f32,
    having: Vec<f32>,
}

impl Default for Kinds {
    fn default() -> Self {
        Self {
            members: vec![],
            shares: vec![(0.0, 0.0); DIMENSIONS],
            texts: 0.0,
            having: vec![0.0; FOLD],
        }
    }
}

impl Kinds {
    /// The kind of a text; the number of kinds so far means "a new one". None while nothing tells.
    pub fn kind(&self, features: &[u16]) -> Option<u16> {
        let telling: Vec<(usize, f32)> = features.iter().filter_map(|f| self.telling(*f)).collect();
        let total: f32 = telling.iter().map(|(_, weight)| weight).sum();
        if total <= 0.0 {
            return None;
        }
        let mut best = (0, -1.0);
        for kind in 0..self.members.len() {
            let row = &self.shares[kind * FOLD..(kind + 1) * FOLD];
            let likeness = telling
                .iter()
                .map(|(feature, weight)| weight * row[*feature].0)
                .sum::<f32>()
                / total;
            if likeness > best.1 {
                best = (kind, likeness);
            }
        }
        if best.1 < ALIKE && self.members.len() < KINDS {
            return Some(self.members.len() as u16);
        }
        Some(best.0 as u16)
    }

    pub fn fits(&self) -> bool {
        self.members.len() <= KINDS && self.having.len() == FOLD
    }

    fn telling(&self, feature: u16) -> Option<(usize, f32)> {
        let folded = usize::from(feature) % FOLD;
        let having = self.having[folded];
        let weight = ((self.texts + 1.0) / (having + 0.5)).ln();
        (having >= SEEN && weight > 0.0).then_some((folded, weight))
    }

    /// Counts a text as a member of the kind it was taken for.
    pub fn saw(&mut self, features: &[u16], kind: Option<u16>) {
        let mut has = [false; FOLD];
        for feature in features {
            has[usize::from(*feature) % FOLD] = true;
        }
        self.texts += 1.0;
        for (count, has) in self.having.iter_mut().zip(has) {
            *count += f32::from(u8::from(has));
        }
        let Some(kind) = kind
            .map(usize::from)
            .filter(|k| *k < KINDS && *k <= self.members.len())
        else {
            return;
        };
        if kind == self.members.len() {
            self.members.push(0);
        }
        self.members[kind] += 1;
        let step = (1.0 / self.members[kind] as f32).max(SLOWEST);
        for ((share, _), has) in self.shares[kind * FOLD..(kind + 1) * FOLD].iter_mut().zip(has) {
            *share += step * (f32::from(u8::from(has)) - *share);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::features::hashed;

    #[test]
    fn templates_become_kinds() {
        let mut kinds = Kinds::default();
        let texts = |n: u32| {
            [
                format!("Reverse the word thing{n} please"),
                format!("How much is {n} times seventeen"),
                format!("Name the capital city of land{n}"),
            ]
        };
        for n in 0..60 {
            for text in texts(n) {
                let features = hashed(&text);
                let kind = kinds.kind(&features);
                kinds.saw(&features, kind);
            }
        }
        let last = texts(99).map(|t| kinds.kind(&hashed(&t)).unwrap());
        assert!(
            last[0] != last[1] && last[1] != last[2] && last[0] != last[2],
            "{last:?}"
        );
        let again = texts(77).map(|t| kinds.kind(&hashed(&t)).unwrap());
        assert_eq!(last, again);
    }
}
