//! How long lists of floats are written: their bits in hexadecimal, without a separator. What is read back is what
//! was written, in a third of the room that decimals take.

use std::fmt::Write;

use serde::{Deserialize, Deserializer, Serializer, de::Error};

fn write<S: Serializer>(
    values: impl Iterator<Item = u64>,
    digits: usize,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut text = String::new();
    for bits in values {
        write!(text, "{bits:0digits$x}").expect("writing to a string cannot fail");
    }
    serializer.serialize_str(&text)
}

fn read<'de, D: Deserializer<'de>>(digits: usize, deserializer: D) -> Result<Vec<u64>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if !text.len().is_multiple_of(digits) || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(D::Error::custom("a list of floats has an unfinished entry"));
    }
    (0..text.len())
        .step_by(digits)
        .map(|at| u64::from_str_radix(&text[at..at + digits], 16).map_err(D::Error::custom))
        .collect()
}

/// f64, 16 digits each.
pub mod doubles {
    use super::*;

    pub fn serialize<S: Serializer>(values: &[f64], serializer: S) -> Result<S::Ok, S::Error> {
        write(values.iter().map(|v| v.to_bits()), 16, serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f64>, D::Error> {
        Ok(read(16, deserializer)?.into_iter().map(f64::from_bits).collect())
    }
}

/// f32, 8 digits each.
pub mod singles {
    use super::*;

    pub fn serialize<S: Serializer>(values: &[f32], serializer: S) -> Result<S::Ok, S::Error> {
        write(values.iter().map(|v| u64::from(v.to_bits())), 8, serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f32>, D::Error> {
        let bits = read(8, deserializer)?;
        Ok(bits.into_iter().map(|b| f32::from_bits(b as u32)).collect())
    }
}

/// The upper half of f32 (bfloat16), 4 digits each: for values that [`rounded`] has been over.
pub mod halves {
    use super::*;

    pub fn serialize<S: Serializer>(values: &[f32], serializer: S) -> Result<S::Ok, S::Error> {
        write(values.iter().map(|v| u64::from(v.to_bits() >> 16)), 4, serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f32>, D::Error> {
        let bits = read(4, deserializer)?;
        Ok(bits
            .into_iter()
            .map(|b| f32::from_bits((b as u32) << 16))
            .collect())
    }
}

/// The nearest f32 that bfloat16 can hold, ties to even.
pub fn rounded(value: f32) -> f32 {
    let bits = value.to_bits();
    let half = 0x7fff + ((bits >> 16) & 1);
    f32::from_bits(bits.wrapping_add(half) & 0xffff_0000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::Serialize;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Lists {
        #[serde(with = "doubles")]
        doubles: Vec<f64>,
        #[serde(with = "singles")]
        singles: Vec<f32>,
        #[serde(with = "halves")]
        halves: Vec<f32>,
    }

    proptest! {
        #[test]
        fn lists_survive_text(doubles in prop::collection::vec(any::<f64>(), 0..9), singles in prop::collection::vec(any::<f32>(), 0..9)) {
            let halves = singles.iter().map(|v| rounded(*v)).collect();
            let lists = Lists { doubles, singles, halves };
            let text = serde_json::to_string(&lists).unwrap();
            prop_assert_eq!(serde_json::from_str::<Lists>(&text).unwrap(), lists);
        }

        #[test]
        fn rounding_is_within_a_two_hundred_and_fifty_sixth(value in -1e30f32..1e30) {
            prop_assert!((rounded(value) - value).abs() <= value.abs() / 256.0);
            prop_assert_eq!(rounded(rounded(value)), rounded(value));
        }
    }

    #[test]
    fn broken_lists_are_refused() {
        for text in [
            r#"{"doubles":"0","singles":"","halves":""}"#,
            r#"{"doubles":"","singles":"é000000","halves":""}"#,
        ] {
            assert!(serde_json::from_str::<Lists>(text).is_err(), "{text}");
        }
    }
}
