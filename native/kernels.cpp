// Compiled once for each set of instructions (RDC_TARGET names it). No header of the standard library with code in
// it may be included here: the linker could take that code, with instructions of this set, for everybody.
#include "kernels.h"

#include "simd.h"

// Two products of integers for one of floats: not with AVX-512 before VNNI, nor with NEON.
#if defined(__AVX512VNNI__) || !(defined(__AVX512F__) || defined(__aarch64__))
#define RDC_SHORTS
#endif

namespace {

using rdc::BLOCKS;
using rdc::FloatEnd;
using rdc::IntegerEnd;
using rdc::Packed;
using rdc::ShortEnd;

// A tile: positions by vectors of channels, whose sums stay in registers.
#if RDC_BYTES == 64 || defined(__aarch64__)
constexpr int TALL = 6, VECTORS = 4;
#else  // sixteen registers
constexpr int TALL = 6, VECTORS = 2;
#endif

#define UNROLL _Pragma("GCC unroll 16")

// Positions of a tile, and the steps at which any of them has an input other than zero: behind a ReLU, half the steps
// have none, and adding nothing changes nothing.
struct Block {
    int row, rows, steps;
    const int32_t* listed;
};

typedef int32_t Step __attribute__((may_alias, aligned(2)));  // the inputs of a step

template <int ROWS>
int list_steps(const char* a, size_t lda, int steps, int32_t* listed) {
    for (int s = 0; s < steps; s++) {
        int32_t any = 0;
        UNROLL for (int r = 0; r < ROWS; r++) any |= reinterpret_cast<const Step*>(a + r * lda)[s];
        listed[s] = any;
    }
    int found = 0;
    for (int s = 0; s < steps; s++) {  // no branch: it could not be predicted
        const bool any = listed[s];
        listed[found] = s;
        found += any;
    }
    return found;
}

// Up to BLOCKS blocks from a row on; gives their number. Where the first one has no zeros, none is looked for in others.
int list_blocks(const Packed& m, const char* a, size_t lda, int row, int rows, Block (&blocks)[BLOCKS]) {
    int count = 0;
    for (; count < BLOCKS && row < rows; row += blocks[count++].rows) {
        const int left = rows - row, here = left >= TALL ? TALL : left >= 2 ? 2 : 1;
        if (count && blocks[0].steps == m.steps) {
            blocks[count] = {row, here, m.steps, blocks[0].listed};
            continue;
        }
        int32_t* listed = m.listed + static_cast<size_t>(count) * m.steps;
        const auto list = here == TALL ? list_steps<TALL> : here == 2 ? list_steps<2> : list_steps<1>;
        blocks[count] = {row, here, list(a + row * lda, lda, m.steps, listed), listed};
    }
    return count;
}

// The sums of ROWS positions and N vectors of channels, kept in registers.
template <class Op, int ROWS, int N>
RDC_INLINE void sum(const char* a, size_t lda, const char* w, const Block& block, typename Op::Sums (&sums)[ROWS][N]) {
    UNROLL for (int r = 0; r < ROWS; r++) UNROLL for (int v = 0; v < N; v++) sums[r][v] = typename Op::Sums{};
    for (const int32_t *next = block.listed, *end = next + block.steps; next < end; next++) {
        using In = decltype(Op::broadcast(a));
        const size_t step = static_cast<uint32_t>(*next);
        const char *from = a + 4 * step, *with = w + step * (N * RDC_BYTES);
        In weights[N];
        UNROLL for (int v = 0; v < N; v++) weights[v] = load<In>(with + v * RDC_BYTES);
        UNROLL for (int r = 0; r < ROWS; r++) {
            In value = Op::broadcast(from + r * lda);
            UNROLL for (int v = 0; v < N; v++) sums[r][v] = Op::add(sums[r][v], value, weights[v]);
        }
    }
}

RDC_INLINE void finish(Floats sums, const FloatEnd& end, int channel, int, size_t at, float* out) {
    Floats value = largest(sums + load<Floats>(end.bias + channel), floats(end.lower));
    if (end.add) value += load<Floats>(end.add + at);
    store(out + at, value);
}

#if defined(RDC_SHORTS)
RDC_INLINE void finish(Ints sums, const ShortEnd& end, int channel, int row, size_t at, float* out) {
    Floats unit = load<Floats>(end.weight_unit + channel) * end.input_unit[row];
    finish(__builtin_convertvector(sums, Floats) * unit, end.end, channel, row, at, out);
}
#endif

RDC_INLINE void finish(Ints sums, const IntegerEnd& end, int channel, int, size_t at, int16_t* out) {
    Ints value = (sums + load<Ints>(end.bias + channel)) >> load<Ints>(end.right + channel);
    if (end.left) value = within(value, -32767, 32767) << load<Ints>(end.left + channel);
    if (end.add) value += __builtin_convertvector(load<HalfShorts>(end.add + at), Ints);
    store(out + at, narrow(within(value, end.low, end.high)));
}

// Not inlined: compilers then keep all sums in registers.
template <class Op, int ROWS, int N, class End, class Out>
__attribute__((noinline)) void tile(const char* a, size_t lda, const char* w, const Block& block, const End& end, int channel,
                                    Out* out, size_t ldo) {
    typename Op::Sums sums[ROWS][N];
    sum<Op, ROWS, N>(a + block.row * lda, lda, w, block, sums);
    UNROLL for (int r = 0; r < ROWS; r++) UNROLL for (int v = 0; v < N; v++)
        finish(sums[r][v], end, channel + v * LANES, block.row + r, (block.row + r) * ldo + channel + v * LANES, out);
}

template <class Op, int N, class End, class Out>
void panel(const char* a, size_t lda, const char* w, const Block& block, const End& end, int channel, Out* out, size_t ldo) {
    if (block.rows == TALL) tile<Op, TALL, N>(a, lda, w, block, end, channel, out, ldo);
    if (block.rows == 2) tile<Op, 2, N>(a, lda, w, block, end, channel, out, ldo);
    if (block.rows == 1) tile<Op, 1, N>(a, lda, w, block, end, channel, out, ldo);
}

template <class Op, class In, class End, class Out>
void product(const Packed& m, const In* in, size_t ld, int rows, const End& end, Out* out, size_t ldo) {
    const char* a = reinterpret_cast<const char*>(in);
    const size_t lda = ld * sizeof(In);
    Block blocks[BLOCKS];
    for (int row = 0; row < rows;) {
        const int count = list_blocks(m, a, lda, row, rows, blocks);
        const char* w = static_cast<const char*>(m.weights);
        for (int channel = 0, n; channel < m.outputs; channel += n * LANES) {
            const int left = (m.outputs - channel) / LANES;
            n = left < VECTORS ? left : VECTORS;
            for (const Block* b = blocks; b < blocks + count; b++) {
                if (n == 4) panel<Op, 4>(a, lda, w, *b, end, channel, out, ldo);
                if (n == 3) panel<Op, 3>(a, lda, w, *b, end, channel, out, ldo);
                if (n == 2) panel<Op, 2>(a, lda, w, *b, end, channel, out, ldo);
                if (n == 1) panel<Op, 1>(a, lda, w, *b, end, channel, out, ldo);
            }
            w += static_cast<size_t>(n) * m.steps * RDC_BYTES;
        }
        row = blocks[count - 1].row + blocks[count - 1].rows;
    }
}

void depthwise(const float* const rows[3], size_t ld, int columns, int channels, const float* weights, const float* bias,
               float* out, size_t ldo) {
    for (int c = 0; c < channels; c += LANES) {
        Floats w[9];
        UNROLL for (int t = 0; t < 9; t++) w[t] = load<Floats>(weights + t * channels + c);
        const float *above = rows[0] + c, *here = rows[1] + c, *below = rows[2] + c;
        for (int x = 0; x < columns; x++, above += ld, here += ld, below += ld) {
            Floats first = load<Floats>(above) * w[1], second = load<Floats>(here) * w[4];
            first += load<Floats>(below) * w[7];
            if (x > 0) {
                first += load<Floats>(above - ld) * w[0];
                second += load<Floats>(here - ld) * w[3];
                first += load<Floats>(below - ld) * w[6];
            }
            if (x + 1 < columns) {
                second += load<Floats>(above + ld) * w[2];
                second += load<Floats>(here + ld) * w[5];
                second += load<Floats>(below + ld) * w[8];
            }
            store(out + x * ldo + c, largest(first + second + load<Floats>(bias + c), floats(0)));
        }
    }
}

// A column of three inputs is widened once, for the outputs before it, at it and after it: sums are exact in any order.
void depthwise_i16(const int16_t* const rows[3], size_t ld, int columns, int channels, const float* weights,
                   const IntegerEnd& end, int16_t* out, size_t ldo) {
    for (int c = 0; c < channels; c += LANES) {
        Floats w[9], before{}, at{};
        UNROLL for (int t = 0; t < 9; t++) w[t] = load<Floats>(weights + t * channels + c);
        for (int x = 0; x < columns; x++) {
            Floats after{};
            UNROLL for (int k = 0; k < 3; k++) {
                const Floats value = widen(load<HalfShorts>(rows[k] + x * ld + c));
                before += value * w[3 * k + 2];
                at += value * w[3 * k + 1];
                after += value * w[3 * k];
            }
            if (x > 0) finish(whole(before), end, c, x - 1, (x - 1) * ldo + c, out);
            before = at;
            at = after;
        }
        finish(whole(before), end, c, columns - 1, (columns - 1) * ldo + c, out);
    }
}

void to_pixels(const float* a, const float* b, int count, uint8_t* out) {
    typedef float Eight __attribute__((vector_size(32)));
    typedef uint8_t Bytes __attribute__((vector_size(8)));
    for (int i = 0; i < count; i += 8) {
        Eight value = load<Eight>(a + i) + load<Eight>(b + i);
        value = value > 0 ? value : Eight{};
        value = value < 255 ? value : Eight{} + 255;
        value = (value + 12582912.0f) - 12582912.0f;  // to the nearest, halves to even
        typedef int32_t EightInts __attribute__((vector_size(32)));
        store(out + i, __builtin_convertvector(__builtin_convertvector(value, EightInts), Bytes));
    }
}

void to_pixels_i16(const int16_t* a, const int16_t* b, int count, uint8_t* out) {
    typedef int16_t Eight __attribute__((vector_size(16)));
    typedef int32_t Sums __attribute__((vector_size(32)));
    typedef uint8_t Bytes __attribute__((vector_size(8)));
    for (int i = 0; i < count; i += 8) {
        Sums sum = __builtin_convertvector(load<Eight>(a + i), Sums) + __builtin_convertvector(load<Eight>(b + i), Sums);
        sum = (sum + 32) >> 6;
        sum = sum > 0 ? sum : Sums{};
        sum = sum < 255 ? sum : Sums{} + 255;
        store(out + i, __builtin_convertvector(sum, Bytes));
    }
}

// log(|x| + sqrt(x^2 + 1)), the logarithm by Cephes' polynomial (logf).
void asinh(const float* in, float* out, size_t count) {
    for (size_t i = 0; i < count; i += LANES) {
        Floats x = load<Floats>(in + i), size = x < 0 ? -x : x, sum = size * size + 1;
        UNROLL for (int lane = 0; lane < LANES; lane++) sum[lane] = __builtin_sqrtf(sum[lane]);
        Ints bits = (Ints)(sum + size);
        Ints exponent = (bits - 0x3F3504F3) >> 23;  // so that the mantissa is within sqrt(1/2)..sqrt(2)
        Floats f = (Floats)(bits - (exponent << 23)) - 1, square = f * f;
        Floats p = floats(7.0376836292e-2f);
        constexpr float FACTORS[] = {-1.1514610310e-1f, 1.1676998740e-1f,  -1.2420140846e-1f, 1.4249322787e-1f,
                                     -1.6668057665e-1f, 2.0000714765e-1f, -2.4999993993e-1f, 3.3333331174e-1f};
        UNROLL for (float factor : FACTORS) p = p * f + factor;
        Floats log = f - square * 0.5f + f * square * p + __builtin_convertvector(exponent, Floats) * 0.6931471806f;
        store(out + i, x < 0 ? -log : log);
    }
}

void to_bf16(const float* in, uint16_t* out, size_t count) {
    for (size_t i = 0; i < count; i += LANES) {
#if defined(__AVX512BF16__)
        store(out + i, (HalfShorts)_mm512_cvtneps_pbh((__m512)load<Floats>(in + i)));
#else
        Ints bits = load<Ints>(in + i);
        store(out + i, narrow((bits + 0x7FFF + (bits >> 16 & 1)) >> 16));
#endif
    }
}

// To the nearest, by a float that has no bits below the point; no value of any kind leaves the range.
void to_shorts(const float* in, size_t ld, int rows, int count, int16_t* out, float* units) {
    constexpr float POINT = 12582912;
    for (int r = 0; r < rows; r++, in += ld, out += count) {
        Ints most = (Ints)floats(1e-30f);  // sizes of floats are ordered as their bits
        for (int i = 0; i < count; i += LANES) {
            Ints size = load<Ints>(in + i) & 0x7FFFFFFF;
            most = size > most ? size : most;
        }
        const int32_t bits = highest(most);
        const float high = load<float>(&bits);
        units[r] = high / rdc::MOST_SHORT;
        const Floats scale = floats(rdc::MOST_SHORT / high);
        for (int i = 0; i < count; i += LANES) {
            Ints value = (Ints)(load<Floats>(in + i) * scale + POINT) - (Ints)floats(POINT);
            store(out + i, narrow(within(value, -rdc::MOST_SHORT, rdc::MOST_SHORT)));
        }
    }
}

#if defined(__AMX_BF16__)

struct alignas(64) Tiles {  // as LDTILECFG reads it
    uint8_t palette = 1, start = 0, reserved[14] = {};
    uint16_t bytes[16] = {};
    uint8_t rows[16] = {};
};

// Two tiles of 16 positions meet two of 16 channels.
void product_tiles(const Packed& m, const uint16_t* a, size_t lda, int rows, const FloatEnd& end, float* out, size_t ldo) {
    Tiles shape;
    for (int t = 0; t < 8; t++) shape.bytes[t] = 64, shape.rows[t] = 16;
    _tile_loadconfig(&shape);
    alignas(64) float sums[4][16][16];
    const char* w = static_cast<const char*>(m.weights);
    size_t stride = 2 * lda;
    for (int channel = 0; channel < m.outputs; channel += 32, w += static_cast<size_t>(m.steps) * 128) {
        const bool two = channel + 16 < m.outputs;
        const size_t step = two ? 128 : 64;
        for (int r = 0; r < rows; r += 32) {
            const char* in = reinterpret_cast<const char*>(a + r * lda);
            bool both = r + 16 < rows;
            _tile_zero(0);
            _tile_zero(1);
            _tile_zero(2);
            _tile_zero(3);
            for (int s = 0; s < m.steps; s += 16) {
                _tile_loadd(6, w + s * step, step);
                _tile_loadd(4, in + s * 4, stride);
                _tile_dpbf16ps(0, 4, 6);
                if (both) {
                    _tile_loadd(5, in + 16 * stride + s * 4, stride);
                    _tile_dpbf16ps(2, 5, 6);
                }
                if (two) {
                    _tile_loadd(7, w + s * step + 64, step);
                    _tile_dpbf16ps(1, 4, 7);
                    if (both) _tile_dpbf16ps(3, 5, 7);
                }
            }
            _tile_stored(0, sums[0], 64);
            _tile_stored(1, sums[1], 64);
            if (both) {
                _tile_stored(2, sums[2], 64);
                _tile_stored(3, sums[3], 64);
            }
            int here = rows - r < 32 ? rows - r : 32;
            for (int i = 0; i < here; i++)
                for (int v = 0; v < 1 + two; v++)
                    finish(load<Floats>(sums[i / 16 * 2 + v][i % 16]), end, channel + 16 * v, r + i,
                           (r + i) * ldo + channel + 16 * v, out);
        }
    }
    _tile_release();
}
#endif

}  // namespace

#define RDC_JOIN(a, b) a##b
#define RDC_NAME(target) RDC_JOIN(kernels_, target)
#define RDC_TEXT(target) RDC_STRING(target)
#define RDC_STRING(target) #target

namespace rdc {
extern const Kernels RDC_NAME(RDC_TARGET);
const Kernels RDC_NAME(RDC_TARGET) = {
    RDC_TEXT(RDC_TARGET),
    LANES,
    VECTORS,
#if defined(__AMX_BF16__)
    2,
#else
    VECTORS,
#endif
    product<OfFloats, float, FloatEnd, float>,
#if defined(__AMX_BF16__)
    product_tiles,
#elif defined(__AVX512BF16__)
    product<OfBfloats, uint16_t, FloatEnd, float>,
#else
    nullptr,
#endif
#if defined(RDC_SHORTS)
    product<OfShorts, int16_t, ShortEnd, float>,
#else
    nullptr,
#endif
    product<OfShorts, int16_t, IntegerEnd, int16_t>,
    depthwise,
    depthwise_i16,
    to_pixels,
    to_pixels_i16,
    asinh,
    to_bf16,
    to_shorts,
};
}  // namespace rdc
