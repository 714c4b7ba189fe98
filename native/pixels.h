// The integers of a light synthesis, made from its floats: models/transforms/structure.py is their definition. All that
// is done here is exact in double but for the rounding of weights and biases, so that it is the same everywhere.
#pragma once
#include "integers.h"

namespace rdc {

constexpr IntegerRange WIDE{-32767, 32767}, INSIDE{0, 4095};

// The integers that stand for the floats of layers.
class PixelIntegers {
  public:
    // floats: of a synthesis. pixels: `steps.TENSOR` and `shifts.LAYER`.
    PixelIntegers(const Arrays<float>& floats, const Arrays<int8_t>& pixels) : floats_(floats), pixels_(pixels) {}

    // Steps of a tensor of so many channels; those of latents and samples are given.
    std::vector<int> steps(const std::string& tensor, int channels) const;
    // Make the integers of a layer. takes: steps of the inputs of a sum. gives: of its outputs. unit: what its floats are
    // to be multiplied by, as a power of two. adds: whether results are added to what is there. Misfit if an array is
    // missing, or a sum could overflow.
    void make(const std::string& layer, std::initializer_list<int> shape, const std::vector<int>& takes,
              const std::vector<int>& gives, IntegerRange inputs, int unit = 0, bool adds = false);
    IntegerArrays arrays() const;

  private:
    struct Made {
        std::vector<size_t> shape;
        std::vector<int16_t> weight;
        std::vector<int32_t> bias;
        const int8_t* shift;
    };
    const Arrays<float>& floats_;
    const Arrays<int8_t>& pixels_;
    std::map<std::string, Made> made_;
};

constexpr int ANCHORS = 8;
constexpr int LATENT_STEP = -3, SAMPLE_STEP = -6, MEAN_BITS = 6, TINT_BITS = 20;
constexpr double GAIN_STEPS = 94548.4621996991;  // of e, in logarithms to base 2 with 16 bits behind the point

// Anchors of quality plus a number, in units, rounded. Misfit where one is no int32.
std::vector<int32_t> whole(const float* anchors, int count, double unit, double plus = 0);
// By what y_hat, in steps of 1/64, is multiplied and then shifted to give latents.
struct Unit {
    int64_t mantissa;
    int shift;
};
Unit unit_of(int32_t log_gain);
// Row of anchors (ANCHORS, channels) at a quality of 0..1000 tenths.
std::vector<int32_t> interpolated(const std::vector<int32_t>& anchors, int tenths);

}  // namespace rdc
