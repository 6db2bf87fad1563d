//! The kernels of `kernels/`, by name and with the shape of a launch that `kernels/README.md` asks for.

use std::sync::Arc;

use super::device::{Address, Arg, Device, DeviceError, Half, Launch, Product, Region};
use super::names::{BF16, F16, Names, REPACK};

/// Rows up to which a product reads its weights once by a kernel of our own, whose rows do not depend on each other;
/// more go to cuBLAS.
pub const FEW_ROWS: usize = 64;
/// The largest vocabulary that is sampled from on the device.
pub const MOST_SAMPLED: usize = 1 << 18;
/// Experts that a token may use, and may choose from.
pub const MOST_USED: usize = 32;
pub const MOST_EXPERTS: usize = 1024;
/// The widest head.
pub const WIDEST_HEAD: usize = 256;
/// A padding row's slot and position.
pub const NOWHERE: u32 = u32::MAX;
/// u32s of a row's sampling settings.
pub const SAMPLE_WORDS: usize = 16;

/// How a matrix is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Half,
    Q8_0,
    Q4K,
    Q6K,
}

impl Kind {
    /// Numbers that share a block.
    pub fn block(self) -> usize {
        match self {
            Self::Half => 1,
            Self::Q8_0 => 32,
            Self::Q4K | Self::Q6K => 256,
        }
    }

    /// Bytes of a block.
    pub fn block_bytes(self) -> usize {
        match self {
            Self::Half => 2,
            Self::Q8_0 => 34,
            Self::Q4K => 144,
            Self::Q6K => 210,
        }
    }

    pub fn bytes(self, numbers: usize) -> u64 {
        (numbers / self.block() * self.block_bytes()) as u64
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    Silu,
    GeluTanh,
    GeluErf,
    Relu,
}

/// The place of a quantised kind in the tables of names.
pub fn packed(kind: Kind) -> Option<usize> {
    match kind {
        Kind::Half => None,
        Kind::Q8_0 => Some(0),
        Kind::Q4K => Some(1),
        Kind::Q6K => Some(2),
    }
}

/// Launches kernels on one device for one kind of half floats.
///
/// Every [`Region`] that comes in must be of memory that stays until the stream has passed the launch; the decoder
/// owns all of it for as long as it lives.
#[derive(Clone)]
pub struct Kernels {
    device: Arc<dyn Device>,
    half: Half,
    pub(super) names: &'static Names,
}

/// A matrix with weights, `[outputs, inputs]`.
#[derive(Clone, Copy, Debug)]
pub struct Matrix {
    pub kind: Kind,
    pub at: Region,
    pub inputs: usize,
    pub outputs: usize,
}

/// Rows of numbers: `stride` values from one to the next.
#[derive(Clone, Copy, Debug)]
pub struct Rows {
    pub at: Region,
    pub stride: usize,
}

/// Where a product goes.
#[derive(Clone, Copy, Debug)]
pub struct Out {
    pub rows: Rows,
    /// f32; else half floats.
    pub wide: bool,
}

impl Kernels {
    pub fn new(device: Arc<dyn Device>, half: Half) -> Self {
        let names = match half {
            Half::F16 => &F16,
            Half::Bf16 => &BF16,
        };
        Self { device, half, names }
    }

    pub fn half(&self) -> Half {
        self.half
    }

    pub fn device(&self) -> &Arc<dyn Device> {
        &self.device
    }

    pub(super) fn launch(
        &self,
        kernel: &'static str,
        grid: [usize; 3],
        block: usize,
        shared: usize,
        args: &[Arg],
    ) -> Result<(), DeviceError> {
        if grid.contains(&0) {
            return Ok(());
        }
        let launch = Launch {
            kernel: kernel.into(),
            grid: grid.map(|n| n as u32),
            block: [block as u32, 1, 1],
            shared: shared as u32,
        };
        // SAFETY: each caller here passes what the README says this kernel takes; regions are alive, see `Kernels`.
        unsafe { self.device.launch(&launch, args) }
    }

    /// `out[i] = table[ids[i]] · scale`, `[rows, hidden]`.
    pub fn embed(
        &self,
        out: Region,
        table: Matrix,
        ids: Region,
        rows: usize,
        scale: f32,
    ) -> Result<(), DeviceError> {
        let hidden = u(table.inputs);
        let head = [p(out), p(table.at), p(ids), hidden];
        let grid = [rows, 1, 1];
        match packed(table.kind) {
            None => self.launch(
                self.names.embed,
                grid,
                256,
                0,
                &[head[0], head[1], head[2], head[3], f(scale)],
            ),
            Some(kind) => {
                let args = [head[0], head[1], head[2], head[3], u(table.outputs), f(scale)];
                self.launch(self.names.embed_packed[kind], grid, 256, 0, &args)
            }
        }
    }

    /// `out[i] = norm(x[rows[i]]) · weight`.
    #[expect(clippy::too_many_arguments)]
    pub fn rms_norm(
        &self,
        out: Rows,
        x: Rows,
        weight: Region,
        which: Option<Region>,
        rows: usize,
        width: usize,
        eps: f32,
    ) -> Result<(), DeviceError> {
        let args = [
            p(out.at),
            p(x.at),
            p(weight),
            maybe(which),
            u(width),
            u(x.stride),
            u(out.stride),
            f(eps),
        ];
        self.launch(self.names.rms_norm, [rows, 1, 1], 512, 0, &args)
    }

    /// `stream += scale · norm(part)`, then `out = norm(stream)`; each norm only where its weight is given.
    #[expect(clippy::too_many_arguments)]
    pub fn residual_norm(
        &self,
        out: Option<Region>,
        stream: Region,
        part: Region,
        part_weight: Option<Region>,
        weight: Option<Region>,
        rows: usize,
        width: usize,
        scale: f32,
        eps: f32,
    ) -> Result<(), DeviceError> {
        let args = [
            maybe(out),
            p(stream),
            p(part),
            maybe(part_weight),
            maybe(weight),
            u(width),
            f(scale),
            f(eps),
        ];
        self.launch(self.names.residual_norm, [rows, 1, 1], 512, 0, &args)
    }

    /// `out = gate(x's first half) · second half`, `[rows, inner]` from `[rows, 2 · inner]`.
    pub fn gated(
        &self,
        gate: Gate,
        out: Region,
        x: Region,
        rows: usize,
        inner: usize,
    ) -> Result<(), DeviceError> {
        let args = [p(out), p(x), u(inner)];
        let grid = [rows, inner.div_ceil(2048), 1];
        self.launch(self.names.gated[gate as usize], grid, 256, 0, &args)
    }

    pub fn add_bias(&self, x: Rows, bias: Region, rows: usize, width: usize) -> Result<(), DeviceError> {
        let args = [p(x.at), p(bias), u(width), u(x.stride)];
        self.launch(
            self.names.add_bias,
            [rows, width.div_ceil(2048), 1],
            256,
            0,
            &args,
        )
    }

    /// Divides f32 logits and caps them, in place.
    pub fn finish_logits(
        &self,
        logits: Region,
        numbers: usize,
        divisor: f32,
        softcap: f32,
    ) -> Result<(), DeviceError> {
        let args = [
            p(logits),
            p(logits),
            Arg::U64(numbers as u64),
            f(divisor),
            f(softcap),
        ];
        self.launch("finish_logits_f32", [numbers.div_ceil(2048), 1, 1], 256, 0, &args)
    }

    /// `out = x · matrixᵀ + bias` for up to [`FEW_ROWS`] rows.
    pub fn gemv(
        &self,
        out: Out,
        x: Rows,
        matrix: Matrix,
        bias: Option<Region>,
        rows: usize,
    ) -> Result<(), DeviceError> {
        let args = [
            p(out.rows.at),
            p(x.at),
            p(matrix.at),
            maybe(bias),
            u(rows),
            u(matrix.outputs),
            u(matrix.inputs),
            u(x.stride),
            u(out.rows.stride),
            u(usize::from(out.wide)),
        ];
        let size = match rows {
            0..=8 => 0,
            9..=16 => 1,
            17..=32 => 2,
            _ => 3,
        };
        let kernel = match packed(matrix.kind) {
            None => self.names.gemv[size],
            Some(kind) => self.names.gemv_packed[kind][size],
        };
        self.launch(kernel, [matrix.outputs.div_ceil(16), 1, 1], 256, 0, &args)
    }

    /// The same for any number of rows by cuBLAS, without a bias; the matrix must be of half floats and `x` without
    /// gaps.
    pub fn multiply(&self, out: Out, x: Region, matrix: Matrix, rows: usize) -> Result<(), DeviceError> {
        let product = Product {
            half: self.half,
            rows,
            inputs: matrix.inputs,
            outputs: matrix.outputs,
            x: x.at,
            weight: matrix.at.at,
            out: out.rows.at.at,
            out_stride: out.rows.stride,
            wide: out.wide,
        };
        // SAFETY: the regions are alive, see `Kernels`.
        unsafe { self.device.multiply(&product) }
    }

    /// From GGUF's order of blocks to the kernels'.
    pub fn repack(&self, to: Matrix, blocks: Region) -> Result<(), DeviceError> {
        let Some(kind) = packed(to.kind) else {
            return Ok(());
        };
        let args = [p(to.at), p(blocks), Arg::U64(to.outputs as u64), u(to.inputs)];
        let numbers = to.outputs * to.inputs;
        self.launch(REPACK[kind], [numbers.div_ceil(8192), 1, 1], 256, 0, &args)
    }

    /// A quantised matrix as half floats.
    pub fn dequantise(&self, to: Region, matrix: Matrix) -> Result<(), DeviceError> {
        let Some(kind) = packed(matrix.kind) else {
            return Ok(());
        };
        let args = [
            p(to),
            p(matrix.at),
            Arg::U64(matrix.outputs as u64),
            u(matrix.inputs),
        ];
        let numbers = matrix.outputs * matrix.inputs;
        self.launch(
            self.names.dequantise[kind],
            [numbers.div_ceil(2048), 1, 1],
            256,
            0,
            &args,
        )
    }

    /// Fills half floats by counter, see [`crate::model::random`].
    pub fn random(
        &self,
        out: Region,
        numbers: u64,
        seed: u64,
        scale: f32,
        offset: f32,
    ) -> Result<(), DeviceError> {
        let args = [p(out), Arg::U64(numbers), Arg::U64(seed), f(scale), f(offset)];
        self.launch(
            self.names.random,
            [numbers.div_ceil(2048) as usize, 1, 1],
            256,
            0,
            &args,
        )
    }
}

impl Kernels {
    /// Changes f32 logits `[rows, vocabulary]` as their rows' settings say, in place.
    pub fn adjust(
        &self,
        logits: Region,
        settings: Region,
        history: Region,
        biases: Region,
        rows: usize,
        vocabulary: usize,
    ) -> Result<(), DeviceError> {
        let args = [
            p(logits),
            p(settings),
            p(history),
            p(biases),
            Arg::Pointer(Address(0)),
            u(vocabulary),
        ];
        self.launch("adjust_logits", [rows, 1, 1], 1024, 0, &args)
    }

    /// Draws a token a row.
    pub fn sample(
        &self,
        tokens: Region,
        logprobs: Region,
        logits: Region,
        settings: Region,
        rows: usize,
        vocabulary: usize,
    ) -> Result<(), DeviceError> {
        let args = [p(tokens), p(logprobs), p(logits), p(settings), u(vocabulary)];
        self.launch("sample", [rows, 1, 1], 1024, 0, &args)
    }
}

pub fn p(region: Region) -> Arg {
    Arg::Pointer(region.at)
}

pub fn maybe(region: Option<Region>) -> Arg {
    Arg::Pointer(region.map_or(Address(0), |region| region.at))
}

pub fn u(number: usize) -> Arg {
    Arg::U32(number as u32)
}

pub fn f(number: f32) -> Arg {
    Arg::F32(number)
}
