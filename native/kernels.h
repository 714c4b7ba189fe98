// What the networks are computed with: one table of functions for each set of processor instructions.
//
// Rows of activations lie one position after another; a position has its channels padded to a multiple of PAD, and
// what is padded is zero. Every output depends only on the inputs of its own position, summed in a fixed order,
// so the result is the same however the work is split among strips or threads.
#pragma once
#include <cstddef>
#include <cstdint>

namespace rdc {

constexpr int PAD = 16;  // channels: the lanes of the widest vectors
constexpr int PAD_BF16 = 32;  // inputs of a product in bfloat16: a tile of AMX takes so many at a time
constexpr int MOST_SHORT = 4095, MOST_SHORTS = (1u << 31) / MOST_SHORT;  // of an input, of the weights of an output in all
constexpr int BLOCKS = 8;  // of rows that share the weights in the nearest cache
constexpr int MORE_ROWS = 32;  // positions behind a row that kernels may read (never write)

inline int padded(int channels, int to = PAD) { return (channels + to - 1) / to * to; }

// The weights of a matrix product in the order in which a kernel reads them: panels of up to `vectors` vectors of
// output channels; in a panel, for each step of 1 (float) or 2 (int16, bfloat16) inputs, the vectors one by one.
struct Packed {
    const void* weights = nullptr;
    int steps = 0;    // of inputs
    int outputs = 0;  // padded
    int32_t* listed = nullptr;  // BLOCKS * steps, for the kernel's own use
};

struct FloatEnd {  // what follows the sums of floats
    const float* bias;           // (outputs)
    float lower;                 // results below it are raised to it: 0 for ReLU
    const float* add = nullptr;  // a residual, with the stride of the output
};

struct ShortEnd {  // what follows the sums of integers that stand for floats
    FloatEnd end;
    const float* weight_unit;  // (outputs)
    const float* input_unit;   // (rows)
};

struct IntegerEnd {  // clamp(((sum + bias) >> shift) + add, low, high)
    const int32_t* bias;
    const int32_t* right;  // (outputs) shift to the right, 0..23
    const int32_t* left;   // (outputs) shift to the left, 0..16; null where there is none
    int32_t low, high;
    const int16_t* add = nullptr;  // a residual, with the stride of the output; shifts are then 1 at least
};

struct Kernels {
    const char* name;
    int lanes;    // 32-bit values of a vector
    int vectors, vectors_bf16;  // of a panel, at most
    // a: (rows, lda) -> out: (rows, ldo). Strides in elements.
    void (*product)(const Packed&, const float* a, size_t lda, int rows, const FloatEnd&, float* out, size_t ldo);
    // null where bfloat16 is not faster than float
    void (*product_bf16)(const Packed&, const uint16_t* a, size_t lda, int rows, const FloatEnd&, float* out, size_t ldo);
    // Inputs are at most MOST_SHORT, weights of an output MOST_SHORTS in all, so that no sum overflows. Null where this
    // is not faster than float.
    void (*product_short)(const Packed&, const int16_t* a, size_t lda, int rows, const ShortEnd&, float* out, size_t ldo);
    void (*product_i16)(const Packed&, const int16_t* a, size_t lda, int rows, const IntegerEnd&, int16_t* out, size_t ldo);
    // 3x3, each channel by itself, with zeros beyond both ends of a row: three rows of (columns, ld). Then ReLU.
    // weights (9, channels).
    void (*depthwise)(const float* const rows[3], size_t ld, int columns, int channels, const float* weights,
                      const float* bias, float* out, size_t ldo);
    // The same on integers. The sums stay below 2^24: floats hold them.
    void (*depthwise_i16)(const int16_t* const rows[3], size_t ld, int columns, int channels, const float* weights,
                          const IntegerEnd&, int16_t* out, size_t ldo);
    // Rounded a + b within 0..255. count: a multiple of 8.
    void (*to_pixels)(const float* a, const float* b, int count, uint8_t* out);
    // The same of samples in steps of 1/64, halves upwards.
    void (*to_pixels_i16)(const int16_t* a, const int16_t* b, int count, uint8_t* out);
    // asinh to some 20 bits, for what only an encoder sees. count: a multiple of PAD.
    void (*asinh)(const float* in, float* out, size_t count);
    void (*to_bf16)(const float* in, uint16_t* out, size_t count);  // count: a multiple of PAD
    // in: (rows, ld), of which `count` are taken, a multiple of PAD -> out (rows, count), in units of each row.
    void (*to_shorts)(const float* in, size_t ld, int rows, int count, int16_t* out, float* units);
};

const Kernels& kernels();                // the fastest of this processor, or what `use` named
const Kernels* const* all_kernels();     // those that this processor can run, slowest first, ended by null
bool use(const char* name);              // false: not here. Not for threads that run meanwhile.

}  // namespace rdc
