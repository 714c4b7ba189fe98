// Vectors of the processor that this file is compiled for. The compiler's vector types do what all have in common.
#pragma once
#include <cstdint>
#include <cstring>
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#elif defined(__wasm_simd128__)
#include <wasm_simd128.h>
#endif

#if defined(__AVX512F__)
#define RDC_BYTES 64
#elif defined(__AVX2__)
#define RDC_BYTES 32
#else
#define RDC_BYTES 16
#endif

namespace {

constexpr int LANES = RDC_BYTES / 4;
typedef float Floats __attribute__((vector_size(RDC_BYTES)));
typedef int32_t Ints __attribute__((vector_size(RDC_BYTES)));
typedef int16_t Shorts __attribute__((vector_size(RDC_BYTES)));          // twice as many
typedef int16_t HalfShorts __attribute__((vector_size(RDC_BYTES / 2)));  // as many as LANES

#define RDC_INLINE inline __attribute__((always_inline))

template <class V>
RDC_INLINE V load(const void* from) {
    V value;
    std::memcpy(&value, from, sizeof value);
    return value;
}

template <class V>
RDC_INLINE void store(void* to, V value) {
    std::memcpy(to, &value, sizeof value);
}

RDC_INLINE Floats floats(float value) { return value - Floats{}; }  // no addition: that would make 0 of -0
RDC_INLINE Ints ints(int32_t value) { return Ints{} + value; }

// Sums of products, for each lane: of one float, or of two int16 or bfloat16 that lie together. Four bytes of the
// input meet a vector of weights.
struct OfFloats {
    using Sums = Floats;
    static RDC_INLINE Floats broadcast(const void* from) {
        float value;
        std::memcpy(&value, from, 4);
        return floats(value);
    }
    static RDC_INLINE Floats add(Floats sums, Floats a, Floats w) { return sums + a * w; }
};

struct OfShorts {
    using Sums = Ints;
    static RDC_INLINE Ints broadcast(const void* from) {
        int32_t value;
        std::memcpy(&value, from, 4);
        return ints(value);
    }
    static RDC_INLINE Ints add(Ints sums, Ints a, Ints w) {
#if defined(__AVX512VNNI__)
        return (Ints)_mm512_dpwssd_epi32((__m512i)sums, (__m512i)a, (__m512i)w);
#elif defined(__AVX512BW__)
        return sums + (Ints)_mm512_madd_epi16((__m512i)a, (__m512i)w);
#elif defined(__AVX2__)
        return sums + (Ints)_mm256_madd_epi16((__m256i)a, (__m256i)w);
#elif defined(__x86_64__)
        return sums + (Ints)_mm_madd_epi16((__m128i)a, (__m128i)w);
#elif defined(__aarch64__)
        int16x8_t x = vreinterpretq_s16_s32((int32x4_t)a), y = vreinterpretq_s16_s32((int32x4_t)w);
        return sums + (Ints)vpaddq_s32(vmull_s16(vget_low_s16(x), vget_low_s16(y)), vmull_high_s16(x, y));
#elif defined(__wasm_simd128__)
        return sums + (Ints)wasm_i32x4_dot_i16x8((v128_t)a, (v128_t)w);
#else
        // The lower and the upper half of each lane.
        return sums + (a << 16 >> 16) * (w << 16 >> 16) + (a >> 16) * (w >> 16);
#endif
    }
};

#if defined(__AVX512BF16__)
struct OfBfloats {
    using Sums = Floats;
    static RDC_INLINE Ints broadcast(const void* from) { return OfShorts::broadcast(from); }
    static RDC_INLINE Floats add(Floats sums, Ints a, Ints w) {
        return (Floats)_mm512_dpbf16_ps((__m512)sums, (__m512bh)a, (__m512bh)w);
    }
};
#endif

RDC_INLINE Floats largest(Floats a, Floats b) { return a > b ? a : b; }
RDC_INLINE Ints within(Ints value, int32_t low, int32_t high) {
    Ints l = ints(low), h = ints(high);
    value = value > l ? value : l;
    return value < h ? value : h;
}

template <int BYTES>
struct Part {
    typedef int32_t Of __attribute__((vector_size(BYTES)));
};

// The largest of all lanes.
template <int BYTES = RDC_BYTES>
RDC_INLINE int32_t highest(typename Part<BYTES>::Of value) {
    if constexpr (BYTES == 8) {
        return value[0] > value[1] ? value[0] : value[1];
    } else {
        using Half = typename Part<BYTES / 2>::Of;
        Half low = load<Half>(&value), high = load<Half>(reinterpret_cast<const char*>(&value) + BYTES / 2);
        return highest<BYTES / 2>(low > high ? low : high);
    }
}

RDC_INLINE HalfShorts narrow(Ints value) { return __builtin_convertvector(value, HalfShorts); }
RDC_INLINE Floats widen(HalfShorts value) { return __builtin_convertvector(value, Floats); }
RDC_INLINE Ints whole(Floats value) { return __builtin_convertvector(value, Ints); }

}  // namespace
