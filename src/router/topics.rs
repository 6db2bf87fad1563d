//! What texts are about, in a few numbers, found without any label.
//!
//! Latent semantic analysis (Deerwester, Dumais, Furnas, Landauer & Harshman, "Indexing by latent semantic analysis",
//! JASIS 1990) of the last requests' hashed words: each text is a unit vector of its features weighted by rarity; the
//! directions in which such vectors lie furthest, found by orthogonal iteration, are the topics. A handful of labels
//! teaches what a topic is worth where thousands are needed for words, because the texts themselves, which cost
//! nothing, have told which words go together.
//!
//! The analysis is made anew when twice as many texts have come by, and every `LATEST` later on, from the texts that the
//! router remembers. What was learnt in the old directions is then learnt again from the remembered labels.

use serde::{Deserialize, Serialize};

use super::bits::rounded;
use super::draw::Draw;
use super::features::DIMENSIONS;

/// Numbers that a text becomes.
pub const TOPICS: usize = 4;
/// Directions iterated beside those kept, so that the kept ones settle.
const SPARE: usize = 4;
const WIDTH: usize = TOPICS + SPARE;
/// Texts before the first analysis, and between two of them at most.
const FIRST: u64 = 96;
const LATEST: u64 = 2048;
/// Texts analysed at most: the last ones.
pub const TEXTS: usize = 1024;
/// Features that fewer texts have say nothing of what texts have in common.
const SEEN: u32 = 8;
const ROUNDS: usize = 8;
/// Numbers lie within this many standard deviations.
const FURTHEST: f64 = 3.0;

/// A text in numbers of about unit size.
pub type Gist = [f64; TOPICS];

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Topics {
    /// Per feature its part in every topic, weighted by its rarity; empty before the first analysis.
    #[serde(with = "super::bits::halves")]
    parts: Vec<f32>,
    /// Mean and standard deviation of each number over the texts analysed.
    #[serde(with = "super::bits::doubles")]
    mean: Vec<f64>,
    #[serde(with = "super::bits::doubles")]
    deviation: Vec<f64>,
    texts: u64,
    due: u64,
}

impl Topics {
    /// None before the first analysis.
    pub fn gist(&self, features: &[u16]) -> Option<Gist> {
        if self.parts.is_empty() {
            return None;
        }
        let raw = self.raw(features);
        let mut gist = [0.0; TOPICS];
        for (topic, number) in gist.iter_mut().enumerate() {
            let off = (raw[topic] - self.mean[topic]) / self.deviation[topic];
            *number = off.clamp(-FURTHEST, FURTHEST);
        }
        Some(gist)
    }

    /// The projection, of unit length; zero for a text without a known feature.
    fn raw(&self, features: &[u16]) -> Gist {
        let mut sums = [0.0f32; TOPICS];
        for feature in features {
            let parts = &self.parts[usize::from(*feature) * TOPICS..][..TOPICS];
            sums.iter_mut().zip(parts).for_each(|(sum, part)| *sum += part);
        }
        let mut raw = sums.map(f64::from);
        let length = raw.iter().map(|v| v * v).sum::<f64>().sqrt();
        if length > 0.0 {
            raw.iter_mut().for_each(|v| *v /= length);
        }
        raw
    }

    /// A text came by; true when it is time to analyse.
    pub fn saw(&mut self) -> bool {
        self.texts += 1;
        self.texts >= self.due.max(FIRST)
    }

    /// Finds the topics of these texts, of which every one lists its features. False when there is nothing to find.
    pub fn analyse(&mut self, texts: &[&[u16]]) -> bool {
        self.due = self.texts + self.texts.clamp(FIRST, LATEST);
        let mut having = vec![0u32; DIMENSIONS];
        for feature in texts.iter().copied().flatten() {
            having[usize::from(*feature)] += 1;
        }
        let mut known = vec![];
        let mut rarity = vec![];
        let mut place = vec![u16::MAX; DIMENSIONS];
        for (feature, count) in having.iter().enumerate().filter(|(_, count)| **count >= SEEN) {
            place[feature] = known.len() as u16;
            known.push(feature);
            rarity.push((1.0 + texts.len() as f32) / (1.0 + *count as f32));
        }
        if known.len() < WIDTH {
            return false;
        }
        rarity.iter_mut().for_each(|r| *r = 1.0 + r.ln());
        // Each text: its known features, and one over its length.
        let rows: Vec<(Vec<u16>, f32)> = texts
            .iter()
            .map(|features| {
                let row: Vec<u16> = features
                    .iter()
                    .map(|f| place[usize::from(*f)])
                    .filter(|at| *at != u16::MAX)
                    .collect();
                let square: f32 = row.iter().map(|at| rarity[usize::from(*at)].powi(2)).sum();
                (row, if square > 0.0 { square.sqrt().recip() } else { 0.0 })
            })
            .collect();
        let mut basis = self.start(&known);
        for _ in 0..ROUNDS {
            basis = turned(&basis, &rows, &rarity);
            orthonormal(&mut basis);
        }
        self.parts = vec![0.0; DIMENSIONS * TOPICS];
        for (at, feature) in known.iter().enumerate() {
            let parts = &mut self.parts[feature * TOPICS..][..TOPICS];
            for (part, direction) in parts.iter_mut().zip(&basis[at]) {
                *part = rounded(direction * rarity[at]);
            }
        }
        self.scale(texts);
        true
    }

    /// Where the iteration starts: random directions, the same for the same features.
    fn start(&self, known: &[usize]) -> Vec<[f32; WIDTH]> {
        let random = |feature: &usize| {
            let mut draw = Draw::new(0x70_91c5, *feature as u64);
            std::array::from_fn(|_| draw.uniform() as f32 - 0.5)
        };
        let mut basis: Vec<[f32; WIDTH]> = known.iter().map(random).collect();
        orthonormal(&mut basis);
        basis
    }

    fn scale(&mut self, texts: &[&[u16]]) {
        let count = texts.len() as f64;
        let (mut mean, mut square) = ([0.0; TOPICS], [0.0; TOPICS]);
        for features in texts {
            for (topic, value) in self.raw(features).into_iter().enumerate() {
                mean[topic] += value / count;
                square[topic] += value * value / count;
            }
        }
        let deviation = |topic: usize| {
            (square[topic] - mean[topic] * mean[topic])
                .max(0.0)
                .sqrt()
                .max(1e-6)
        };
        self.deviation = (0..TOPICS).map(deviation).collect();
        self.mean = mean.to_vec();
    }

    pub fn fits(&self) -> bool {
        let width = if self.parts.is_empty() { 0 } else { TOPICS };
        self.parts.len() == width * DIMENSIONS && self.mean.len() == width && self.deviation.len() == width
    }
}

/// AᵀA·basis, A the texts' vectors.
fn turned(basis: &[[f32; WIDTH]], rows: &[(Vec<u16>, f32)], rarity: &[f32]) -> Vec<[f32; WIDTH]> {
    let mut next = vec![[0.0; WIDTH]; basis.len()];
    for (row, scale) in rows {
        let mut sums = [0.0f32; WIDTH];
        for at in row.iter().map(|at| usize::from(*at)) {
            let weight = rarity[at];
            sums.iter_mut()
                .zip(&basis[at])
                .for_each(|(sum, part)| *sum += weight * part);
        }
        sums.iter_mut().for_each(|sum| *sum *= scale * scale);
        for at in row.iter().map(|at| usize::from(*at)) {
            let weight = rarity[at];
            next[at]
                .iter_mut()
                .zip(&sums)
                .for_each(|(part, sum)| *part += weight * sum);
        }
    }
    next
}

/// Gram and Schmidt over the columns, in order; a column that vanishes becomes zero.
fn orthonormal(basis: &mut [[f32; WIDTH]]) {
    for column in 0..WIDTH {
        for earlier in 0..column {
            let dot: f32 = basis.iter().map(|row| row[column] * row[earlier]).sum();
            basis.iter_mut().for_each(|row| row[column] -= dot * row[earlier]);
        }
        let length = basis
            .iter()
            .map(|row| row[column] * row[column])
            .sum::<f32>()
            .sqrt();
        let scale = if length > 1e-6 { length.recip() } else { 0.0 };
        basis.iter_mut().for_each(|row| row[column] *= scale);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::features::hashed;

    const SUBJECTS: [[&str; 8]; 3] = [
        [
            "matrix", "integral", "prime", "vector", "theorem", "sum", "root", "angle",
        ],
        [
            "court",
            "statute",
            "plaintiff",
            "contract",
            "verdict",
            "appeal",
            "jury",
            "tort",
        ],
        [
            "enzyme", "cell", "protein", "membrane", "gene", "tissue", "mitosis", "lipid",
        ],
    ];

    /// Half of the words are the subject's, half anybody's.
    fn text(subject: usize, draw: &mut Draw) -> Vec<u16> {
        const COMMON: [&str; 8] = ["which", "of", "these", "is", "the", "most", "likely", "answer"];
        let words: Vec<&str> = (0..12)
            .flat_map(|_| [SUBJECTS[subject][draw.below(8)], COMMON[draw.below(8)]])
            .collect();
        hashed(&words.join(" "))
    }

    fn analysed(seed: u64, texts: usize) -> Topics {
        let mut draw = Draw::new(seed, 0);
        let texts: Vec<Vec<u16>> = (0..texts).map(|n| text(n % 3, &mut draw)).collect();
        let mut topics = Topics::default();
        assert!(topics.analyse(&texts.iter().map(Vec::as_slice).collect::<Vec<_>>()));
        topics
    }

    /// No two texts need share a subject's words, yet gists of one subject lie together and those of others apart.
    #[test]
    fn subjects_lie_apart_without_a_label() {
        let topics = analysed(1, 150);
        let mut draw = Draw::new(2, 0);
        let gists: Vec<(usize, Gist)> = (0..90)
            .map(|n| (n % 3, topics.gist(&text(n % 3, &mut draw)).unwrap()))
            .collect();
        let distance = |a: &Gist, b: &Gist| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
        let mut right = 0;
        for (at, (subject, gist)) in gists.iter().enumerate() {
            let others = gists.iter().enumerate().filter(|(other, _)| *other != at);
            let nearest =
                others.min_by(|(_, a), (_, b)| distance(gist, &a.1).total_cmp(&distance(gist, &b.1)));
            right += usize::from(nearest.unwrap().1.0 == *subject);
        }
        assert!(right >= 85, "{right} of 90");
    }

    #[test]
    fn numbers_are_bounded_and_of_about_unit_size() {
        let topics = analysed(3, 300);
        let mut draw = Draw::new(4, 0);
        let mut square = [0.0; TOPICS];
        for n in 0..300 {
            let gist = topics.gist(&text(n % 3, &mut draw)).unwrap();
            assert!(gist.iter().all(|v| v.is_finite() && v.abs() <= FURTHEST));
            square
                .iter_mut()
                .zip(gist)
                .for_each(|(sum, v)| *sum += v * v / 300.0);
        }
        assert!(square.iter().all(|s| (0.5..2.0).contains(s)), "{square:?}");
        assert!(
            topics
                .gist(&[])
                .is_some_and(|gist| gist.iter().all(|v| v.is_finite()))
        );
    }

    #[test]
    fn analysed_at_doubled_counts_and_survives_text() {
        let mut topics = Topics::default();
        assert_eq!(topics.gist(&[1, 2]), None);
        assert!(
            !topics.analyse(&[&[1, 2], &[3]]),
            "two texts have nothing in common"
        );
        let due: Vec<u64> = (1..20_000u64)
            .filter(|_| {
                let due = topics.saw();
                if due {
                    topics.analyse(&[]);
                }
                due
            })
            .collect();
        assert_eq!(due[..6], [96, 192, 384, 768, 1536, 3072]);
        assert!(
            due[6..].windows(2).all(|pair| pair[1] - pair[0] == LATEST),
            "{due:?}"
        );
        let topics = analysed(5, 150);
        let text = serde_json::to_string(&topics).unwrap();
        assert_eq!(serde_json::from_str::<Topics>(&text).unwrap(), topics);
    }
}
