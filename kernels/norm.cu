// Root-mean-square norm, alone and with the sum of the residual stream before it. One block a row.

#include "common/number.cuh"
#include "common/reduce.cuh"

template <class T>
__device__ __forceinline__ float sum_of_squares(const T *row, uint32_t width, bool wide, float *scratch) {
    float sum = 0.0f;
    for (uint32_t at = threadIdx.x * 8; at < width; at += blockDim.x * 8) {
        float values[8];
        read8(row, at, width, wide, values);
#pragma unroll
        for (int i = 0; i < 8; i++) sum += values[i] * values[i];
    }
    return block_sum(sum, scratch);
}

__device__ __forceinline__ float inverse_root(float squares, uint32_t width, float eps) {
    return rsqrtf(squares / static_cast<float>(width) + eps);
}

// Every thread writes what it alone has read, so `out` may be `x`.
template <class T>
__device__ __forceinline__ void write_normed(T *out, const T *x, const float *weight, uint32_t width, float inverse) {
    const bool wide = on_16_bytes(x), wide_out = on_16_bytes(out), wide_weight = on_16_bytes(weight);
    for (uint32_t at = threadIdx.x * 8; at < width; at += blockDim.x * 8) {
        float values[8], weights[8];
        read8(x, at, width, wide, values);
        read8(weight, at, width, wide_weight, weights);
#pragma unroll
        for (int i = 0; i < 8; i++) values[i] = values[i] * inverse * weights[i];
        write8(out, at, width, wide_out, values);
    }
}

template <class T>
__device__ __forceinline__ void rms_norm(T *out, const T *x, const float *weight, const uint32_t *rows, uint32_t width,
                                         uint32_t x_stride, uint32_t out_stride, float eps) {
    SHARED_ARRAY(float, scratch, 32);
    const uint64_t source = rows ? rows[blockIdx.x] : blockIdx.x;
    x += source * x_stride;
    out += static_cast<uint64_t>(blockIdx.x) * out_stride;
    const float squares = sum_of_squares(x, width, on_16_bytes(x), scratch);
    write_normed(out, x, weight, width, inverse_root(squares, width, eps));
}

template <class T>
__device__ __forceinline__ void residual_norm(T *out, T *stream, const T *part, const float *part_weight,
                                              const float *weight, uint32_t width, float scale, float eps) {
    SHARED_ARRAY(float, scratch, 32);
    const uint64_t from = static_cast<uint64_t>(blockIdx.x) * width;
    stream += from;
    part += from;
    const bool wide = on_16_bytes(stream), wide_part = on_16_bytes(part), wide_weight = on_16_bytes(part_weight);
    float inverse = 1.0f;
    if (part_weight) inverse = inverse_root(sum_of_squares(part, width, wide_part, scratch), width, eps);
    float squares = 0.0f;
    for (uint32_t at = threadIdx.x * 8; at < width; at += blockDim.x * 8) {
        float sums[8], parts[8], weights[8];
        read8<T>(stream, at, width, wide, sums);
        read8(part, at, width, wide_part, parts);
        if (part_weight) {
            read8(part_weight, at, width, wide_weight, weights);
#pragma unroll
            for (int i = 0; i < 8; i++) parts[i] *= inverse * weights[i];
        }
#pragma unroll
        for (int i = 0; i < 8; i++) {
            sums[i] = rounded<T>(sums[i] + scale * parts[i]);
            squares += sums[i] * sums[i];
        }
        write8(stream, at, width, wide, sums);
    }
    if (!out) return;
    out += from;
    if (weight) {
        const float own = inverse_root(block_sum(squares, scratch), width, eps);
        write_normed<T>(out, stream, weight, width, own);
        return;
    }
    const bool wide_out = on_16_bytes(out);
    for (uint32_t at = threadIdx.x * 8; at < width; at += blockDim.x * 8) {
        float sums[8];
        read8<T>(stream, at, width, wide, sums);
        write8(out, at, width, wide_out, sums);
    }
}

#define NORM_KERNELS(T)                                                                                                \
    KERNEL(512)                                                                                                        \
    rms_norm_##T(T *out, const T *x, const float *weight, const uint32_t *rows, uint32_t width, uint32_t x_stride,     \
                 uint32_t out_stride, float eps) {                                                                     \
        rms_norm(out, x, weight, rows, width, x_stride, out_stride, eps);                                              \
    }                                                                                                                  \
    REGISTER_KERNEL(rms_norm_##T)                                                                                      \
    KERNEL(512)                                                                                                        \
    residual_norm_##T(T *out, T *stream, const T *part, const float *part_weight, const float *weight, uint32_t width, \
                      float scale, float eps) {                                                                        \
        residual_norm(out, stream, part, part_weight, weight, width, scale, eps);                                      \
    }                                                                                                                  \
    REGISTER_KERNEL(residual_norm_##T)

NORM_KERNELS(bf16)
NORM_KERNELS(f16)
