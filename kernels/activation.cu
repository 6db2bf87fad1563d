// Element by element: the gate of a feed-forward part, biases, the last touch on logits. A thread takes eight values.

#include "common/number.cuh"

struct Silu {
    static __device__ __forceinline__ float of(float x) { return x / (1.0f + __expf(-x)); }
};
struct GeluTanh {
    // 0.5·x·(1 + tanh(y)) = x / (1 + exp(−2y)), y = √(2/π)·(x + 0.044715·x³)
    static __device__ __forceinline__ float of(float x) {
        return x / (1.0f + __expf(-1.5957691216057308f * (x + 0.044715f * x * x * x)));
    }
};
struct GeluErf {
    static __device__ __forceinline__ float of(float x) { return 0.5f * x * erfcf(-0.70710678118654752f * x); }
};
struct Relu {
    static __device__ __forceinline__ float of(float x) { return fmaxf(x, 0.0f); }
};

template <class T, class Activation>
__device__ __forceinline__ void gated(T *out, const T *gate_up, uint32_t inner) {
    const uint32_t at = (blockIdx.y * blockDim.x + threadIdx.x) * 8;
    if (at >= inner) return;
    const uint64_t row = blockIdx.x;
    const T *gate = gate_up + row * 2 * inner, *up = gate + inner;
    out += row * inner;
    float gates[8], ups[8];
    read8(gate, at, inner, on_16_bytes(gate), gates);
    read8(up, at, inner, on_16_bytes(up), ups);
#pragma unroll
    for (int i = 0; i < 8; i++) gates[i] = Activation::of(gates[i]) * ups[i];
    write8(out, at, inner, on_16_bytes(out), gates);
}

template <class T> __device__ __forceinline__ void add_bias(T *x, const T *bias, uint32_t width, uint32_t stride) {
    const uint32_t at = (blockIdx.y * blockDim.x + threadIdx.x) * 8;
    if (at >= width) return;
    x += static_cast<uint64_t>(blockIdx.x) * stride;
    float values[8], biases[8];
    read8<T>(x, at, width, on_16_bytes(x), values);
    read8(bias, at, width, on_16_bytes(bias), biases);
#pragma unroll
    for (int i = 0; i < 8; i++) values[i] += biases[i];
    write8(x, at, width, on_16_bytes(x), values);
}

template <class T>
__device__ __forceinline__ void finish_logits(float *out, const T *logits, uint64_t n, float divisor, float softcap) {
    const uint64_t from = static_cast<uint64_t>(blockIdx.x) * blockDim.x * 8;
    const uint32_t at = threadIdx.x * 8;
    if (from + at >= n) return;
    logits += from;
    out += from;
    const uint32_t width = static_cast<uint32_t>(n - from < blockDim.x * 8 ? n - from : blockDim.x * 8);
    float values[8];
    read8(logits, at, width, on_16_bytes(logits), values);
#pragma unroll
    for (int i = 0; i < 8; i++) {
        values[i] /= divisor;
        if (softcap > 0.0f) values[i] = softcap * tanhf(values[i] / softcap);
    }
    write8(out, at, width, on_16_bytes(out), values);
}

#define GATED_KERNEL(T, name, Activation)                                                                              \
    KERNEL(256) gated_##name##_##T(T *out, const T *gate_up, uint32_t inner) {                                         \
        gated<T, Activation>(out, gate_up, inner);                                                                     \
    }                                                                                                                  \
    REGISTER_KERNEL(gated_##name##_##T)

#define LOGITS_KERNEL(T, name)                                                                                         \
    KERNEL(256) finish_logits_##name(float *out, const T *logits, uint64_t n, float divisor, float softcap) {          \
        finish_logits(out, logits, n, divisor, softcap);                                                               \
    }                                                                                                                  \
    REGISTER_KERNEL(finish_logits_##name)

#define ACTIVATION_KERNELS(T)                                                                                          \
    GATED_KERNEL(T, silu, Silu)                                                                                        \
    GATED_KERNEL(T, gelu_tanh, GeluTanh)                                                                               \
    GATED_KERNEL(T, gelu_erf, GeluErf)                                                                                 \
    GATED_KERNEL(T, relu, Relu)                                                                                        \
    LOGITS_KERNEL(T, T)                                                                                                \
    KERNEL(256) add_bias_##T(T *x, const T *bias, uint32_t width, uint32_t stride) {                                   \
        add_bias(x, bias, width, stride);                                                                              \
    }                                                                                                                  \
    REGISTER_KERNEL(add_bias_##T)

ACTIVATION_KERNELS(bf16)
ACTIVATION_KERNELS(f16)
LOGITS_KERNEL(float, f32)
