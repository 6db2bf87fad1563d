//! How GGML blocks of eight rows lie in a packed group, and the way back.

use super::{GROUP, dequantise::scale_and_minimum};

/// Block formats this room multiplies with. The blocks that come in are GGML's, byte for byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(non_camel_case_types)]
pub enum Kind {
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q4_K,
    Q5_K,
    Q6_K,
}

impl Kind {
    pub const ALL: [Self; 8] = [
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q4_K,
        Self::Q5_K,
        Self::Q6_K,
    ];

    /// Values of one block.
    pub const fn block_columns(self) -> usize {
        match self {
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 => 32,
            Self::Q4_K | Self::Q5_K | Self::Q6_K => 256,
        }
    }

    /// Bytes of one GGML block.
    pub const fn block_bytes(self) -> usize {
        match self {
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q8_0 => 34,
            Self::Q4_K => 144,
            Self::Q5_K => 176,
            Self::Q6_K => 210,
        }
    }

    /// Bytes that a group's block has in the group's side plane: scales that would push every other block off its
    /// 32-byte boundary.
    pub(super) const fn side_bytes(self) -> usize {
        match self {
            Self::Q4_0 | Self::Q5_0 | Self::Q8_0 | Self::Q6_K => 2 * GROUP,
            Self::Q4_1 | Self::Q5_1 | Self::Q4_K | Self::Q5_K => 0,
        }
    }

    /// Bytes of a group's block in the main plane.
    pub(super) const fn main_bytes(self) -> usize {
        GROUP * self.block_bytes() - self.side_bytes()
    }

    /// The fields of a GGML block in their order there, each with its place in the packed block.
    fn fields(self) -> &'static [Field] {
        use Field::{Bits, Bytes, Quads, Scales};
        use Plane::{Main, Side};
        match self {
            Self::Q8_0 => &[Scales(Side, 0), Bytes(32, 0)],
            Self::Q4_0 => &[Scales(Side, 0), Bytes(16, 0)],
            Self::Q4_1 => &[Scales(Main, 0), Scales(Main, 16), Bytes(16, 32)],
            Self::Q5_0 => &[Scales(Side, 0), Bits(0), Bytes(16, 32)],
            Self::Q5_1 => &[Scales(Main, 0), Scales(Main, 16), Bits(32), Bytes(16, 64)],
            Self::Q4_K => &[Scales(Main, 0), Scales(Main, 16), Quads(32), Bytes(128, 128)],
            Self::Q5_K => &[
                Scales(Main, 0),
                Scales(Main, 16),
                Quads(32),
                Bytes(32, 128),
                Bytes(128, 384),
            ],
            Self::Q6_K => &[
                Bytes(128, 0),
                Bytes(64, 1024),
                Field::ByteScales(1536),
                Scales(Side, 0),
            ],
        }
    }
}

/// Bytes of the side plane of a group, which comes first, up to the cache line its main plane begins on.
pub(super) fn side_plane(kind: Kind, blocks: usize) -> usize {
    (blocks * kind.side_bytes()).next_multiple_of(64)
}

#[derive(Clone, Copy)]
enum Plane {
    Main,
    Side,
}

/// One field of a GGML block and where eight rows of it begin in the packed block.
#[derive(Clone, Copy)]
enum Field {
    /// One `f16`: eight of them in row order.
    Scales(Plane, usize),
    /// This many bytes: four of the first row, four of the second, and so on, then the next four of each.
    Bytes(usize, usize),
    /// 32 single bits, the fifth bits of a block of 32: bit `i` of a row's byte `j` belongs to value `4 i + j`.
    Bits(usize),
    /// Eight six-bit scales and eight six-bit minimums, see [`put_quads`].
    Quads(usize),
    /// Sixteen `i8` scales: four scales at a time, rows 0 to 3 and then rows 4 to 7 of them, scale by scale.
    ByteScales(usize),
}

/// Writes the GGML block of row `lane` into its group's packed block, whose bytes start out zero.
pub(super) fn put(kind: Kind, lane: usize, block: &[u8], main: &mut [u8], side: &mut [u8]) {
    let mut rest = block;
    for field in kind.fields() {
        let (source, after) = rest.split_at(field.len());
        rest = after;
        match *field {
            Field::Scales(plane, at) => {
                let target = match plane {
                    Plane::Main => &mut *main,
                    Plane::Side => &mut *side,
                };
                target[at + 2 * lane..][..2].copy_from_slice(source);
            }
            Field::Bytes(_, at) => {
                for (step, bytes) in source.chunks_exact(4).enumerate() {
                    main[at + step * 4 * GROUP + 4 * lane..][..4].copy_from_slice(bytes);
                }
            }
            Field::Bits(at) => {
                for index in 0..32 {
                    main[at + 4 * lane + index % 4] |= (source[index / 8] >> (index % 8) & 1) << (index / 4);
                }
            }
            Field::Quads(at) => put_quads(source, lane, &mut main[at..at + 96]),
            Field::ByteScales(at) => {
                for (index, &scale) in source.iter().enumerate() {
                    main[at + quad_place(index, lane)] = scale;
                }
            }
        }
    }
}

/// Reads row `lane`'s GGML block back out of the packed block.
pub(super) fn take(kind: Kind, lane: usize, main: &[u8], side: &[u8], block: &mut [u8]) {
    let mut rest = block;
    for field in kind.fields() {
        let (target, after) = rest.split_at_mut(field.len());
        rest = after;
        match *field {
            Field::Scales(plane, at) => {
                let source = match plane {
                    Plane::Main => main,
                    Plane::Side => side,
                };
                target.copy_from_slice(&source[at + 2 * lane..][..2]);
            }
            Field::Bytes(_, at) => {
                for (step, bytes) in target.chunks_exact_mut(4).enumerate() {
                    bytes.copy_from_slice(&main[at + step * 4 * GROUP + 4 * lane..][..4]);
                }
            }
            Field::Bits(at) => {
                target.fill(0);
                for index in 0..32 {
                    target[index / 8] |= (main[at + 4 * lane + index % 4] >> (index / 4) & 1) << (index % 8);
                }
            }
            Field::Quads(at) => take_quads(&main[at..at + 96], lane, target),
            Field::ByteScales(at) => {
                for (index, scale) in target.iter_mut().enumerate() {
                    *scale = main[at + quad_place(index, lane)];
                }
            }
        }
    }
}

impl Field {
    /// Bytes of the field in a GGML block.
    const fn len(self) -> usize {
        match self {
            Self::Scales(..) => 2,
            Self::Bytes(len, _) => len,
            Self::Bits(_) => 4,
            Self::Quads(_) => 12,
            Self::ByteScales(_) => 16,
        }
    }
}

/// Place of number `index` of row `lane` among numbers that lie four by four: a register holds four numbers of eight
/// rows, rows 0 to 3 in its low half, so that one byte shuffle spreads any number of them over the row's lane.
const fn quad_place(index: usize, lane: usize) -> usize {
    index / 4 * 32 + lane / 4 * 16 + index % 4 * 4 + lane % 4
}

/// Sixteen six-bit numbers of each row (scales, then minimums) make four registers of bytes. Their low nibbles fill
/// 64 bytes, registers 0 and 1 below registers 2 and 3; their top two bits fill 32 more, two bits a register.
fn put_quads(source: &[u8], lane: usize, target: &mut [u8]) {
    for part in 0..8 {
        let (scale, minimum) = scale_and_minimum(source, part);
        for (index, number) in [(part, scale), (8 + part, minimum)] {
            let (quad, place) = (index / 4, quad_place(index % 4, lane));
            target[quad % 2 * 32 + place] |= (number & 15) << (quad / 2 * 4);
            target[64 + place] |= (number >> 4) << (quad * 2);
        }
    }
}

fn take_quads(source: &[u8], lane: usize, target: &mut [u8]) {
    let number = |index: usize| {
        let (quad, place) = (index / 4, quad_place(index % 4, lane));
        let low = source[quad % 2 * 32 + place] >> (quad / 2 * 4) & 15;
        low | (source[64 + place] >> (quad * 2) & 3) << 4
    };
    for part in 0..4 {
        let (high_scale, high_minimum) = (number(4 + part), number(12 + part));
        target[part] = number(part) | (high_scale >> 4) << 6;
        target[4 + part] = number(8 + part) | (high_minimum >> 4) << 6;
        target[8 + part] = high_scale & 15 | (high_minimum & 15) << 4;
    }
}
