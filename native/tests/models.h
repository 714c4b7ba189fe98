// What instructions do that this machine may lack, in plain C++: with it before everything else (-include), kernels.cpp
// of AVX-512, VNNI, BF16 and AMX runs anywhere with AVX2. It shows that tiles, panels and borders are right, not what a
// processor does: RDC_MODEL is 1 for AVX-512, 2 for VNNI too, 3 for BF16 too, 4 for AMX too.
#pragma once
#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace model {

inline float wide(uint16_t bfloat) {
    const uint32_t bits = uint32_t(bfloat) << 16;
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}

inline __m512i dpwssd(__m512i sums, __m512i a, __m512i b) {
    int16_t x[32], y[32];
    int32_t sum[16];
    std::memcpy(x, &a, 64), std::memcpy(y, &b, 64), std::memcpy(sum, &sums, 64);
    for (int i = 0; i < 32; i++) sum[i / 2] += x[i] * y[i];
    std::memcpy(&sums, sum, 64);
    return sums;
}

inline __m512i madd(__m512i a, __m512i b) { return dpwssd(__m512i{}, a, b); }

inline __m512 dpbf16(__m512 sums, __m512bh a, __m512bh b) {
    uint16_t x[32], y[32];
    float sum[16];
    std::memcpy(x, &a, 64), std::memcpy(y, &b, 64), std::memcpy(sum, &sums, 64);
    for (int i = 0; i < 32; i++) sum[i / 2] += wide(x[i]) * wide(y[i]);
    std::memcpy(&sums, sum, 64);
    return sums;
}

inline __m256bh to_bf16(__m512 values) {
    uint32_t bits[16];
    uint16_t near[16];
    std::memcpy(bits, &values, 64);
    for (int i = 0; i < 16; i++) near[i] = static_cast<uint16_t>((bits[i] + 0x7FFF + (bits[i] >> 16 & 1)) >> 16);
    __m256bh out;
    std::memcpy(&out, near, 32);
    return out;
}

struct Tiles {
    uint16_t bytes[8];
    uint8_t rows[8];
    uint8_t of[8][16][64];
};
inline thread_local Tiles tiles;

inline void configure(const void* from) {  // palette, start, 14 bytes, bytes of rows (16), rows (16)
    std::memcpy(tiles.bytes, static_cast<const char*>(from) + 16, sizeof tiles.bytes);
    std::memcpy(tiles.rows, static_cast<const char*>(from) + 48, sizeof tiles.rows);
}
inline void zero(int t) { std::memset(tiles.of[t], 0, sizeof tiles.of[t]); }
inline void load(int t, const void* from, size_t stride) {
    zero(t);
    for (int r = 0; r < tiles.rows[t]; r++) std::memcpy(tiles.of[t][r], static_cast<const char*>(from) + r * stride, tiles.bytes[t]);
}
inline void store(int t, void* to, size_t stride) {
    for (int r = 0; r < tiles.rows[t]; r++) std::memcpy(static_cast<char*>(to) + r * stride, tiles.of[t][r], tiles.bytes[t]);
}
inline void dpbf16ps(int c, int a, int b) {
    for (int r = 0; r < tiles.rows[c]; r++) {
        __m512 sums;
        std::memcpy(&sums, tiles.of[c][r], 64);
        for (int k = 0; k < tiles.bytes[a] / 4; k++) {
            int32_t pair[16];
            for (int32_t& lane : pair) std::memcpy(&lane, tiles.of[a][r] + 4 * k, 4);
            __m512bh x, y;
            std::memcpy(&x, pair, 64), std::memcpy(&y, tiles.of[b][k], 64);
            sums = dpbf16(sums, x, y);
        }
        std::memcpy(tiles.of[c][r], &sums, 64);
    }
}

}  // namespace model

#define __AVX512F__ 1
#define __AVX512BW__ 1
#define _mm512_madd_epi16 model::madd
#if RDC_MODEL >= 2
#define __AVX512VNNI__ 1
#define _mm512_dpwssd_epi32 model::dpwssd
#endif
#if RDC_MODEL >= 3
#define __AVX512BF16__ 1
#define _mm512_dpbf16_ps model::dpbf16
#define _mm512_cvtneps_pbh model::to_bf16
#endif
#if RDC_MODEL >= 4
#undef _tile_loadconfig
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbf16ps
#undef _tile_release
#define __AMX_BF16__ 1
#define _tile_loadconfig model::configure
#define _tile_zero model::zero
#define _tile_loadd model::load
#define _tile_stored model::store
#define _tile_dpbf16ps model::dpbf16ps
#define _tile_release() (void)0
#endif
