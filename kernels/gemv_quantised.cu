// Products of up to 64 rows with packed quantised weights.

#include "common/gemv.cuh"

GEMV_KERNELS(q8_0_bf16, bf16, PackedQ8_0<bf16>)
GEMV_KERNELS(q8_0_f16, f16, PackedQ8_0<f16>)
GEMV_KERNELS(q4_k_bf16, bf16, PackedQ4_K<bf16>)
GEMV_KERNELS(q4_k_f16, f16, PackedQ4_K<f16>)
GEMV_KERNELS(q6_k_bf16, bf16, PackedQ6_K<bf16>)
GEMV_KERNELS(q6_k_f16, f16, PackedQ6_K<f16>)
