//! The header of a GGUF file, read under bounds: no count, length or offset of it is believed before it is held
//! against the file's own size, so that a hostile file costs a sentence and nothing else.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::Read;

use candle_core::quantized::GgmlDType;

use super::kinds;
use super::metadata::{Metadata, Scalar, Value};

/// Tokenizers of 256 000 tokens with their merges take some 20 MB; what passes this is no model's header.
const LONGEST_HEADER: u64 = 256 << 20;
const MOST_DIMENSIONS: u32 = 4;
const DEFAULT_ALIGNMENT: u64 = 32;
const LARGEST_ALIGNMENT: u64 = 1 << 20;
/// The fewest bytes that a key with its value, and a tensor's description, can take.
const SMALLEST_ENTRY: u64 = 8 + 4 + 1;
const SMALLEST_TENSOR: u64 = 8 + 4 + 8 + 4 + 8;
const TEXT: u32 = 8;
const ARRAY: u32 = 9;

/// Why a header is refused.
#[derive(Debug, PartialEq)]
pub enum Refusal {
    /// The file is broken, or not what it says.
    Bad(String),
    /// The file is sound, but stored in a way that cannot be computed with.
    Foreign(String),
}

impl From<String> for Refusal {
    fn from(reason: String) -> Self {
        Self::Bad(reason)
    }
}

/// Where a tensor lies. Its bytes are known to be inside the file and shared with no other tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorInfo {
    pub kind: GgmlDType,
    /// Outermost first, as PyTorch counts; the last is a multiple of the kind's block.
    pub shape: Vec<usize>,
    /// From the file's start.
    pub offset: u64,
    pub bytes: u64,
}

#[derive(Debug, Default)]
pub struct Header {
    pub metadata: Metadata,
    pub tensors: HashMap<String, TensorInfo>,
}

impl Header {
    /// Reads the header of a file of `length` bytes from its start.
    pub fn read(source: impl Read, length: u64) -> Result<Self, Refusal> {
        let mut bytes = Bounded {
            source,
            position: 0,
            limit: length.min(LONGEST_HEADER),
        };
        if bytes.take::<4>("its magic number")? != *b"GGUF" {
            return Err(Refusal::Bad("it does not begin with GGUF".to_owned()));
        }
        check_version(bytes.u32("its version")?)?;
        let tensor_count = bytes.u64("its number of tensors")?;
        let entry_count = bytes.u64("its number of keys")?;
        bytes.room(entry_count, SMALLEST_ENTRY, "keys")?;

        let mut metadata = Metadata::default();
        for _ in 0..entry_count {
            let key = bytes.name("a key")?;
            let value = bytes.value(&key)?;
            match metadata.0.entry(key) {
                Entry::Occupied(twice) => {
                    return Err(Refusal::Bad(format!(
                        "it has the key {} twice",
                        shown(twice.key())
                    )));
                }
                Entry::Vacant(place) => place.insert(value),
            };
        }

        bytes.room(tensor_count, SMALLEST_TENSOR, "tensors")?;
        let mut tensors = HashMap::new();
        for _ in 0..tensor_count {
            let name = bytes.name("a tensor's name")?;
            let tensor = bytes.tensor(&name)?;
            match tensors.entry(name) {
                Entry::Occupied(twice) => {
                    let name: &String = twice.key();
                    return Err(Refusal::Bad(format!("it has the tensor {} twice", shown(name))));
                }
                Entry::Vacant(place) => place.insert(tensor),
            };
        }
        place(&mut tensors, &metadata, bytes.position, length)?;
        Ok(Self { metadata, tensors })
    }
}

fn check_version(version: u32) -> Result<(), Refusal> {
    match version {
        2 | 3 => Ok(()),
        _ if matches!(version.swap_bytes(), 2 | 3) => Err(Refusal::Bad(
            "it is written for big-endian machines; convert it for little-endian ones".to_owned(),
        )),
        _ => Err(Refusal::Bad(format!(
            "its format is version {version}, and versions 2 and 3 can be read; convert the model anew"
        ))),
    }
}

/// Turns offsets into places in the file and refuses tensors outside it or over one another.
fn place(
    tensors: &mut HashMap<String, TensorInfo>,
    metadata: &Metadata,
    header_end: u64,
    length: u64,
) -> Result<(), Refusal> {
    let alignment = match metadata.count("general.alignment")? {
        None => DEFAULT_ALIGNMENT,
        Some(given) => Some(given as u64)
            .filter(|a| a.is_power_of_two() && *a <= LARGEST_ALIGNMENT)
            .ok_or_else(|| {
                format!("its general.alignment is {given}, which is no power of two up to a million")
            })?,
    };
    let data_start = header_end.next_multiple_of(alignment);
    let mut placed = Vec::with_capacity(tensors.len());
    for (name, tensor) in &mut *tensors {
        if !tensor.offset.is_multiple_of(alignment) {
            return Err(Refusal::Bad(format!(
                "its tensor {} begins at {}, which is no multiple of its alignment of {alignment}",
                shown(name),
                tensor.offset
            )));
        }
        let start = data_start.checked_add(tensor.offset);
        let end = start.and_then(|start| start.checked_add(tensor.bytes));
        let (Some(start), Some(end)) = (start, end.filter(|end| *end <= length)) else {
            return Err(Refusal::Bad(format!(
                "its tensor {} reaches past the file's {length} bytes; fetch the file again",
                shown(name)
            )));
        };
        tensor.offset = start;
        placed.push((start, end, name));
    }
    placed.sort_unstable();
    for pair in placed.windows(2) {
        if pair[1].0 < pair[0].1 {
            return Err(Refusal::Bad(format!(
                "its tensors {} and {} lie over one another",
                shown(pair[0].2),
                shown(pair[1].2)
            )));
        }
    }
    Ok(())
}

/// A name fit for a message: a hostile one may be long, or hold line ends.
fn shown(name: &str) -> String {
    let short: String = name.chars().take(80).collect();
    short.escape_debug().to_string()
}

/// Bytes with an end that is known before they are read.
struct Bounded<R> {
    source: R,
    position: u64,
    limit: u64,
}

impl<R: Read> Bounded<R> {
    fn advance(&mut self, bytes: u64, what: &str) -> Result<(), String> {
        let after = self
            .position
            .checked_add(bytes)
            .filter(|after| *after <= self.limit);
        self.position = after.ok_or_else(|| {
            format!(
                "it ends after {} bytes, inside {what}; fetch the file again",
                self.limit
            )
        })?;
        Ok(())
    }

    fn take<const N: usize>(&mut self, what: &str) -> Result<[u8; N], String> {
        self.advance(N as u64, what)?;
        let mut bytes = [0; N];
        self.source
            .read_exact(&mut bytes)
            .map_err(|error| format!("{what} cannot be read: {error}"))?;
        Ok(bytes)
    }

    fn take_many(&mut self, count: u64, what: &str) -> Result<Vec<u8>, String> {
        self.advance(count, what)?;
        // `advance` held `count` against the file's size, so this is no more than the file has.
        let mut bytes = vec![0; count as usize];
        self.source
            .read_exact(&mut bytes)
            .map_err(|error| format!("{what} cannot be read: {error}"))?;
        Ok(bytes)
    }

    fn room(&self, count: u64, smallest: u64, what: &str) -> Result<(), String> {
        let left = self.limit - self.position;
        match count.checked_mul(smallest) {
            Some(needed) if needed <= left => Ok(()),
            _ => Err(format!("it says it has {count} {what}, more than its size holds")),
        }
    }

    fn u32(&mut self, what: &str) -> Result<u32, String> {
        self.take(what).map(u32::from_le_bytes)
    }

    fn u64(&mut self, what: &str) -> Result<u64, String> {
        self.take(what).map(u64::from_le_bytes)
    }

    fn text_bytes(&mut self, what: &str) -> Result<Vec<u8>, String> {
        let length = self.u64(what)?;
        self.take_many(length, what)
    }

    fn name(&mut self, what: &str) -> Result<String, String> {
        let name =
            String::from_utf8(self.text_bytes(what)?).map_err(|_| format!("{what} of it is no UTF-8"))?;
        if name.is_empty() {
            return Err(format!("{what} of it is empty"));
        }
        Ok(name)
    }

    /// A text's bytes that are no UTF-8 become `\u{FFFD}`: a few tokenizers' tokens are such bytes.
    fn text(&mut self, what: &str) -> Result<String, String> {
        let bytes = self.text_bytes(what)?;
        Ok(String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
    }

    fn value(&mut self, key: &str) -> Result<Value, String> {
        let what = format!("the value of {}", shown(key));
        let code = self.u32(&what)?;
        match code {
            TEXT => self.text(&what).map(Value::Text),
            ARRAY => self.array(&what),
            _ => {
                let scalar = scalar(code, &what)?;
                let bytes = self.take_many(scalar.size() as u64, &what)?;
                flags_are_flags(scalar, &bytes, &what)?;
                Ok(Value::Number(scalar.decode(&bytes)))
            }
        }
    }

    fn array(&mut self, what: &str) -> Result<Value, String> {
        let code = self.u32(what)?;
        let count = self.u64(what)?;
        match code {
            TEXT => {
                self.room(count, 8, &format!("texts in {what}"))?;
                let mut texts = Vec::new();
                for _ in 0..count {
                    texts.push(self.text(what)?);
                }
                Ok(Value::Texts(texts))
            }
            ARRAY => Err(format!("{what} is an array of arrays, which no model needs")),
            _ => {
                let scalar = scalar(code, what)?;
                let bytes = count
                    .checked_mul(scalar.size() as u64)
                    .ok_or_else(|| format!("{what} has {count} numbers, more than its size holds"))?;
                let bytes = self.take_many(bytes, what)?;
                flags_are_flags(scalar, &bytes, what)?;
                Ok(Value::Numbers(scalar, bytes))
            }
        }
    }

    fn tensor(&mut self, name: &str) -> Result<TensorInfo, Refusal> {
        let what = format!("the tensor {}", shown(name));
        let rank = self.u32(&what)?;
        if !(1..=MOST_DIMENSIONS).contains(&rank) {
            return Err(Refusal::Bad(format!(
                "{what} has {rank} dimensions, and 1 to {MOST_DIMENSIONS} make sense"
            )));
        }
        let mut shape = Vec::new();
        for _ in 0..rank {
            let size = self.u64(&what)?;
            let size = usize::try_from(size).ok().filter(|size| *size > 0);
            shape.push(size.ok_or_else(|| format!("{what} has a dimension of no sensible size"))?);
        }
        // The file counts the innermost dimension first.
        shape.reverse();
        let code = self.u32(&what)?;
        let offset = self.u64(&what)?;
        let kind = kinds::kind(code)
            .ok_or_else(|| Refusal::Foreign(format!("{what} is stored as {}", kinds::foreign_name(code))))?;
        let row = *shape.last().expect("a tensor has at least one dimension");
        if !row.is_multiple_of(kind.block_size()) {
            return Err(Refusal::Bad(format!(
                "{what} has rows of {row} numbers, which are no whole blocks of {}",
                kind.block_size()
            )));
        }
        let blocks = shape
            .iter()
            .try_fold(1_u64, |product, size| product.checked_mul(*size as u64))
            .map(|numbers| numbers / kind.block_size() as u64);
        let bytes = blocks.and_then(|blocks| blocks.checked_mul(kind.type_size() as u64));
        Ok(TensorInfo {
            kind,
            shape,
            offset,
            bytes: bytes.ok_or_else(|| format!("{what} has more numbers than any file holds"))?,
        })
    }
}

fn scalar(code: u32, what: &str) -> Result<Scalar, String> {
    Scalar::of_code(code).ok_or_else(|| format!("{what} is of type {code}, which the format does not have"))
}

fn flags_are_flags(scalar: Scalar, bytes: &[u8], what: &str) -> Result<(), String> {
    if scalar == Scalar::Bool && bytes.iter().any(|byte| *byte > 1) {
        return Err(format!("{what} is a flag that is neither true nor false"));
    }
    Ok(())
}
