//! What the decoder asks of a CUDA device: memory, copies, launches, products of matrices, graphs.
//!
//! All work is put on one stream and done in the order it was put there; only [`Device::synchronise`] and the ends of a
//! capture wait. Two things implement it: the
//! driver ([`super::driver`], feature `cuda`) and, in tests, the kernels' own sources run on the CPU.

use std::any::Any;
use std::borrow::Cow;
use std::ptr::NonNull;
use std::sync::Arc;

/// A place in a device's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address(pub u64);

/// An argument of a kernel, by value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Arg {
    Pointer(Address),
    U32(u32),
    U64(u64),
    F32(f32),
}

/// What a launch is besides its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// The kernel's `extern "C"` name.
    pub kernel: Cow<'static, str>,
    pub grid: [u32; 3],
    pub block: [u32; 3],
    /// Bytes of dynamic shared memory.
    pub shared: u32,
}

/// Half floats: what weights, activations, keys and values are held as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Half {
    F16,
    Bf16,
}

impl Half {
    pub const BYTES: usize = 2;

    pub fn name(self) -> &'static str {
        match self {
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        }
    }
}

/// `out = x · weightᵀ` with sums in f32: `x` is `[rows, inputs]`, `weight` `[outputs, inputs]`, `out`
/// `[rows, outputs]`, row by row; the rows of `out` lie `out_stride` numbers apart, the others without gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Product {
    pub half: Half,
    pub rows: usize,
    pub inputs: usize,
    pub outputs: usize,
    pub x: Address,
    pub weight: Address,
    pub out: Address,
    pub out_stride: usize,
    /// `out` is f32; else it is `half` too.
    pub wide: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    #[error("{device} has no {wanted} MiB left for {what}: {free} MiB are free", wanted = wanted.div_ceil(1 << 20), free = free >> 20)]
    OutOfMemory {
        device: String,
        what: String,
        wanted: u64,
        free: u64,
    },
    #[error("{device} could not {what}: {reason}")]
    Failed {
        device: String,
        what: String,
        reason: String,
    },
}

/// Work that was captured and can be put on the stream again as it was.
pub type Graph = Box<dyn Any + Send>;

/// A CUDA device and its stream.
///
/// Everything that names an [`Address`] is unsafe: nobody checks that it lies in memory that is still allocated.
pub trait Device: Send + Sync {
    /// `cuda:0 (NVIDIA H200)`.
    fn name(&self) -> &str;
    /// Bytes of shared memory that a block may have.
    fn most_shared(&self) -> u32;
    /// Bytes nobody has taken, other processes included.
    fn free_bytes(&self) -> Result<u64, DeviceError>;
    /// # Errors
    /// `OutOfMemory`, after which the device is as it was.
    fn allocate(&self, bytes: u64, what: &str) -> Result<Address, DeviceError>;
    /// # Safety
    /// `at` was allocated here and nothing on the stream or later uses it.
    unsafe fn free(&self, at: Address);
    /// Main memory that copies need not wait for.
    fn allocate_pinned(&self, bytes: usize) -> Result<NonNull<u8>, DeviceError>;
    /// # Safety
    /// `at` came from `allocate_pinned` with `bytes`, and no copy on the stream or later uses it.
    unsafe fn free_pinned(&self, at: NonNull<u8>, bytes: usize);

    /// # Safety
    /// `to` has room; `from` stays as it is until the stream has passed this copy.
    unsafe fn upload(&self, to: Address, from: &[u8]) -> Result<(), DeviceError>;
    /// # Safety
    /// `from` has as many bytes; `to` is left alone until the stream has passed this copy.
    unsafe fn download(&self, to: &mut [u8], from: Address) -> Result<(), DeviceError>;
    /// # Safety
    /// Both have that many bytes and do not overlap.
    unsafe fn copy(&self, to: Address, from: Address, bytes: u64) -> Result<(), DeviceError>;
    /// # Safety
    /// `to` has that many bytes.
    unsafe fn fill(&self, to: Address, byte: u8, bytes: u64) -> Result<(), DeviceError>;

    /// # Safety
    /// The arguments are those the kernel takes and what they point to is there.
    unsafe fn launch(&self, launch: &Launch, args: &[Arg]) -> Result<(), DeviceError>;
    /// # Safety
    /// The matrices are there.
    unsafe fn multiply(&self, product: &Product) -> Result<(), DeviceError>;

    /// From here on work is noted, not done.
    fn begin_capture(&self) -> Result<(), DeviceError>;
    /// Ends the noting, also after a failure between.
    fn end_capture(&self) -> Result<Graph, DeviceError>;
    /// # Safety
    /// The graph was captured here, and all memory it names is still there.
    unsafe fn replay(&self, graph: &Graph) -> Result<(), DeviceError>;

    /// Waits until all work on the stream is done.
    fn synchronise(&self) -> Result<(), DeviceError>;
}

/// Device memory that comes back when dropped.
pub struct Memory {
    device: Arc<dyn Device>,
    at: Address,
    bytes: u64,
}

/// A part of some [`Memory`], whose owner outlives the work that is told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    pub at: Address,
    pub bytes: u64,
}

impl Memory {
    pub fn new(device: &Arc<dyn Device>, bytes: u64, what: &str) -> Result<Self, DeviceError> {
        Ok(Self {
            at: device.allocate(bytes.max(1), what)?,
            device: device.clone(),
            bytes,
        })
    }

    pub fn whole(&self) -> Region {
        Region {
            at: self.at,
            bytes: self.bytes,
        }
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // A stream that failed has ended; one that works must pass what uses this memory.
        let _ = self.device.synchronise();
        // SAFETY: the stream has passed all that was put on it, and the owner puts no more.
        unsafe { self.device.free(self.at) }
    }
}

impl Region {
    /// `bytes` from `offset` on.
    ///
    /// # Panics
    /// If the region ends before.
    pub fn part(self, offset: u64, bytes: u64) -> Self {
        assert!(
            offset.checked_add(bytes).is_some_and(|end| end <= self.bytes),
            "{bytes} bytes from {offset} are not in a region of {}",
            self.bytes
        );
        Self {
            at: Address(self.at.0 + offset),
            bytes,
        }
    }

    /// The rest from `offset` on.
    pub fn from(self, offset: u64) -> Self {
        self.part(offset, self.bytes.saturating_sub(offset))
    }
}

/// Main memory that copies need not wait for; it comes back when dropped.
pub struct Pinned {
    device: Arc<dyn Device>,
    at: NonNull<u8>,
    bytes: usize,
}

// SAFETY: it owns its bytes, as a `Vec` does.
unsafe impl Send for Pinned {}

impl Pinned {
    pub fn new(device: &Arc<dyn Device>, bytes: usize) -> Result<Self, DeviceError> {
        let bytes = bytes.max(1);
        let at = device.allocate_pinned(bytes)?;
        // SAFETY: the memory is new and has that many bytes.
        unsafe { at.as_ptr().write_bytes(0, bytes) };
        Ok(Self {
            at,
            device: device.clone(),
            bytes,
        })
    }

    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the memory is this value's own and was written when it was made.
        unsafe { std::slice::from_raw_parts(self.at.as_ptr(), self.bytes) }
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.at.as_ptr(), self.bytes) }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let _ = self.device.synchronise();
        // SAFETY: it was allocated with these bytes, and the stream has passed all copies.
        unsafe { self.device.free_pinned(self.at, self.bytes) }
    }
}
