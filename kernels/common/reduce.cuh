// Sums and maxima over a warp or a block, in an order that depends on nothing but the block's size.
#pragma once

#include "common/platform.cuh"

__device__ __forceinline__ float warp_sum(float value) {
#pragma unroll
    for (int with = 16; with; with /= 2) value += __shfl_xor_sync(ALL_LANES, value, with);
    return value;
}

__device__ __forceinline__ float warp_max(float value) {
#pragma unroll
    for (int with = 16; with; with /= 2) value = fmaxf(value, __shfl_xor_sync(ALL_LANES, value, with));
    return value;
}

// The same sum for every thread. `scratch` holds 32 values and may be used again after the next barrier.
__device__ __forceinline__ float block_sum(float value, float *scratch) {
    const uint32_t lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, warps = (blockDim.x + WARP - 1) / WARP;
    value = warp_sum(value);
    __syncthreads();
    if (lane == 0) scratch[warp] = value;
    __syncthreads();
    return warp_sum(lane < warps ? scratch[lane] : 0.0f);
}

__device__ __forceinline__ float block_max(float value, float *scratch) {
    const uint32_t lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, warps = (blockDim.x + WARP - 1) / WARP;
    value = warp_max(value);
    __syncthreads();
    if (lane == 0) scratch[warp] = value;
    __syncthreads();
    return warp_max(lane < warps ? scratch[lane] : -INFINITY);
}
