// The one place that knows whether nvcc compiles for a GPU or the host's compiler for tests/kernels-host.
#pragma once

#include <cuda_runtime.h>
#include <stdint.h>
#include <string.h>
#include <type_traits>

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#ifdef __CUDACC__
// `type name[count]` in shared memory.
#define SHARED_ARRAY(type, name, count) __shared__ type name[count]
#define DYNAMIC_SHARED(name) extern __shared__ __align__(128) unsigned char name[]
// The host finds kernels by name in a table, the driver in the cubin.
#define REGISTER_KERNEL(name)
#endif

#define KERNEL(threads) extern "C" __global__ void __launch_bounds__(threads)

constexpr uint32_t WARP = 32;
constexpr uint32_t ALL_LANES = 0xFFFFFFFFu;
constexpr uint32_t PAGE_TOKENS = 32;
// A slot or position of a row that only fills up a graph's batch.
constexpr uint32_t NO_ROW = 0xFFFFFFFFu;
