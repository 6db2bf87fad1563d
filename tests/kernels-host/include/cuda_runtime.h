// CUDA's language for one block at a time on one CPU thread: what the sources in kernels/ use of it.
//
// A block's threads are fibers. They run one after the other, each until it waits at a barrier or in an operation of
// its warp; the machine (machine.cpp) decides who goes on. Shared memory begins as NaN and ends at a guard page.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __restrict__ __restrict
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))

struct uint3 {
    unsigned x, y, z;
};
struct __align__(8) uint2 {
    unsigned x, y;
};
struct __align__(16) uint4 {
    unsigned x, y, z, w;
};
struct __align__(8) float2 {
    float x, y;
};
struct __align__(16) float4 {
    float x, y, z, w;
};
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

namespace host {

// What an operation of a warp does once every lane of `mask` has come: `data[lane]` is what each brought.
using Together = void (*)(void **data, uint32_t mask);

struct Fiber {
    void *stack_pointer;
    uint3 thread;
    int state;
    Together together;
    uint32_t mask;
    void *data;
};

struct Machine {
    Fiber *running;
    uint3 block, block_size, grid_size;
};

extern thread_local Machine machine __attribute__((tls_model("initial-exec")));

void barrier();
void meet(Together together, uint32_t mask, void *data);
// An array all of a block's threads share, by the address of something only its declaration has.
void *shared(const void *key, size_t bytes, size_t alignment);
void *dynamic_shared();
[[noreturn]] void fail(const char *what);

using Invoke = void (*)(void (*kernel)(), void **args);
void enter(const char *name, void (*kernel)(), Invoke invoke, const char *signature);

template <class A> struct Letter;
template <class A> struct Letter<A *> {
    static constexpr char value = 'p';
};
template <> struct Letter<uint32_t> {
    static constexpr char value = 'u';
};
template <> struct Letter<uint64_t> {
    static constexpr char value = 'l';
};
template <> struct Letter<float> {
    static constexpr char value = 'f';
};

template <size_t... I> struct Indices {};
template <size_t N, size_t... I> struct MakeIndices : MakeIndices<N - 1, N - 1, I...> {};
template <size_t... I> struct MakeIndices<0, I...> {
    using Type = Indices<I...>;
};

template <class... A> struct Entry {
    static constexpr char signature[] = {Letter<A>::value..., 0};
    template <size_t... I> static void call(void (*kernel)(), void **args, Indices<I...>) {
        reinterpret_cast<void (*)(A...)>(kernel)(*static_cast<A *>(args[I])...);
    }
    static void invoke(void (*kernel)(), void **args) {
        call(kernel, args, typename MakeIndices<sizeof...(A)>::Type());
    }
};

struct Enter {
    template <class... A> Enter(const char *name, void (*kernel)(A...)) {
        enter(name, reinterpret_cast<void (*)()>(kernel), Entry<A...>::invoke, Entry<A...>::signature);
    }
};

} // namespace host

#define threadIdx (host::machine.running->thread)
#define blockIdx (host::machine.block)
#define blockDim (host::machine.block_size)
#define gridDim (host::machine.grid_size)

inline void __syncthreads() { host::barrier(); }
inline void __syncwarp(uint32_t mask = 0xFFFFFFFFu) {
    host::meet([](void **, uint32_t) {}, mask, nullptr);
}

namespace host {
struct Exchange {
    uint64_t value;
    int other;
    uint64_t got;
};
template <class V, class Pick> V exchange(uint32_t mask, V value, Pick source) {
    static_assert(sizeof(V) <= 8, "a lane hands over 32 or 64 bits");
    Exchange mine = {0, 0, 0};
    std::memcpy(&mine.value, &value, sizeof(V));
    mine.other = source(static_cast<int>(machine.running->thread.x % 32));
    meet(
        [](void **data, uint32_t mask) {
            for (int lane = 0; lane < 32; lane++) {
                if (!(mask >> lane & 1)) continue;
                auto *own = static_cast<Exchange *>(data[lane]);
                if (!(mask >> own->other & 1)) fail("a shuffle reads a lane that is not in its mask");
                own->got = static_cast<Exchange *>(data[own->other])->value;
            }
        },
        mask, &mine);
    V out;
    std::memcpy(&out, &mine.got, sizeof(V));
    return out;
}
} // namespace host

template <class V> V __shfl_sync(uint32_t mask, V value, int lane) {
    return host::exchange(mask, value, [=](int) { return lane & 31; });
}
template <class V> V __shfl_xor_sync(uint32_t mask, V value, int with) {
    return host::exchange(mask, value, [=](int lane) { return lane ^ with; });
}
template <class V> V __shfl_up_sync(uint32_t mask, V value, unsigned by) {
    return host::exchange(mask, value, [=](int lane) { return lane >= static_cast<int>(by) ? lane - static_cast<int>(by) : lane; });
}
template <class V> V __shfl_down_sync(uint32_t mask, V value, unsigned by) {
    return host::exchange(mask, value, [=](int lane) { return lane + by < 32 ? lane + static_cast<int>(by) : lane; });
}
inline unsigned __ballot_sync(uint32_t mask, int predicate) {
    struct Vote {
        int mine;
        unsigned all;
    } vote = {predicate, 0};
    host::meet(
        [](void **data, uint32_t mask) {
            unsigned all = 0;
            for (int lane = 0; lane < 32; lane++)
                if (mask >> lane & 1 && static_cast<Vote *>(data[lane])->mine) all |= 1u << lane;
            for (int lane = 0; lane < 32; lane++)
                if (mask >> lane & 1) static_cast<Vote *>(data[lane])->all = all;
        },
        mask, &vote);
    return vote.all;
}
inline unsigned __match_any_sync(uint32_t mask, uint32_t value) {
    struct Match {
        uint32_t mine;
        unsigned alike;
    } match = {value, 0};
    host::meet(
        [](void **data, uint32_t mask) {
            for (int lane = 0; lane < 32; lane++) {
                if (!(mask >> lane & 1)) continue;
                auto *own = static_cast<Match *>(data[lane]);
                own->alike = 0;
                for (int other = 0; other < 32; other++)
                    if (mask >> other & 1 && static_cast<Match *>(data[other])->mine == own->mine) own->alike |= 1u << other;
            }
        },
        mask, &match);
    return match.alike;
}
inline int __any_sync(uint32_t mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }

// Fibers never run at the same time, so a plain read and write cannot be interrupted.
template <class V> V atomicAdd(V *at, V value) {
    V old = *at;
    *at = old + value;
    return old;
}
template <class V> V atomicMax(V *at, V value) {
    V old = *at;
    if (value > old) *at = value;
    return old;
}
template <class V> V atomicMin(V *at, V value) {
    V old = *at;
    if (value < old) *at = value;
    return old;
}

template <class V> V __ldg(const V *at) { return *at; }
template <class V> V __ldcs(const V *at) { return *at; }
inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __ffs(int bits) { return __builtin_ffs(bits); }
inline int __clz(int bits) { return bits ? __builtin_clz(static_cast<unsigned>(bits)) : 32; }
inline float __uint_as_float(unsigned bits) {
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}
inline unsigned __float_as_uint(float value) {
    unsigned bits;
    std::memcpy(&bits, &value, 4);
    return bits;
}
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __dadd_rn(double a, double b) { return a + b; }
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline float __expf(float x) { return std::exp(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline unsigned __byte_perm(unsigned a, unsigned b, unsigned selector) {
    uint64_t both = static_cast<uint64_t>(b) << 32 | a;
    unsigned out = 0;
    for (int i = 0; i < 4; i++) out |= static_cast<unsigned>(both >> (8 * (selector >> (4 * i) & 7)) & 255) << (8 * i);
    return out;
}
template <class V> V min(V a, V b) { return a < b ? a : b; }
template <class V> V max(V a, V b) { return a > b ? a : b; }

#define SHARED_ARRAY(type, name, count)                                                                                \
    static const char name##_key = 0;                                                                                  \
    type *name = static_cast<type *>(host::shared(&name##_key, sizeof(type) * (count), alignof(type)))
#define DYNAMIC_SHARED(name) unsigned char *name = static_cast<unsigned char *>(host::dynamic_shared())
#define REGISTER_KERNEL(name) static const host::Enter name##_entry(#name, name);
