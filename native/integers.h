// Layers on integers (exact/chain.py), which give the same everywhere.
#pragma once
#include "layers.h"

namespace rdc {

// Integer arrays of a weights file. That no sum can overflow is proved before they come here.
struct IntegerArrays {
    Arrays<int16_t> weights;
    Arrays<int32_t> biases;
    Arrays<int8_t> shifts;
};

struct IntegerRange {
    int32_t low, high;
};

// clamp((sum + bias) >> shift) as kernels take it.
struct Ending {
    Ending() = default;
    Ending(const int32_t* bias, const int8_t* shift, const Order& outs, IntegerRange range);
    IntegerEnd end(const int16_t* add = nullptr) const {
        return {bias.data(), right.data(), any_left ? left.data() : nullptr, range.low, range.high, add};
    }
    Buffer<int32_t> bias, right, left;
    bool any_left = false;
    IntegerRange range{};
};

class IntegerProduct {
  public:
    IntegerProduct() = default;
    // inputs: of the model, kernel positions included.
    IntegerProduct(const IntegerArrays& arrays, const std::string& name, std::initializer_list<int> shape,
                   const Order& outs, const Order& ins, IntegerRange range);
    // As Product::run.
    void run(const int16_t* in, size_t ld, int rows, int16_t* out, size_t ldo, const int16_t* add = nullptr) const;
    int outputs() const { return outputs_; }

  private:
    const Kernels* kernels_ = nullptr;  // for which the weights are laid out
    int inputs_ = 0, outputs_ = 0;
    Buffer<int16_t> weights_;
    Ending ending_;
};

// 3x3 of each channel by itself, `outs` of them.
class IntegerDepthwise {
  public:
    IntegerDepthwise() = default;
    IntegerDepthwise(const IntegerArrays& arrays, const std::string& name, int outputs, const Order& outs, IntegerRange range);
    // As Depthwise::run.
    void run(const int16_t* const rows[3], size_t ld, int columns, int16_t* out, size_t ldo) const;
    int channels() const { return channels_; }

  private:
    int channels_ = 0;
    Buffer<float> weights_;
    Ending ending_;
};

}  // namespace rdc
