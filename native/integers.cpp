#include "integers.h"

namespace rdc {
namespace {

constexpr int MOST_LEFT = 16;  // beyond it, every sum but 0 is beyond the range

}  // namespace

Ending::Ending(const int32_t* biases, const int8_t* shifts, const Order& outs, IntegerRange range)
    : bias(outs.size()), right(outs.size()), left(outs.size()), range(range) {
    for (size_t o = 0; o < outs.size(); o++) {
        if (outs[o] == NONE) continue;
        int shift = shifts[outs[o]];
        bias[o] = biases[outs[o]];
        right[o] = std::clamp(shift, 0, 31);
        left[o] = std::clamp(-shift, 0, MOST_LEFT);
        any_left |= left[o] > 0;
    }
}

IntegerProduct::IntegerProduct(const IntegerArrays& arrays, const std::string& name, std::initializer_list<int> shape,
                               const Order& outs, const Order& ins, IntegerRange range)
    : kernels_(&kernels()), inputs_(static_cast<int>(ins.size())), outputs_(static_cast<int>(outs.size())) {
    const int16_t* weight = pick(arrays.weights, name + ".weight", shape);
    const int outputs = *shape.begin();
    int inputs = 1;
    for (int side : shape) inputs *= side;
    inputs /= outputs;
    ending_ = Ending(pick(arrays.biases, name + ".bias", {outputs}), pick(arrays.shifts, name + ".shift", {outputs}), outs,
                     range);
    const Kernels& k = *kernels_;
    weights_ = pack<int16_t>(outputs_, inputs_, 2, k.lanes, k.vectors, [&](int o, int i) {
        return outs[o] == NONE || ins[i] == NONE ? int16_t(0) : weight[size_t(outs[o]) * inputs + ins[i]];
    });
}

void IntegerProduct::run(const int16_t* in, size_t ld, int rows, int16_t* out, size_t ldo, const int16_t* add) const {
    kernels_->product_i16(packed(weights_.data(), inputs_ / 2, outputs_), in, ld, rows, ending_.end(add), out, ldo);
}

IntegerDepthwise::IntegerDepthwise(const IntegerArrays& arrays, const std::string& name, int outputs, const Order& outs,
                                   IntegerRange range)
    : channels_(static_cast<int>(outs.size())), weights_(9 * outs.size()) {
    const int16_t* weight = pick(arrays.weights, name + ".weight", {outputs, 1, 3, 3});
    ending_ = Ending(pick(arrays.biases, name + ".bias", {outputs}), pick(arrays.shifts, name + ".shift", {outputs}), outs,
                     range);
    for (int c = 0; c < channels_; c++)
        for (int t = 0; t < 9; t++) weights_[size_t(t) * channels_ + c] = outs[c] == NONE ? 0.0f : weight[9 * outs[c] + t];
}

void IntegerDepthwise::run(const int16_t* const rows[3], size_t ld, int columns, int16_t* out, size_t ldo) const {
    kernels().depthwise_i16(rows, ld, columns, channels_, weights_.data(), ending_.end(), out, ldo);
}

}  // namespace rdc
