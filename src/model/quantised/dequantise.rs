use half::f16;

use super::Kind;

/// Writes the values of one GGML block, exactly as GGML computes them.
pub(in crate::model) fn dequantise_block(kind: Kind, block: &[u8], out: &mut [f32]) {
    match kind {
        Kind::Q8_0 => {
            let scale = half_at(block, 0);
            for (value, &quant) in out.iter_mut().zip(&block[2..]) {
                *value = f32::from(quant as i8) * scale;
            }
        }
        Kind::Q4_0 => {
            let scale = half_at(block, 0);
            nibbles(&block[2..], out, |nibble, _| (f32::from(nibble) - 8.0) * scale);
        }
        Kind::Q4_1 => {
            let (scale, minimum) = (half_at(block, 0), half_at(block, 2));
            nibbles(&block[4..], out, |nibble, _| f32::from(nibble) * scale + minimum);
        }
        Kind::Q5_0 => {
            let scale = half_at(block, 0);
            nibbles(&block[6..], out, |nibble, index| {
                (f32::from(nibble | fifth_bit(&block[2..6], index)) - 16.0) * scale
            });
        }
        Kind::Q5_1 => {
            let (scale, minimum) = (half_at(block, 0), half_at(block, 2));
            nibbles(&block[8..], out, |nibble, index| {
                f32::from(nibble | fifth_bit(&block[4..8], index)) * scale + minimum
            });
        }
        Kind::Q4_K => scaled(block, &block[16..], out, |_, _| 0),
        Kind::Q5_K => scaled(block, &block[48..], out, |part, place| {
            (block[16 + place] >> part & 1) << 4
        }),
        Kind::Q6_K => six_bits(block, out),
    }
}

fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// A block of 32 whose low nibbles are the first half and whose high nibbles are the second.
fn nibbles(quants: &[u8], out: &mut [f32], value: impl Fn(u8, usize) -> f32) {
    let (first, second) = out.split_at_mut(16);
    for (place, &pair) in quants.iter().take(16).enumerate() {
        first[place] = value(pair & 15, place);
        second[place] = value(pair >> 4, 16 + place);
    }
}

fn fifth_bit(bits: &[u8], index: usize) -> u8 {
    (bits[index / 8] >> (index % 8) & 1) << 4
}

/// Scale and minimum of the `part`-th 32 values, from the 12 bytes that hold eight pairs of six bits.
pub(super) fn scale_and_minimum(packed: &[u8], part: usize) -> (u8, u8) {
    if part < 4 {
        return (packed[part] & 63, packed[part + 4] & 63);
    }
    let low = packed[part + 4];
    (
        low & 15 | (packed[part - 4] >> 6) << 4,
        low >> 4 | (packed[part] >> 6) << 4,
    )
}

/// Q4_K and Q5_K; `fifth` gives the bit over the nibble for a part of 32 and a place in it.
fn scaled(block: &[u8], quants: &[u8], out: &mut [f32], fifth: impl Fn(usize, usize) -> u8) {
    let (scale, minimum) = (half_at(block, 0), half_at(block, 2));
    for (part, values) in out.chunks_exact_mut(32).enumerate() {
        let (own_scale, own_minimum) = scale_and_minimum(&block[4..16], part);
        let (scale, minimum) = (scale * f32::from(own_scale), minimum * f32::from(own_minimum));
        let bytes = &quants[part / 2 * 32..];
        for (place, value) in values.iter_mut().enumerate() {
            let nibble = bytes[place] >> (part % 2 * 4) & 15;
            *value = scale * f32::from(nibble | fifth(part, place)) - minimum;
        }
    }
}

fn six_bits(block: &[u8], out: &mut [f32]) {
    let (low, rest) = block.split_at(128);
    let (high, rest) = rest.split_at(64);
    let scale = half_at(rest, 16);
    for (part, values) in out.chunks_exact_mut(32).enumerate() {
        // Half a block of 128 values: its parts 0 and 2 share the first 32 low bytes, 1 and 3 the others.
        let (half, quarter) = (part / 4, part % 4);
        for (place, value) in values.iter_mut().enumerate() {
            let nibble = low[half * 64 + quarter % 2 * 32 + place] >> (quarter / 2 * 4) & 15;
            let top = high[half * 32 + place] >> (quarter * 2) & 3;
            let own = f32::from(rest[part * 2 + place / 16] as i8);
            *value = scale * own * (f32::from(nibble | top << 4) - 32.0);
        }
    }
}
