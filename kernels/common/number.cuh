// f16 and bf16: conversions, pairs in 32 bits, eights in 128.
#pragma once

#include "common/platform.cuh"

using bf16 = __nv_bfloat16;
using f16 = __half;

__device__ __forceinline__ float to_float(float value) { return value; }
__device__ __forceinline__ float to_float(bf16 value) { return __bfloat162float(value); }
__device__ __forceinline__ float to_float(f16 value) { return __half2float(value); }

template <class T> __device__ __forceinline__ T from_float(float value);
template <> __device__ __forceinline__ float from_float<float>(float value) { return value; }
template <> __device__ __forceinline__ bf16 from_float<bf16>(float value) { return __float2bfloat16_rn(value); }
template <> __device__ __forceinline__ f16 from_float<f16>(float value) { return __float2half_rn(value); }

// The value after rounding to T.
template <class T> __device__ __forceinline__ float rounded(float value) { return to_float(from_float<T>(value)); }

template <class T> __device__ __forceinline__ T from_bits(uint16_t bits) {
    static_assert(sizeof(T) == 2, "for half floats");
    T value;
    memcpy(&value, &bits, 2);
    return value;
}
template <class T> __device__ __forceinline__ uint32_t bits_of(T value) {
    static_assert(sizeof(T) == 2, "for half floats");
    uint16_t bits;
    memcpy(&bits, &value, 2);
    return bits;
}

// Two numbers in one register, the first in the low half.
template <class T> __device__ __forceinline__ uint32_t pack(float low, float high) {
#ifdef __CUDACC__
    if constexpr (sizeof(T) == 2 && std::is_same<T, bf16>::value) {
        __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
        uint32_t bits;
        memcpy(&bits, &pair, 4);
        return bits;
    } else {
        __half2 pair = __floats2half2_rn(low, high);
        uint32_t bits;
        memcpy(&bits, &pair, 4);
        return bits;
    }
#else
    return bits_of(from_float<T>(low)) | bits_of(from_float<T>(high)) << 16;
#endif
}

template <class T> __device__ __forceinline__ float2 unpack(uint32_t pair);
template <> __device__ __forceinline__ float2 unpack<bf16>(uint32_t pair) {
    return make_float2(__uint_as_float(pair << 16), __uint_as_float(pair & 0xFFFF0000u));
}
template <> __device__ __forceinline__ float2 unpack<f16>(uint32_t pair) {
    return make_float2(to_float(from_bits<f16>(static_cast<uint16_t>(pair))),
                       to_float(from_bits<f16>(static_cast<uint16_t>(pair >> 16))));
}

__device__ __forceinline__ bool on_16_bytes(const void *at) { return (reinterpret_cast<uintptr_t>(at) & 15) == 0; }

// Values `at` to `at + 8` of a row of `width`, zeros past its end. `wide`: the row begins on 16 bytes.
template <class T>
__device__ __forceinline__ void read8(const T *row, uint32_t at, uint32_t width, bool wide, float (&values)[8]) {
    if (wide && at + 8 <= width) {
        uint4 all = *reinterpret_cast<const uint4 *>(row + at);
        const uint32_t pairs[4] = {all.x, all.y, all.z, all.w};
#pragma unroll
        for (int i = 0; i < 4; i++) {
            float2 pair = unpack<T>(pairs[i]);
            values[2 * i] = pair.x;
            values[2 * i + 1] = pair.y;
        }
    } else {
#pragma unroll
        for (uint32_t i = 0; i < 8; i++) values[i] = at + i < width ? to_float(row[at + i]) : 0.0f;
    }
}
template <>
__device__ __forceinline__ void read8<float>(const float *row, uint32_t at, uint32_t width, bool wide,
                                             float (&values)[8]) {
    if (wide && at + 8 <= width) {
        float4 low = *reinterpret_cast<const float4 *>(row + at), high = *reinterpret_cast<const float4 *>(row + at + 4);
        values[0] = low.x, values[1] = low.y, values[2] = low.z, values[3] = low.w;
        values[4] = high.x, values[5] = high.y, values[6] = high.z, values[7] = high.w;
    } else {
#pragma unroll
        for (uint32_t i = 0; i < 8; i++) values[i] = at + i < width ? row[at + i] : 0.0f;
    }
}

template <class T>
__device__ __forceinline__ void write8(T *row, uint32_t at, uint32_t width, bool wide, const float (&values)[8]) {
    if (wide && at + 8 <= width) {
        *reinterpret_cast<uint4 *>(row + at) =
            make_uint4(pack<T>(values[0], values[1]), pack<T>(values[2], values[3]), pack<T>(values[4], values[5]),
                       pack<T>(values[6], values[7]));
    } else {
#pragma unroll
        for (uint32_t i = 0; i < 8; i++)
            if (at + i < width) row[at + i] = from_float<T>(values[i]);
    }
}
template <>
__device__ __forceinline__ void write8<float>(float *row, uint32_t at, uint32_t width, bool wide,
                                              const float (&values)[8]) {
    if (wide && at + 8 <= width) {
        *reinterpret_cast<float4 *>(row + at) = make_float4(values[0], values[1], values[2], values[3]);
        *reinterpret_cast<float4 *>(row + at + 4) = make_float4(values[4], values[5], values[6], values[7]);
    } else {
#pragma unroll
        for (uint32_t i = 0; i < 8; i++)
            if (at + i < width) row[at + i] = values[i];
    }
}

// The same as it lies, zeros past the end: eight half floats of global memory that nobody writes meanwhile.
template <class T>
__device__ __forceinline__ uint4 raw8(const T *row, uint32_t at, uint32_t width, bool wide) {
    if (wide && at + 8 <= width) return __ldg(reinterpret_cast<const uint4 *>(row + at));
    uint32_t pairs[4];
#pragma unroll
    for (uint32_t i = 0; i < 4; i++) {
        uint32_t low = at + 2 * i < width ? bits_of(row[at + 2 * i]) : 0;
        uint32_t high = at + 2 * i + 1 < width ? bits_of(row[at + 2 * i + 1]) : 0;
        pairs[i] = low | high << 16;
    }
    return make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]);
}
