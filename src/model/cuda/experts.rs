//! The kernels of mixtures of experts.

use super::device::{DeviceError, Region};
use super::kernels::{Kernels, Matrix, p, packed, u};

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
    pub fn route(
        &self,
        calls: Calls,
        logits: Region,
        tokens: usize,
        renormalise: bool,
    ) -> Result<(), DeviceError> {
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
        self.launch(
            kernel,
            [matrix.outputs.div_ceil(16), calls.count, 1],
            256,
            0,
            &args,
        )
    }

    /// Each token's weighted sum over its experts.
    pub fn combine(
        &self,
        out: Region,
        x: Region,
        calls: Calls,
        tokens: usize,
        hidden: usize,
    ) -> Result<(), DeviceError> {
        let args = [
            p(out),
            p(x),
            p(calls.weights),
            p(calls.experts),
            u(calls.used),
            u(hidden),
        ];
        self.launch(
            self.names.moe_combine,
            [tokens, hidden.div_ceil(2048), 1],
            256,
            0,
            &args,
        )
    }
}
