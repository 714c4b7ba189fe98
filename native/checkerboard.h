// The checkerboard entropy model on integers (models/entropy/integer.py is its definition in torch): what encoder and
// decoder both run, with the same result everywhere.
#pragma once
#include "integers.h"
#include "rans.h"

namespace rdc {

struct CheckerboardShape {
    int latents, hyper, features;
    int hidden;  // channels between the layers of a pass, at most
    int passes;  // 3: the first half in two quarters; otherwise 2
};

// What the quality decides: table rows of the channels of z, and offsets of the levels of y, in steps of 1/16 with
// half a level in them.
struct Quality {
    const uint8_t* hyper_rows;  // (hyper)
    const int32_t* offset;      // (latents)
};

// By what an encoder chooses between the integer nearest to an element of y and the next one towards 0; without it, it
// takes the nearest. Only encoders know of it.
struct Choice {
    const float* worth = nullptr;    // (latents) bits that a squared quantisation step is worth
    const float* savings = nullptr;  // for each of the tables' edges, bits that the next symbol towards 0 costs less
};

struct Coded {
    std::vector<uint8_t> stream;
    uint32_t crc = 0;  // of the symbols, as a file has it
    std::vector<int16_t> symbols;  // of z, then of each pass of y
    std::vector<uint8_t> rows;     // of the tables, for each symbol
};

// The elements of y that a pass codes (models/entropy/lattice.py): at every position one channel of each `of` in a row.
struct Lattice {
    int of, phase;
    // The lowest channel of a position; the others follow in steps of `of`.
    int first(int row, int column) const {
        return of == 2 ? (row + column + phase) % 2 : 2 * ((row + phase) % 2) + (row + column) % 2;
    }
};

struct Bordered;

class Checkerboard {
  public:
    Checkerboard(const CheckerboardShape& shape, const IntegerArrays& arrays, const Tables& tables);
    // y_hat (rows, columns, latents) in quantisation steps; gives the checksum of the symbols. Damaged as `Decoder`.
    uint32_t decode(const uint8_t* stream, size_t bytes, int rows, int columns, const Quality& quality, int threads,
                    float* y_hat) const;
    // y (rows, columns, latents) times gain (latents), and z (a quarter of them, rounded up, hyper), are in
    // quantisation steps, not yet rounded.
    Coded encode(const float* y, const float* gain, const float* z, int rows, int columns, const Quality& quality,
                 int threads, const Choice& choice) const;

  private:
    struct Pass {
        Lattice lattice;
        IntegerDepthwise context[2];  // the first and the second output of each channel; none in pass 0
        IntegerProduct one, again;    // again: none in pass 0
        IntegerProduct last[4];       // by the lowest of the channels that come out
    };
    Pass pass_of(const IntegerArrays& arrays, Lattice lattice, const char* context, const std::string& network) const;
    // Indexes and means of a pass, `of` channels apart, from what it sees of those before.
    void predict(const Pass& pass, const std::vector<int32_t>& offsets, const int16_t* features, size_t feature_row, Bordered& seen,
                 int rows, int columns, int threads, uint8_t* indexes, int16_t* means) const;
    // y_hat may be null.
    template <class Coder>
    void code(Coder& coder, int rows, int columns, const Quality& quality, int threads, float* y_hat) const;
    void hyper_synthesis(const int16_t* z, int rows, int columns, int threads, Buffer<int16_t>& features) const;
    CheckerboardShape shape_;
    Tables tables_;
    IntegerProduct enter_, grow_[2][4];      // hyper-synthesis
    IntegerDepthwise quarter_, half_;
    std::vector<Pass> passes_;
};

}  // namespace rdc
