//! The kernels of `kernels/`, by name and with the shape of a launch that `kernels/README.md` asks for.

use std::sync::Arc;

use super::device::{Address, Arg, Device, DeviceError, Half, Launch, Product, Region};

/// Rows up to which a product reads its weights once by a kernel of our own, whose rows do not depend on each other;
/// more go to cuBLAS.
pub const FEW_ROWS: usize = 64;
/// Tokens of a split of decode attention.
pub const SPLIT_TOKENS: usize = 128;
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

/// Every kernel's name for one kind of half floats, by what else varies.
struct Names {
    embed: &'static str,
    embed_packed: [&'static str; 3],
    rms_norm: &'static str,
    residual_norm: &'static str,
    rope_kv: &'static str,
    /// By head width: 64, 96, 128, 256.
    decode_attention: [&'static str; 4],
    decode_attention_reduce: &'static str,
    prefill_attention: [&'static str; 4],
    gated: [&'static str; 4],
    add_bias: &'static str,
    /// By rows: 8, 16, 32, 64.
    gemv: [&'static str; 4],
    gemv_packed: [[&'static str; 4]; 3],
    dequantise: [&'static str; 3],
    /// By rows: 8, 32.
    moe_gemv: [&'static str; 2],
    moe_gemv_packed: [[&'static str; 2]; 3],
    moe_combine: &'static str,
    random: &'static str,
}

macro_rules! names {
    ($t:literal) => {
        Names {
            embed: concat!("embed_", $t),
            embed_packed: [
                concat!("embed_q8_0_", $t),
                concat!("embed_q4_k_", $t),
                concat!("embed_q6_k_", $t),
            ],
            rms_norm: concat!("rms_norm_", $t),
            residual_norm: concat!("residual_norm_", $t),
            rope_kv: concat!("rope_kv_", $t),
            decode_attention: [
                concat!("decode_attention_", $t, "_d64"),
                concat!("decode_attention_", $t, "_d96"),
                concat!("decode_attention_", $t, "_d128"),
                concat!("decode_attention_", $t, "_d256"),
            ],
            decode_attention_reduce: concat!("decode_attention_reduce_", $t),
            prefill_attention: [
                concat!("prefill_attention_", $t, "_d64"),
                concat!("prefill_attention_", $t, "_d96"),
                concat!("prefill_attention_", $t, "_d128"),
                concat!("prefill_attention_", $t, "_d256"),
            ],
            gated: [
                concat!("gated_silu_", $t),
                concat!("gated_gelu_tanh_", $t),
                concat!("gated_gelu_erf_", $t),
                concat!("gated_relu_", $t),
            ],
            add_bias: concat!("add_bias_", $t),
            gemv: [
                concat!("gemv_", $t, "_m8"),
                concat!("gemv_", $t, "_m16"),
                concat!("gemv_", $t, "_m32"),
                concat!("gemv_", $t, "_m64"),
            ],
            gemv_packed: [
                names!(@gemv "q8_0", $t),
                names!(@gemv "q4_k", $t),
                names!(@gemv "q6_k", $t),
            ],
            dequantise: [
                concat!("dequantise_q8_0_", $t),
                concat!("dequantise_q4_k_", $t),
                concat!("dequantise_q6_k_", $t),
            ],
            moe_gemv: [concat!("moe_gemv_", $t, "_m8"), concat!("moe_gemv_", $t, "_m32")],
            moe_gemv_packed: [
                names!(@moe "q8_0", $t),
                names!(@moe "q4_k", $t),
                names!(@moe "q6_k", $t),
            ],
            moe_combine: concat!("moe_combine_", $t),
            random: concat!("random_", $t),
        }
    };
    (@gemv $q:literal, $t:literal) => {
        [
            concat!("gemv_", $q, "_", $t, "_m8"),
            concat!("gemv_", $q, "_", $t, "_m16"),
            concat!("gemv_", $q, "_", $t, "_m32"),
            concat!("gemv_", $q, "_", $t, "_m64"),
        ]
    };
    (@moe $q:literal, $t:literal) => {
        [
            concat!("moe_gemv_", $q, "_", $t, "_m8"),
            concat!("moe_gemv_", $q, "_", $t, "_m32"),
        ]
    };
}

static BF16: Names = names!("bf16");
static F16: Names = names!("f16");
const REPACK: [&str; 3] = ["repack_q8_0", "repack_q4_k", "repack_q6_k"];

/// The place of a quantised kind in the tables of names.
fn packed(kind: Kind) -> Option<usize> {
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
    names: &'static Names,
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

pub struct Turn {
    pub qkv: Region,
    pub keys: Region,
    pub values: Region,
    pub cos: Region,
    pub sin: Region,
    pub table_rows: Region,
    pub slots: Region,
    pub query_norm: Option<Region>,
    pub key_norm: Option<Region>,
    pub rotary_dim: usize,
    pub eps: f32,
}

/// Heads of a layer, and how it attends.
#[derive(Clone, Copy, Debug)]
pub struct Attention {
    pub query_heads: usize,
    pub kv_heads: usize,
    pub dim: usize,
    pub window: usize,
    pub softcap: f32,
    pub scale: f32,
}

impl Attention {
    fn fused(&self) -> usize {
        (self.query_heads + 2 * self.kv_heads) * self.dim
    }

    fn suffix(&self) -> usize {
        match self.dim {
            0..=64 => 0,
            65..=96 => 1,
            97..=128 => 2,
            _ => 3,
        }
    }

    /// Splits that a context of `tokens` has at most.
    pub fn splits(&self, tokens: usize) -> usize {
        let all = tokens.div_ceil(SPLIT_TOKENS).max(1);
        match self.window {
            0 => all,
            window => all.min(window.div_ceil(SPLIT_TOKENS) + 1),
        }
    }
}

/// The keys and values of a layer, and which of them each row sees.
#[derive(Clone, Copy, Debug)]
pub struct Pages {
    pub keys: Region,
    pub values: Region,
    pub tables: Region,
    pub table_width: usize,
    pub positions: Region,
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

    fn launch(
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
            kernel,
            grid: grid.map(|n| n as u32),
            block: [block as u32, 1, 1],
            shared: shared as u32,
        };
        // SAFETY: each caller here passes what the README says this kernel takes; regions are alive, see `Kernels`.
        unsafe { self.device.launch(&launch, args) }
    }

    /// `out[i] = table[ids[i]] · scale`, `[rows, hidden]`.
    pub fn embed(&self, out: Region, table: Matrix, ids: Region, rows: usize, scale: f32) -> Result<(), DeviceError> {
        let hidden = u(table.inputs);
        let head = [p(out), p(table.at), p(ids), hidden];
        let grid = [rows, 1, 1];
        match packed(table.kind) {
            None => self.launch(self.names.embed, grid, 256, 0, &[head[0], head[1], head[2], head[3], f(scale)]),
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

    /// Norms and turns queries and keys, and writes keys and values into their pages.
    pub fn rope_kv(&self, turn: &Turn, heads: Attention, rows: usize) -> Result<(), DeviceError> {
        let args = [
            p(turn.qkv),
            p(turn.keys),
            p(turn.values),
            p(turn.cos),
            p(turn.sin),
            p(turn.table_rows),
            p(turn.slots),
            maybe(turn.query_norm),
            maybe(turn.key_norm),
            u(heads.query_heads),
            u(heads.kv_heads),
            u(heads.dim),
            u(turn.rotary_dim),
            u(0),
            f(turn.eps),
        ];
        let all = heads.query_heads + 2 * heads.kv_heads;
        self.launch(self.names.rope_kv, [rows, all.div_ceil(4), 1], 128, 0, &args)
    }

    /// One token a row. `partial` and `stats` are room for `rows · query_heads · splits` partial results.
    #[expect(clippy::too_many_arguments)]
    pub fn decode_attention(
        &self,
        out: Region,
        queries: Region,
        pages: Pages,
        heads: Attention,
        partial: Region,
        stats: Region,
        rows: usize,
        splits: usize,
    ) -> Result<(), DeviceError> {
        let args = [
            p(partial),
            p(stats),
            p(queries),
            p(pages.keys),
            p(pages.values),
            p(pages.tables),
            p(pages.positions),
            u(pages.table_width),
            u(heads.fused()),
            u(heads.query_heads),
            u(heads.kv_heads),
            u(heads.dim),
            u(splits),
            u(heads.window),
            f(heads.softcap),
            f(heads.scale),
        ];
        let groups = (heads.query_heads / heads.kv_heads).div_ceil(16);
        let grid = [splits, heads.kv_heads * groups, rows];
        self.launch(self.names.decode_attention[heads.suffix()], grid, 128, 0, &args)?;
        let args = [
            p(out),
            p(partial),
            p(stats),
            p(pages.positions),
            u(heads.query_heads),
            u(heads.dim),
            u(splits),
            u(heads.window),
        ];
        let grid = [rows, heads.query_heads, 1];
        self.launch(self.names.decode_attention_reduce, grid, 256, 0, &args)
    }

    /// Several tokens a sequence; `out`, `queries` and the positions are those of the whole batch, tables and
    /// `cu_seqlens` begin at the first of `sequences`.
    #[expect(clippy::too_many_arguments)]
    pub fn prefill_attention(
        &self,
        out: Region,
        queries: Region,
        pages: Pages,
        heads: Attention,
        cu_seqlens: Region,
        sequences: usize,
        longest: usize,
    ) -> Result<(), DeviceError> {
        let args = [
            p(out),
            p(queries),
            p(pages.keys),
            p(pages.values),
            p(pages.tables),
            p(pages.positions),
            p(cu_seqlens),
            u(pages.table_width),
            u(heads.fused()),
            u(heads.query_heads),
            u(heads.kv_heads),
            u(heads.dim),
            u(heads.window),
            f(heads.softcap),
            f(heads.scale),
        ];
        let (tile, shared) = [(128, 49152), (128, 73728), (128, 98304), (64, 163_840)][heads.suffix()];
        let group = heads.query_heads / heads.kv_heads;
        let grid = [(longest * group).div_ceil(tile), heads.kv_heads, sequences];
        self.launch(self.names.prefill_attention[heads.suffix()], grid, 128, shared, &args)
    }

    /// `out = gate(x's first half) · second half`, `[rows, inner]` from `[rows, 2 · inner]`.
    pub fn gated(&self, gate: Gate, out: Region, x: Region, rows: usize, inner: usize) -> Result<(), DeviceError> {
        let args = [p(out), p(x), u(inner)];
        let grid = [rows, inner.div_ceil(2048), 1];
        self.launch(self.names.gated[gate as usize], grid, 256, 0, &args)
    }

    pub fn add_bias(&self, x: Rows, bias: Region, rows: usize, width: usize) -> Result<(), DeviceError> {
        let args = [p(x.at), p(bias), u(width), u(x.stride)];
        self.launch(self.names.add_bias, [rows, width.div_ceil(2048), 1], 256, 0, &args)
    }

    /// Divides f32 logits and caps them, in place.
    pub fn finish_logits(&self, logits: Region, numbers: usize, divisor: f32, softcap: f32) -> Result<(), DeviceError> {
        let args = [p(logits), p(logits), Arg::U64(numbers as u64), f(divisor), f(softcap)];
        self.launch("finish_logits_f32", [numbers.div_ceil(2048), 1, 1], 256, 0, &args)
    }

    /// `out = x · matrixᵀ + bias` for up to [`FEW_ROWS`] rows.
    pub fn gemv(&self, out: Out, x: Rows, matrix: Matrix, bias: Option<Region>, rows: usize) -> Result<(), DeviceError> {
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
        let Some(kind) = packed(to.kind) else { return Ok(()) };
        let args = [p(to.at), p(blocks), Arg::U64(to.outputs as u64), u(to.inputs)];
        let numbers = to.outputs * to.inputs;
        self.launch(REPACK[kind], [numbers.div_ceil(8192), 1, 1], 256, 0, &args)
    }

    /// A quantised matrix as half floats.
    pub fn dequantise(&self, to: Region, matrix: Matrix) -> Result<(), DeviceError> {
        let Some(kind) = packed(matrix.kind) else { return Ok(()) };
        let args = [p(to), p(matrix.at), Arg::U64(matrix.outputs as u64), u(matrix.inputs)];
        let numbers = matrix.outputs * matrix.inputs;
        self.launch(self.names.dequantise[kind], [numbers.div_ceil(2048), 1, 1], 256, 0, &args)
    }

    /// Fills half floats by counter, see [`crate::model::random`].
    pub fn random(&self, out: Region, numbers: u64, seed: u64, scale: f32, offset: f32) -> Result<(), DeviceError> {
        let args = [p(out), Arg::U64(numbers), Arg::U64(seed), f(scale), f(offset)];
        self.launch(self.names.random, [numbers.div_ceil(2048) as usize, 1, 1], 256, 0, &args)
    }
}

/// What the experts of a layer are told of a batch.
#[derive(Clone, Copy, Debug)]
pub struct Calls {
    /// f32 `[tokens, used]`
    pub weights: Region,
    /// `[tokens, used]`
    pub experts: Region,
    /// `[tokens · used]`
    pub places: Region,
    /// `[count + 1]`
    pub starts: Region,
    pub count: usize,
    pub used: usize,
}

impl Kernels {
    /// Which experts each token calls, of f32 logits `[tokens, count]`.
    pub fn route(&self, calls: Calls, logits: Region, tokens: usize, renormalise: bool) -> Result<(), DeviceError> {
        let args = [
            p(calls.weights),
            p(calls.experts),
            p(logits),
            u(calls.count),
            u(calls.used),
            u(usize::from(renormalise)),
        ];
        self.launch("moe_route_f32", [tokens, 1, 1], 32, 0, &args)?;
        let args = [
            p(calls.places),
            p(calls.starts),
            p(calls.experts),
            u(tokens * calls.used),
            u(calls.count),
        ];
        self.launch("moe_sort", [1, 1, 1], 1024, 0, &args)
    }

    /// Each place's product with its expert's matrix; `matrix` is one expert's, the others follow it. Place `p` takes
    /// row `p / x_divisor` of `x`.
    pub fn by_experts(
        &self,
        out: Region,
        x: Region,
        matrix: Matrix,
        calls: Calls,
        tokens: usize,
        x_divisor: usize,
    ) -> Result<(), DeviceError> {
        let args = [
            p(out),
            p(x),
            p(matrix.at),
            p(calls.places),
            p(calls.starts),
            u(matrix.outputs),
            u(matrix.inputs),
            u(x_divisor),
        ];
        let size = usize::from(tokens * calls.used > 8 * calls.count);
        let kernel = match packed(matrix.kind) {
            None => self.names.moe_gemv[size],
            Some(kind) => self.names.moe_gemv_packed[kind][size],
        };
        self.launch(kernel, [matrix.outputs.div_ceil(16), calls.count, 1], 256, 0, &args)
    }

    /// Each token's weighted sum over its experts.
    pub fn combine(&self, out: Region, x: Region, calls: Calls, tokens: usize, hidden: usize) -> Result<(), DeviceError> {
        let args = [p(out), p(x), p(calls.weights), p(calls.experts), u(calls.used), u(hidden)];
        self.launch(self.names.moe_combine, [tokens, hidden.div_ceil(2048), 1], 256, 0, &args)
    }

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

fn p(region: Region) -> Arg {
    Arg::Pointer(region.at)
}

fn maybe(region: Option<Region>) -> Arg {
    Arg::Pointer(region.map_or(Address(0), |region| region.at))
}

fn u(number: usize) -> Arg {
    Arg::U32(number as u32)
}

fn f(number: f32) -> Arg {
    Arg::F32(number)
}
