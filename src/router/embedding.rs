//! A text as a vector, as somebody outside made it: a model's hidden state, an encoder's output.
//!
//! The router computes none. It is handed one with a request, keeps it in the decision, and so finds it again in its
//! log. What is kept is a sketch of [`WIDTH`] numbers: a projection on random signs, which keeps angles and
//! distances about as they were (Achlioptas, "Database-friendly random projections", JCSS 2003). Heads of fixed
//! width follow, and a decision in the log stays small whatever the encoder's width.

use serde::{Deserialize, Serialize};

use super::bits::rounded;
use super::draw::mix;

/// Numbers of a sketch.
pub const WIDTH: usize = 64;

/// What is kept of an embedding.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Embedding {
    /// Who made it, `hidden:NAME` or `modernbert:NAME`. Vectors of two sources have nothing in common.
    pub source: String,
    /// [`WIDTH`] numbers, each with a bfloat16's precision.
    #[serde(with = "super::bits::halves")]
    pub values: Vec<f32>,
}

impl Embedding {
    /// Sketches a vector of any width. `None` for one that is empty or holds what is no number.
    pub fn of(source: &str, vector: &[f32]) -> Option<Self> {
        if vector.is_empty() || !vector.iter().all(|v| v.is_finite()) {
            return None;
        }
        let mut sketch = [0.0f32; WIDTH];
        if vector.len() <= WIDTH {
            sketch[..vector.len()].copy_from_slice(vector);
        } else {
            let scale = 1.0 / (vector.len() as f32).sqrt();
            for (place, value) in (1u64..).zip(vector) {
                // One hash holds the signs of a whole row.
                let signs = mix(place);
                for (column, sum) in sketch.iter_mut().enumerate() {
                    let sign = if signs >> column & 1 == 0 { scale } else { -scale };
                    *sum += sign * value;
                }
            }
        }
        let embedding = Self {
            source: source.to_owned(),
            values: sketch.map(rounded).to_vec(),
        };
        embedding.fits().then_some(embedding)
    }

    /// Whether a head can read it.
    pub fn fits(&self) -> bool {
        self.values.len() == WIDTH && self.values.iter().all(|v| v.is_finite())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::draw::Draw;
    use proptest::prelude::*;

    fn cosine(a: &[f32], b: &[f32]) -> f32 {
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
    }

    #[test]
    fn angles_are_about_kept() {
        let mut draw = Draw::new(7, 0);
        let mut vector = || -> Vec<f32> { (0..768).map(|_| draw.uniform() as f32 - 0.5).collect() };
        let mut worst = 0.0f32;
        for _ in 0..50 {
            let (a, b) = (vector(), vector());
            let near: Vec<f32> = a.iter().zip(&b).map(|(a, b)| a + 0.3 * b).collect();
            let sketch = |v: &[f32]| Embedding::of("x", v).unwrap().values;
            for (one, other) in [(&a, &b), (&a, &near)] {
                worst = worst.max((cosine(one, other) - cosine(&sketch(one), &sketch(other))).abs());
            }
        }
        assert!(worst < 0.45, "{worst}");
    }

    #[test]
    fn what_is_no_vector_is_none() {
        assert_eq!(Embedding::of("x", &[]), None);
        assert_eq!(Embedding::of("x", &[1.0, f32::NAN]), None);
        assert_eq!(Embedding::of("x", &[f32::MAX; 2]), None, "it rounds to infinity");
        assert!(Embedding::of("x", &[1.0, 2.0]).is_some_and(|e| e.values[..3] == [1.0, 2.0, 0.0]));
    }

    proptest! {
        #[test]
        fn a_sketch_survives_text(vector in prop::collection::vec(-1e6f32..1e6, 1..200)) {
            let sketch = Embedding::of("hidden:a", &vector).unwrap();
            let text = serde_json::to_string(&sketch).unwrap();
            prop_assert_eq!(serde_json::from_str::<Embedding>(&text).unwrap(), sketch);
        }
    }
}
