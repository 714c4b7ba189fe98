// The checkerboard entropy model on integers (models/entropy/integer.py is its definition in torch): what encoder and
// decoder both run, with the same result everywhere.
#pragma once
#include "integers.h"
#include "rans.h"

namespace rdc {

struct CheckerboardShape {
    int latents, hyper, features;
    int hidden;  // channels between the layers of a pass, at most
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
    // y_hat may be null.
    template <class Coder>
    void code(Coder& coder, int rows, int columns, const Quality& quality, int threads, float* y_hat) const;
    void hyper_synthesis(const int16_t* z, int rows, int columns, int threads, Buffer<int16_t>& features) const;
    CheckerboardShape shape_;
    Tables tables_;
    IntegerProduct enter_, grow_[2][4];      // hyper-synthesis
    IntegerDepthwise quarter_, half_;
    IntegerProduct first_, first_last_[2];   // by the parity of the channels that come out
    IntegerProduct second_, second_more_, second_last_[2];
    IntegerDepthwise context_[2];            // the first and the second output of each channel
};

}  // namespace rdc
