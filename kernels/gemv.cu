// Products of up to 64 rows with half float weights.

#include "common/gemv.cuh"

GEMV_KERNELS(bf16, bf16, Dense<bf16>)
GEMV_KERNELS(f16, f16, Dense<f16>)
