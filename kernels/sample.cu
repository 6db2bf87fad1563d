// From logits to tokens: what src/engine/sampler.rs does, to the bit.
//
// A token's weight is exp((logit - peak) / temperature), rounded to a multiple of 2⁻³⁴ and held as the integer number of
// these. Integers add up to the same whatever the order, so sums need no fixed one; up to 2¹⁸ tokens they are exact in
// f64 too, where the CPU adds them. Additions and multiplications of the exponential are the CPU's, none fused.
//
// A cut keeps all tokens from some key on: a greater key is a higher logit, or the same logit and a smaller id. It is
// found without a sort: a histogram of narrow ranges of logits says in which one the cut lies, and within it every token
// counts those above itself.

#include "common/platform.cuh"

struct SampleRow {
    float temperature, top_p, min_p;
    uint32_t top_k;
    float repetition, presence, frequency;
    uint32_t position;
    uint64_t seed;
    uint32_t history_from, history_to, bias_from, bias_to;
    uint32_t mask, unused;
};
static_assert(sizeof(SampleRow) == 64, "rows lie 64 bytes apart");

constexpr uint32_t THREADS = 1024, BLOCK_WARPS = THREADS / WARP;
constexpr uint32_t BINS = 2048;
// Tokens of one range that are held in shared memory.
constexpr uint32_t MOST_LISTED = 2048;
// Below it every weight rounds to nothing.
constexpr float LOWEST = -30.0f;
// Adding it to a number below 2¹⁸ leaves the nearest multiple of 2⁻³⁴ in the last bits.
constexpr double ROUNDER = 393216.0;
constexpr double UNIT = 5.8207660913467407e-11;

// e to the power of x for x in [-30, 0].
__device__ __forceinline__ float exp_exact(float x) {
    const float to_integer = 12582912.0f;
    const float shifted = __fadd_rn(__fmul_rn(x, 1.44269504f), to_integer);
    const float whole = __fsub_rn(shifted, to_integer);
    const float rest = __fsub_rn(__fsub_rn(x, __fmul_rn(whole, 0.6933594f)), __fmul_rn(whole, -2.1219444e-4f));
    float series = __fmul_rn(rest, 1.0f / 720.0f);
    series = __fmul_rn(rest, __fadd_rn(1.0f / 120.0f, series));
    series = __fmul_rn(rest, __fadd_rn(1.0f / 24.0f, series));
    series = __fmul_rn(rest, __fadd_rn(1.0f / 6.0f, series));
    series = __fmul_rn(rest, __fadd_rn(0.5f, series));
    series = __fmul_rn(rest, __fadd_rn(1.0f, series));
    series = __fadd_rn(1.0f, series);
    return __uint_as_float(__float_as_uint(series) + (__float_as_uint(shifted) << 23));
}

struct Scale {
    float peak, inverse;

    __device__ __forceinline__ float exponent(float logit) const {
        const float exponent = __fmul_rn(__fsub_rn(logit, peak), inverse);
        return exponent > LOWEST ? exponent : LOWEST;
    }
    // In units of 2⁻³⁴.
    __device__ __forceinline__ uint64_t weight(float logit) const {
        const double sum = __dadd_rn(static_cast<double>(exp_exact(exponent(logit))), ROUNDER);
        uint64_t bits, none;
        const double rounder = ROUNDER;
        memcpy(&bits, &sum, 8);
        memcpy(&none, &rounder, 8);
        return bits - none;
    }
    // Never a lower range for a lower logit.
    __device__ __forceinline__ uint32_t bin(float logit) const {
        const uint32_t bin = static_cast<uint32_t>(-exponent(logit) * (static_cast<float>(BINS) / -LOWEST));
        return bin < BINS ? bin : BINS - 1;
    }
};

__device__ __forceinline__ double mass(uint64_t units) { return static_cast<double>(units) * UNIT; }

// NaN counts as the lowest.
__device__ __forceinline__ uint64_t key_of(float logit, uint32_t id) {
    const uint32_t bits = __float_as_uint(logit + 0.0f);
    const uint32_t rising = logit != logit ? 0 : bits >> 31 ? ~bits : bits | 0x80000000u;
    return static_cast<uint64_t>(rising) << 32 | static_cast<uint32_t>(~id);
}

__device__ __forceinline__ uint64_t max_of(uint64_t a, uint64_t b) { return a > b ? a : b; }

__device__ __forceinline__ uint64_t warp_total(uint64_t value) {
#pragma unroll
    for (int with = 16; with; with /= 2) value += __shfl_xor_sync(ALL_LANES, value, with);
    return value;
}

// `scratch` holds 32 values.
__device__ __forceinline__ uint64_t block_total(uint64_t value, uint64_t *scratch) {
    value = warp_total(value);
    __syncthreads();
    if (threadIdx.x % WARP == 0) scratch[threadIdx.x / WARP] = value;
    __syncthreads();
    return warp_total(scratch[threadIdx.x % WARP]);
}

__device__ __forceinline__ uint64_t block_highest(uint64_t value, uint64_t *scratch) {
#pragma unroll
    for (int with = 16; with; with /= 2) value = max_of(value, __shfl_xor_sync(ALL_LANES, value, with));
    __syncthreads();
    if (threadIdx.x % WARP == 0) scratch[threadIdx.x / WARP] = value;
    __syncthreads();
    value = scratch[threadIdx.x % WARP];
#pragma unroll
    for (int with = 16; with; with /= 2) value = max_of(value, __shfl_xor_sync(ALL_LANES, value, with));
    return value;
}

// The sum of this and all threads before.
__device__ __forceinline__ uint64_t warp_prefix(uint64_t value) {
#pragma unroll
    for (uint32_t by = 1; by < WARP; by *= 2) {
        const uint64_t before = __shfl_up_sync(ALL_LANES, value, by);
        if (threadIdx.x % WARP >= by) value += before;
    }
    return value;
}

__device__ __forceinline__ uint64_t block_prefix(uint64_t value, uint64_t *scratch) {
    const uint32_t lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    value = warp_prefix(value);
    __syncthreads();
    if (lane == WARP - 1) scratch[warp] = value;
    __syncthreads();
    return value + warp_total(lane < warp ? scratch[lane] : 0);
}

// Calls `each(logit, id)` for a row's tokens, spread over the block.
template <class Each> __device__ __forceinline__ void for_row(const float *logits, uint32_t count, const Each &each) {
    uint32_t done = 0;
    if ((reinterpret_cast<uintptr_t>(logits) & 15) == 0) {
        for (uint32_t at = threadIdx.x * 4; at + 4 <= count; at += THREADS * 4) {
            const float4 four = *reinterpret_cast<const float4 *>(logits + at);
            each(four.x, at);
            each(four.y, at + 1);
            each(four.z, at + 2);
            each(four.w, at + 3);
        }
        done = count / 4 * 4;
    }
    for (uint32_t at = done + threadIdx.x; at < count; at += THREADS) each(logits[at], at);
}

// What a block works in.
struct Room {
    uint32_t *counts, *low, *high;  // of every bin: tokens, and their mass in two halves
    uint64_t *list;                 // keys of one bin's tokens
    uint64_t *scratch;              // 32
    uint64_t *found;                // 4
    uint32_t *listed;
};

#define MAKE_ROOM(room)                                                                                                \
    SHARED_ARRAY(uint32_t, room_counts, BINS);                                                                         \
    SHARED_ARRAY(uint32_t, room_low, BINS);                                                                            \
    SHARED_ARRAY(uint32_t, room_high, BINS);                                                                           \
    SHARED_ARRAY(uint64_t, room_list, MOST_LISTED);                                                                    \
    SHARED_ARRAY(uint64_t, room_scratch, 32);                                                                          \
    SHARED_ARRAY(uint64_t, room_found, 4);                                                                             \
    SHARED_ARRAY(uint32_t, room_listed, 1);                                                                            \
    const Room room = {room_counts, room_low, room_high, room_list, room_scratch, room_found, room_listed};

__device__ __forceinline__ void clear_bins(const Room &room) {
    __syncthreads();
    for (uint32_t bin = threadIdx.x; bin < BINS; bin += THREADS) room.counts[bin] = room.low[bin] = room.high[bin] = 0;
    __syncthreads();
}

__device__ __forceinline__ void add_to_bin(const Room &room, uint32_t bin, uint64_t weight) {
    atomicAdd(&room.counts[bin], 1u);
    const uint32_t low = static_cast<uint32_t>(weight), high = static_cast<uint32_t>(weight >> 32);
    const uint32_t before = low ? atomicAdd(&room.low[bin], low) : 0;
    const uint32_t carry = before + low < before;
    if (high + carry) atomicAdd(&room.high[bin], high + carry);
}

__device__ __forceinline__ uint64_t bin_mass(const Room &room, uint32_t bin) {
    return static_cast<uint64_t>(room.high[bin]) << 32 | room.low[bin];
}

// A cut by count keeps `tokens` of them, one by mass the fewest that weigh `wanted`.
struct Goal {
    bool by_mass;
    uint64_t tokens;
    double wanted;

    __device__ __forceinline__ bool met(uint64_t count, uint64_t units) const {
        return by_mass ? mass(units) >= wanted : count >= tokens;
    }
};

// The first bin at which the goal is met after `count` and `units`, which take in what lies before it then. BINS when
// none does.
__device__ __forceinline__ uint32_t find_bin(const Room &room, const Goal &goal, uint64_t &count, uint64_t &units) {
    constexpr uint32_t EACH = BINS / THREADS;
    uint64_t own_counts[EACH], own_masses[EACH], all_counts = 0, all_masses = 0;
    if (threadIdx.x == 0) room.found[0] = BINS;
#pragma unroll
    for (uint32_t i = 0; i < EACH; i++) {
        const uint32_t bin = threadIdx.x * EACH + i;
        all_counts += own_counts[i] = room.counts[bin];
        all_masses += own_masses[i] = bin_mass(room, bin);
    }
    uint64_t before_count = count + block_prefix(all_counts, room.scratch) - all_counts;
    uint64_t before_units = units + block_prefix(all_masses, room.scratch) - all_masses;
#pragma unroll
    for (uint32_t i = 0; i < EACH; i++) {
        const uint64_t after_count = before_count + own_counts[i], after_units = before_units + own_masses[i];
        if (own_counts[i] && !goal.met(before_count, before_units) && goal.met(after_count, after_units)) {
            room.found[0] = threadIdx.x * EACH + i;
            room.found[1] = before_count;
            room.found[2] = before_units;
        }
        before_count = after_count;
        before_units = after_units;
    }
    __syncthreads();
    const uint32_t bin = static_cast<uint32_t>(room.found[0]);
    if (bin < BINS) {
        count = room.found[1];
        units = room.found[2];
    }
    __syncthreads();
    return bin;
}

// The lowest key that a cut keeps, given the histogram of the row's bins of keys from `least` on: tokens below `least` are
// cut already. 0 when even all together do not meet the goal. `kept` becomes the mass of what it keeps.
__device__ __forceinline__ uint64_t find_cut(const Room &room, const float *logits, uint32_t vocabulary,
                                             const Scale &scale, const Goal &goal, uint64_t least, uint64_t &kept) {
    uint64_t count = 0, units = 0;
    const uint32_t bin = find_bin(room, goal, count, units);
    if (bin == BINS) return 0;
    const uint32_t listed = room.counts[bin];
    if (listed <= MOST_LISTED) {
        if (threadIdx.x == 0) *room.listed = 0;
        __syncthreads();
        for_row(logits, vocabulary, [&](float logit, uint32_t id) {
            if (scale.bin(logit) != bin || !(logit > -INFINITY)) return;
            const uint64_t key = key_of(logit, id);
            if (key >= least) room.list[atomicAdd(room.listed, 1u)] = key;
        });
        __syncthreads();
        for (uint32_t i = threadIdx.x; i < listed; i += THREADS) {
            const uint64_t own = room.list[i];
            uint64_t above = count, weight_above = units;
            for (uint32_t other = 0; other < listed; other++) {
                const uint64_t key = room.list[other];
                if (key <= own) continue;
                above++;
                weight_above += scale.weight(logits[static_cast<uint32_t>(~key)]);
            }
            const uint64_t weight = scale.weight(logits[static_cast<uint32_t>(~own)]);
            if (!goal.met(above, weight_above) && goal.met(above + 1, weight_above + weight)) {
                room.found[0] = own;
                room.found[1] = weight_above + weight;
            }
        }
        __syncthreads();
        const uint64_t cut = room.found[0];
        kept = room.found[1];
        __syncthreads();
        return cut;
    }
    // Too many in one narrow range: digit by digit of the key, 11 bits at a time, the highest first.
    uint64_t known = 0;
    uint32_t shift = 64;
    while (shift > 0) {
        const uint32_t below = shift > 11 ? shift - 11 : 0, digits = (1u << (shift - below)) - 1;
        clear_bins(room);
        for_row(logits, vocabulary, [&](float logit, uint32_t id) {
            if (scale.bin(logit) != bin || !(logit > -INFINITY)) return;
            const uint64_t key = key_of(logit, id);
            if (key < least || (shift < 64 && key >> shift != known)) return;
            // The highest digit comes first.
            add_to_bin(room, digits - (static_cast<uint32_t>(key >> below) & digits), scale.weight(logit));
        });
        __syncthreads();
        const uint32_t digit = find_bin(room, goal, count, units);
        known = (shift < 64 ? known << (shift - below) : 0) | (digits - digit);
        shift = below;
    }
    kept = units + scale.weight(logits[static_cast<uint32_t>(~known)]);
    return known;
}

__device__ __forceinline__ uint64_t mix(uint64_t value) {
    uint64_t z = value + 0x9E3779B97F4A7C15ull;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
}

// In [0, 1), of a seed and a position: src/engine/draw.rs.
__device__ __forceinline__ double uniform(uint64_t seed, uint64_t position) {
    const uint64_t mixed = mix(mix(seed) ^ position * 0x9E3779B97F4A7C15ull);
    return static_cast<double>(mixed >> 11) * (1.0 / 9007199254740992.0);
}

// A draw among the tokens whose key is at least `cut` and whose weight at least `least`: the first, in the order of ids, at
// which the sum of weights passes the draw's share of the whole; `best` when rounding lets none.
__device__ __forceinline__ uint32_t draw_from(const Room &room, const float *logits, uint32_t vocabulary,
                                              const Scale &scale, uint64_t cut, double least, double draw,
                                              uint32_t best) {
    const uint32_t lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const auto weight_at = [&](uint32_t id) -> uint64_t {
        const float logit = logits[id];
        const uint64_t weight = scale.weight(logit);
        return key_of(logit, id) >= cut && mass(weight) >= least ? weight : 0;
    };
    uint32_t from = 0, to = vocabulary;
    uint64_t before = 0;
    double target = 0.0;
    // The row in 32 stretches, then the one it is in again; what is left is some hundred tokens.
    for (int round = 0; round < 2; round++) {
        const uint32_t each = (to - from + BLOCK_WARPS - 1) / BLOCK_WARPS;
        const uint32_t begin = min(from + warp * each, to), end = min(begin + each, to);
        uint64_t own = 0;
        for (uint32_t id = begin + lane; id < end; id += WARP) own += weight_at(id);
        own = warp_total(own);
        __syncthreads();
        if (lane == 0) room.scratch[warp] = own;
        __syncthreads();
        const uint64_t mine = room.scratch[lane], after = before + warp_prefix(mine);
        if (round == 0) target = __dmul_rn(draw, mass(warp_total(mine)));
        const uint32_t passed = __ballot_sync(ALL_LANES, mass(after) > target);
        if (!passed) return best;
        const int at = __ffs(static_cast<int>(passed)) - 1;
        before = __shfl_sync(ALL_LANES, after - mine, at);
        const uint32_t start = min(from + static_cast<uint32_t>(at) * each, to);
        to = min(start + each, to);
        from = start;
    }
    // Every warp does the same.
    for (uint32_t at = from; at < to; at += WARP) {
        const uint64_t after = before + warp_prefix(at + lane < to ? weight_at(at + lane) : 0);
        const uint32_t passed = __ballot_sync(ALL_LANES, mass(after) > target);
        if (passed) return at + static_cast<uint32_t>(__ffs(static_cast<int>(passed)) - 1);
        before = __shfl_sync(ALL_LANES, after, WARP - 1);
    }
    return best;
}

__device__ __forceinline__ bool is_number(float value) { return fabsf(value) < INFINITY; }

KERNEL(1024)
adjust_logits(float *logits, const SampleRow *rows, const uint32_t *history, const uint32_t *biases,
              const uint32_t *masks, uint32_t vocabulary) {
    const SampleRow row = rows[blockIdx.x];
    logits += static_cast<uint64_t>(blockIdx.x) * vocabulary;
    if (row.mask) {
        const uint32_t *allowed = masks + static_cast<uint64_t>(row.mask - 1) * ((vocabulary + 31) / 32);
        for (uint32_t id = threadIdx.x; id < vocabulary; id += THREADS)
            if (!(allowed[id / 32] >> (id % 32) & 1)) logits[id] = -INFINITY;
        __syncthreads();
    }
    for (uint32_t entry = row.history_from + threadIdx.x; entry < row.history_to; entry += THREADS) {
        const uint32_t id = history[entry * 2ull], answered = history[entry * 2ull + 1];
        if (id >= vocabulary) continue;
        float logit = logits[id];
        logit = logit > 0.0f ? __fdiv_rn(logit, row.repetition) : __fmul_rn(logit, row.repetition);
        if (answered > 0)
            logit = __fsub_rn(logit, __fadd_rn(row.presence, __fmul_rn(row.frequency, static_cast<float>(answered))));
        logits[id] = logit;
    }
    __syncthreads();
    for (uint32_t entry = row.bias_from + threadIdx.x; entry < row.bias_to; entry += THREADS) {
        const uint32_t id = biases[entry * 2ull];
        if (id < vocabulary) logits[id] = __fadd_rn(logits[id], __uint_as_float(biases[entry * 2ull + 1]));
    }
}
REGISTER_KERNEL(adjust_logits)

KERNEL(1024)
sample(uint32_t *tokens, float *logprobs, const float *logits, const SampleRow *rows, uint32_t vocabulary) {
    MAKE_ROOM(room);
    const SampleRow row = rows[blockIdx.x];
    logits += static_cast<uint64_t>(blockIdx.x) * vocabulary;

    uint64_t highest = 0;
    for_row(logits, vocabulary, [&](float logit, uint32_t id) {
        if (logit == logit) highest = max_of(highest, key_of(logit, id));
    });
    highest = block_highest(highest, room.scratch);
    // Without any number: token 0.
    const uint32_t best = highest ? static_cast<uint32_t>(~highest) : 0;
    const float peak = highest ? logits[best] : -INFINITY;
    if (!is_number(peak)) {
        if (threadIdx.x == 0) {
            tokens[blockIdx.x] = best;
            logprobs[blockIdx.x] = -INFINITY;
        }
        return;
    }

    const bool random = row.temperature > 0.0f, by_count = row.top_k > 0 && row.top_k < vocabulary;
    const bool by_mass = row.top_p < 1.0f, cuts = random && (by_count || by_mass);
    const Scale plain = {peak, 1.0f};
    const Scale scale = {peak, __fdiv_rn(1.0f, fmaxf(row.temperature, 1e-6f))};
    if (cuts) clear_bins(room);
    uint64_t whole = 0, total = 0;
    for_row(logits, vocabulary, [&](float logit, uint32_t) {
        whole += plain.weight(logit);
        if (!cuts) return;
        const uint64_t weight = scale.weight(logit);
        total += weight;
        if (logit > -INFINITY) add_to_bin(room, scale.bin(logit), weight);
    });
    whole = block_total(whole, room.scratch);

    uint32_t token = best;
    if (random) {
        uint64_t cut = 0;
        if (cuts) total = block_total(total, room.scratch);
        if (by_count) {
            uint64_t kept = total;
            cut = find_cut(room, logits, vocabulary, scale, {false, row.top_k, 0.0}, 0, kept);
            if (cut) total = kept;
            if (by_mass) {
                clear_bins(room);
                for_row(logits, vocabulary, [&](float logit, uint32_t id) {
                    if (logit > -INFINITY && key_of(logit, id) >= cut)
                        add_to_bin(room, scale.bin(logit), scale.weight(logit));
                });
                __syncthreads();
            }
        }
        if (by_mass) {
            uint64_t kept;
            const Goal goal = {true, 0, __dmul_rn(static_cast<double>(row.top_p), mass(total))};
            cut = max_of(cut, find_cut(room, logits, vocabulary, scale, goal, cut, kept));
        }
        token = draw_from(room, logits, vocabulary, scale, cut, static_cast<double>(row.min_p),
                          uniform(row.seed, row.position), best);
    }
    if (threadIdx.x == 0) {
        tokens[blockIdx.x] = token;
        const double distance = static_cast<double>(logits[token]) - static_cast<double>(peak);
        logprobs[blockIdx.x] = static_cast<float>(distance - log(mass(whole)));
    }
}
REGISTER_KERNEL(sample)

KERNEL(1024)
candidates(float *values, uint32_t *ids, float *stats, const float *logits, uint32_t vocabulary, uint32_t count) {
    MAKE_ROOM(room);
    logits += static_cast<uint64_t>(blockIdx.x) * vocabulary;
    values += static_cast<uint64_t>(blockIdx.x) * count;
    ids += static_cast<uint64_t>(blockIdx.x) * count;
    stats += static_cast<uint64_t>(blockIdx.x) * 2;

    uint64_t highest = 0;
    for_row(logits, vocabulary, [&](float logit, uint32_t id) {
        if (logit == logit) highest = max_of(highest, key_of(logit, id));
    });
    highest = block_highest(highest, room.scratch);
    const float peak = highest ? logits[static_cast<uint32_t>(~highest)] : -INFINITY;
    uint64_t total = 0, cut = 0;
    if (is_number(peak)) {
        const Scale scale = {peak, 1.0f};
        clear_bins(room);
        for_row(logits, vocabulary, [&](float logit, uint32_t) {
            const uint64_t weight = scale.weight(logit);
            total += weight;
            if (logit > -INFINITY) add_to_bin(room, scale.bin(logit), weight);
        });
        total = block_total(total, room.scratch);
        uint64_t kept;
        cut = find_cut(room, logits, vocabulary, scale, {false, count, 0.0}, 0, kept);
    }
    if (threadIdx.x == 0) *room.listed = 0;
    __syncthreads();
    if (is_number(peak)) {
        for_row(logits, vocabulary, [&](float logit, uint32_t id) {
            if (!(logit > -INFINITY)) return;
            const uint64_t key = key_of(logit, id);
            if (key >= cut) room.list[atomicAdd(room.listed, 1u)] = key;
        });
    }
    __syncthreads();
    const uint32_t listed = *room.listed;
    for (uint32_t i = threadIdx.x; i < count; i += THREADS) {
        if (i >= listed) {
            values[i] = -INFINITY;
            ids[i] = NO_ROW;
            continue;
        }
        const uint64_t own = room.list[i];
        uint32_t rank = 0;
        for (uint32_t other = 0; other < listed; other++) rank += room.list[other] > own;
        const uint32_t id = static_cast<uint32_t>(~own);
        values[rank] = logits[id];
        ids[rank] = id;
    }
    if (threadIdx.x == 0) {
        stats[0] = peak;
        stats[1] = total ? static_cast<float>(log(mass(total))) : -INFINITY;
    }
}
REGISTER_KERNEL(candidates)
