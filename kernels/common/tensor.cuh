// Tensor cores and asynchronous copies. On the host the same from the PTX manual's fragment layouts.
//
// m16n8k16, with g = lane / 4 and j = lane % 4:
//   A [16, 16]: a0 = (g, 2j..), a1 = (g + 8, 2j..), a2 = (g, 2j + 8..), a3 = (g + 8, 2j + 8..)
//   B [16, 8]:  b0 = (2j.., g), b1 = (2j + 8.., g)
//   C [16, 8]:  c0, c1 = (g, 2j..), c2, c3 = (g + 8, 2j..)
// where `x..` is a pair x, x + 1 in one register. Which value of a sum stands at which k is free as long as A and B
// agree: kernels use it to read 128 bits at a time.
#pragma once

#include "common/number.cuh"

#ifdef __CUDACC__

// c += a · b
template <class T>
__device__ __forceinline__ void multiply_add(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
                                             uint32_t b0, uint32_t b1) {
    if constexpr (std::is_same<T, bf16>::value) {
        asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                     "{%0,%1,%2,%3};"
                     : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                     : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
    } else {
        asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                     "{%0,%1,%2,%3};"
                     : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                     : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
    }
}

// Four 8 × 8 matrices of half floats; lane l gives the address of row l % 8 of matrix l / 8 and gets the pair
// (l / 4, 2 (l % 4)..) of each.
__device__ __forceinline__ void load_matrices(uint32_t (&out)[4], const void *row) {
    uint32_t at = static_cast<uint32_t>(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(at)
                 : "memory");
}

// The same of the transposed matrices: the pair (2 (l % 4).., l / 4).
__device__ __forceinline__ void load_matrices_transposed(uint32_t (&out)[4], const void *row) {
    uint32_t at = static_cast<uint32_t>(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(at)
                 : "memory");
}

// 16 bytes from global to shared memory, there after a wait; zeros when not `there`.
__device__ __forceinline__ void copy16_later(void *to, const void *from, bool there) {
    uint32_t at = static_cast<uint32_t>(__cvta_generic_to_shared(to));
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(at), "l"(from), "r"(there ? 16 : 0) : "memory");
}
// Ends a group of copies.
__device__ __forceinline__ void end_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits for this thread's copies, but not for the last `groups` groups.
template <int groups> __device__ __forceinline__ void await_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(groups) : "memory");
}

__device__ __forceinline__ float exp2_fast(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

#else

namespace host {
void copy_later(void *to, const void *from, bool there);
void end_copies();
void await_copies(int groups);

struct Product {
    float *c;
    uint32_t a[4], b[2];
};
template <class T> float half_of(uint32_t pair, int which) {
    float2 both = unpack<T>(pair);
    return which ? both.y : both.x;
}
template <class T> void multiply_warp(void **data, uint32_t) {
    float a[16][16], b[16][8];
    for (int lane = 0; lane < 32; lane++) {
        const auto &mine = *static_cast<Product *>(data[lane]);
        int g = lane / 4, j = lane % 4;
        for (int i = 0; i < 2; i++) {
            a[g][2 * j + i] = half_of<T>(mine.a[0], i);
            a[g + 8][2 * j + i] = half_of<T>(mine.a[1], i);
            a[g][2 * j + 8 + i] = half_of<T>(mine.a[2], i);
            a[g + 8][2 * j + 8 + i] = half_of<T>(mine.a[3], i);
            b[2 * j + i][g] = half_of<T>(mine.b[0], i);
            b[2 * j + 8 + i][g] = half_of<T>(mine.b[1], i);
        }
    }
    float sums[16][8] = {};
    for (int row = 0; row < 16; row++)
        for (int k = 0; k < 16; k++)
            for (int column = 0; column < 8; column++) sums[row][column] += a[row][k] * b[k][column];
    for (int lane = 0; lane < 32; lane++) {
        float *c = static_cast<Product *>(data[lane])->c;
        int g = lane / 4, j = lane % 4;
        for (int i = 0; i < 2; i++) {
            c[i] += sums[g][2 * j + i];
            c[2 + i] += sums[g + 8][2 * j + i];
        }
    }
}

struct Matrices {
    uint32_t *out;
    const uint16_t *row;
};
template <bool transposed> void load_warp(void **data, uint32_t) {
    for (int matrix = 0; matrix < 4; matrix++) {
        const uint16_t *rows[8];
        for (int row = 0; row < 8; row++) {
            rows[row] = static_cast<Matrices *>(data[matrix * 8 + row])->row;
            if (reinterpret_cast<uintptr_t>(rows[row]) % 16) fail("a matrix row does not begin on 16 bytes");
        }
        for (int lane = 0; lane < 32; lane++) {
            int g = lane / 4, j = lane % 4;
            uint32_t low = transposed ? rows[2 * j][g] : rows[g][2 * j];
            uint32_t high = transposed ? rows[2 * j + 1][g] : rows[g][2 * j + 1];
            static_cast<Matrices *>(data[lane])->out[matrix] = low | high << 16;
        }
    }
}
} // namespace host

template <class T>
void multiply_add(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1) {
    host::Product mine = {c, {a0, a1, a2, a3}, {b0, b1}};
    host::meet(host::multiply_warp<T>, ALL_LANES, &mine);
}
inline void load_matrices(uint32_t (&out)[4], const void *row) {
    host::Matrices mine = {out, static_cast<const uint16_t *>(row)};
    host::meet(host::load_warp<false>, ALL_LANES, &mine);
}
inline void load_matrices_transposed(uint32_t (&out)[4], const void *row) {
    host::Matrices mine = {out, static_cast<const uint16_t *>(row)};
    host::meet(host::load_warp<true>, ALL_LANES, &mine);
}
inline void copy16_later(void *to, const void *from, bool there) { host::copy_later(to, from, there); }
inline void end_copies() { host::end_copies(); }
template <int groups> void await_copies() { host::await_copies(groups); }
inline float exp2_fast(float x) { return exp2f(x); }

#endif

// tanh from one exponential: exact to rounding for what it is used on, absolute values of 10⁻³ and more.
__device__ __forceinline__ float tanh_fast(float x) {
    constexpr float TWICE_LOG2_E = 2.8853900817779268f;
    return 1.0f - __fdividef(2.0f, 1.0f + exp2_fast(x * TWICE_LOG2_E));
}

constexpr float LOG2_E = 1.4426950408889634f;

// From products of queries and keys to exponents of two: times `scale`, and with a `softcap` cap · tanh(· / cap).
template <int N, int M>
__device__ __forceinline__ void finish_scores(float (&scores)[N][M], float scale, float softcap) {
    if (softcap > 0.0f) {
        const float inner = scale / softcap, outer = softcap * LOG2_E;
#pragma unroll
        for (int n = 0; n < N; n++)
#pragma unroll
            for (int m = 0; m < M; m++) scores[n][m] = outer * tanh_fast(scores[n][m] * inner);
    } else {
        const float factor = scale * LOG2_E;
#pragma unroll
        for (int n = 0; n < N; n++)
#pragma unroll
            for (int m = 0; m < M; m++) scores[n][m] *= factor;
    }
}
