//! How a mostly empty table of weight pairs is written: hexadecimal (place, two f32) triples of the entries
//! in use. Bits, not decimals, so that what is read back is what was written.

use serde::{Deserialize, Deserializer, Serializer, de::Error};

use super::features::DIMENSIONS;

const WIDTH: usize = 4 + 8 + 8;

pub fn serialize<S: Serializer>(table: &[(f32, f32)], serializer: S) -> Result<S::Ok, S::Error> {
    use std::fmt::Write;
    let mut text = String::new();
    for (place, (one, two)) in table.iter().enumerate() {
        if one.to_bits() != 0 || two.to_bits() != 0 {
            write!(text, "{place:04x}{:08x}{:08x}", one.to_bits(), two.to_bits())
                .expect("writing to a string cannot fail");
        }
    }
    serializer.serialize_str(&text)
}

pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<(f32, f32)>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let mut table = vec![(0.0, 0.0); DIMENSIONS];
    if text.len() % WIDTH != 0 || !text.is_ascii() {
        return Err(D::Error::custom("a weight table has an unfinished entry"));
    }
    let number = |at: usize, digits: usize| {
        u32::from_str_radix(&text[at..at + digits], 16).map_err(|_| D::Error::custom("a weight is no number"))
    };
    for at in (0..text.len()).step_by(WIDTH) {
        let entry = table.get_mut(number(at, 4)? as usize);
        let entry = entry.ok_or_else(|| D::Error::custom("a weight's place is out of range"))?;
        *entry = (
            f32::from_bits(number(at + 4, 8)?),
            f32::from_bits(number(at + 12, 8)?),
        );
    }
    Ok(table)
}
