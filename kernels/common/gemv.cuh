// The kernels of gemv.cu and gemv_quantised.cu.
#pragma once

#include "common/multiply.cuh"

template <class T, class Kind, int NT>
__device__ __forceinline__ void gemv(void *out, const T *x, const void *w, const T *bias, uint32_t m, uint32_t n,
                                     uint32_t k, uint32_t x_stride, uint32_t out_stride, uint32_t out_f32) {
    SHARED_ARRAY(float, scratch, PRODUCT_WARPS *TILE_ROWS * 8 * NT);
    const uint32_t first = blockIdx.x * TILE_ROWS;
    multiply_tile<T, Kind, NT>(
        static_cast<const uint8_t *>(w), n, first, n - first, k, m, scratch,
        [&](uint32_t row) { return x + static_cast<uint64_t>(row) * x_stride; },
        [&](uint32_t row, uint32_t column, float sum) {
            if (bias) sum += to_float(bias[first + column]);
            const uint64_t at = static_cast<uint64_t>(row) * out_stride + first + column;
            if (out_f32)
                static_cast<float *>(out)[at] = sum;
            else
                static_cast<T *>(out)[at] = from_float<T>(sum);
        });
}

#define GEMV_KERNEL(name, T, Kind, M)                                                                                  \
    KERNEL(256)                                                                                                        \
    gemv_##name##_m##M(void *out, const T *x, const void *w, const T *bias, uint32_t m, uint32_t n, uint32_t k,        \
                       uint32_t x_stride, uint32_t out_stride, uint32_t out_f32) {                                     \
        gemv<T, Kind, M / 8>(out, x, w, bias, m, n, k, x_stride, out_stride, out_f32);                                 \
    }                                                                                                                  \
    REGISTER_KERNEL(gemv_##name##_m##M)

#define GEMV_KERNELS(name, T, Kind)                                                                                    \
    GEMV_KERNEL(name, T, Kind, 8)                                                                                      \
    GEMV_KERNEL(name, T, Kind, 16)                                                                                     \
    GEMV_KERNEL(name, T, Kind, 32)                                                                                     \
    GEMV_KERNEL(name, T, Kind, 64)
