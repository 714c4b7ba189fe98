// The light transforms, row by row (models/transforms/light.py is their definition in torch).
//
// A strip of a picture begins some rows early, and drops what those rows give: each row is then what it would be in the
// whole picture, bit for bit. The same holds for very wide pictures, which are computed in parts of some thousand
// pixels: a thin one takes no more memory than another.
#pragma once
#include "trunk.h"

namespace rdc {

// Columns of latents that are computed together, and those of them that are wanted: the others are what these see.
struct Columns {
    int first, count;
    int wanted, wanted_end;  // within the count
};

struct LightShape {
    int latents, wide, wide_blocks, deep, deep_blocks;
};

// Rows of an array from row `first` on.
template <class T>
struct RowsOf {
    T* data;
    int first;
    T* at(int row, size_t length) const { return data + size_t(row - first) * length; }
};

// What a synthesis does that depends on the quality.
struct SynthesisQuality {
    const float *unit, *tint;  // of floats: factors of the latents and of the channels of the 1/16 trunk
    int tenths;                // of integers
};

// What the quality does to latents, and to the channels that enter the 1/16 trunk.
struct FloatTuning {
    float latent(int c, float y) const { return y * unit[c]; }
    float entered(int c, float value) const { return value * tint[c]; }
    const float *unit, *tint;
};

// The same on integers (models/transforms/structure.py).
struct IntegerTuning {
    int16_t latent(int c, float y) const;
    int16_t entered(int c, int16_t value) const;
    std::vector<int64_t> mantissa, factor;
    std::vector<int> shift;        // of the mantissas
    const std::vector<int>* back;  // shift of the factors
};

template <class Numbers>
struct SynthesisLayers {
    typename Numbers::Product shortcut, enter, grow[4], last;
    std::vector<Block<Numbers>> deep, wide;
};

class LightSynthesis {
  public:
    // arrays: of the network, by the names of its parameters, and log_gain.values where it runs on integers. pixels:
    // `steps.` and `shifts.` of the integers; none: it runs on floats. Misfit where a sum of integers could overflow.
    LightSynthesis(const LightShape& shape, const Arrays<float>& arrays, const Arrays<int8_t>& pixels);
    // y (rows, columns, latents) in quantisation steps -> RGB (height, width, 3), height and width at most 16 times rows
    // and columns.
    void run(const float* y, const SynthesisQuality& quality, int rows, int columns, int height, int width, int threads,
             uint8_t* out) const;
    // Likewise its rows first to end of latents alone, which see `reach` rows more on either side. out: from 16 * out.first
    // rows of pixels on.
    void draw(RowsOf<const float> y, const SynthesisQuality& quality, int rows, int columns, int height, int width,
              int first, int end, RowsOf<uint8_t> out) const;
    int reach() const { return shape_.deep_blocks + (shape_.wide_blocks + 1) / 2; }

  private:
    void build(const Arrays<float>& arrays);
    void build(const Arrays<float>& arrays, const Arrays<int8_t>& pixels);
    IntegerTuning tuning(int tenths) const;
    LightShape shape_;
    bool on_integers_;
    SynthesisLayers<OnFloats> floats_;  // one of these two is there
    SynthesisLayers<OnIntegers> integers_;
    std::vector<int32_t> log_gains_, tints_;  // anchors
    std::vector<int> tint_shift_;
};

class LightAnalysis {
  public:
    LightAnalysis(const LightShape& shape, const Arrays<float>& arrays);
    // RGB (height, width, 3), its last row and column repeated -> y (rows, columns, latents).
    void run(const uint8_t* image, int height, int width, int rows, int columns, int threads, float* y) const;
    // The linear part alone: what samples (count, 16, 16, 3), of any sign, add to a position of y each.
    void add(const float* samples, const int32_t* positions, int count, float* y) const;

  private:
    void strip(const uint8_t* image, int height, int width, int rows, int columns, int first, int end, Columns part,
               float* y) const;
    LightShape shape_;
    Product shortcut_, enter_, merge_[2], last_;
    std::vector<Block<OnFloats>> wide_, deep_;
};

// Hyper-analysis of the checkerboard model: y (rows, columns, latents), times gain in quantisation steps -> z, not yet rounded, of a
// quarter of the sides, rounded up, of y with its last row and column repeated. shift (hyper) is taken off z.
class HyperAnalysis {
  public:
    HyperAnalysis(int latents, int features, int hyper, const Arrays<float>& arrays);
    void run(const float* y, const float* gain, int rows, int columns, const float* shift, int threads, float* z) const;

  private:
    int latents_, features_, hyper_;
    Product enter_, merge_, last_;
    Depthwise half_, quarter_;
};

}  // namespace rdc
