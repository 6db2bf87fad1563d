//! What a case asks of whatever runs kernels.

use half::{bf16, f16};

/// An argument of a kernel, by value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Argument {
    /// An address the bench gave; 0 is null.
    Pointer(u64),
    U32(u32),
    U64(u64),
    F32(f32),
}

/// What a launch is besides its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    pub kernel: String,
    pub grid: [u32; 3],
    pub block: u32,
    /// Bytes of dynamic shared memory.
    pub shared: u32,
}

impl Launch {
    pub fn new(kernel: impl Into<String>, grid: [u32; 3], block: u32) -> Self {
        Self {
            kernel: kernel.into(),
            grid,
            block,
            shared: 0,
        }
    }
}

/// A device or the CPU in its place. Memory stays until [`Bench::clear`].
pub trait Bench {
    /// Memory that holds `bytes` and that kernels only read. Begins on 16 bytes.
    fn input(&mut self, bytes: &[u8]) -> Result<u64, String>;
    /// Memory that holds `bytes` and that kernels may change. Begins on 16 bytes.
    fn changing(&mut self, bytes: &[u8]) -> Result<u64, String>;
    fn download(&mut self, address: u64, bytes: usize) -> Result<Vec<u8>, String>;
    /// Runs to the end.
    fn launch(&mut self, launch: &Launch, arguments: &[Argument]) -> Result<(), String>;
    /// Gives all memory back.
    fn clear(&mut self);
}

/// Outputs begin as this: NaN in every float format.
pub const POISON: u8 = 0xFF;

impl dyn Bench + '_ {
    /// Memory for an output, poisoned.
    pub fn output(&mut self, bytes: usize) -> Result<u64, String> {
        self.changing(&vec![POISON; bytes])
    }

    pub fn input_u32(&mut self, values: &[u32]) -> Result<u64, String> {
        self.input(bytemuck::cast_slice(values))
    }

    pub fn input_f32(&mut self, values: &[f32]) -> Result<u64, String> {
        self.input(bytemuck::cast_slice(values))
    }

    pub fn download_u32(&mut self, address: u64, count: usize) -> Result<Vec<u32>, String> {
        let bytes = self.download(address, 4 * count)?;
        Ok(bytes
            .as_chunks()
            .0
            .iter()
            .map(|b| u32::from_le_bytes(*b))
            .collect())
    }

    pub fn download_f32(&mut self, address: u64, count: usize) -> Result<Vec<f32>, String> {
        Ok(floats(&self.download(address, 4 * count)?))
    }

    pub fn download_half(&mut self, half: Half, address: u64, count: usize) -> Result<Vec<f64>, String> {
        let bytes = self.download(address, 2 * count)?;
        Ok(half.decode(&bytes))
    }
}

/// The f32 that `bytes` hold.
pub fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes
        .as_chunks()
        .0
        .iter()
        .map(|b| f32::from_le_bytes(*b))
        .collect()
}

/// The kernels' half float types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    F16,
    Bf16,
}

impl Half {
    /// As it stands in kernels' names.
    pub fn name(self) -> &'static str {
        match self {
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        }
    }

    /// The relative error a kernel may have.
    pub fn tolerance(self) -> f64 {
        match self {
            Self::F16 => 2e-3,
            Self::Bf16 => 1e-2,
        }
    }

    pub fn encode(self, values: &[f64]) -> Vec<u8> {
        let bits = |value: &f64| match self {
            Self::F16 => f16::from_f64(*value).to_bits(),
            Self::Bf16 => bf16::from_f64(*value).to_bits(),
        };
        values
            .iter()
            .flat_map(|value| bits(value).to_le_bytes())
            .collect()
    }

    pub fn decode(self, bytes: &[u8]) -> Vec<f64> {
        let value = |pair: &[u8]| {
            let bits = u16::from_le_bytes([pair[0], pair[1]]);
            match self {
                Self::F16 => f16::from_bits(bits).to_f64(),
                Self::Bf16 => bf16::from_bits(bits).to_f64(),
            }
        };
        bytes.chunks_exact(2).map(value).collect()
    }

    /// The values as this type holds them.
    pub fn round(self, values: Vec<f64>) -> Vec<f64> {
        self.decode(&self.encode(&values))
    }
}
