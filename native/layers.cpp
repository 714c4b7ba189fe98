#include "layers.h"

#include <cmath>

namespace rdc {

Product::Product(const float* weight, int model_inputs, const float* bias, const Order& outs, const Order& ins,
                 Precision precision, float scale, float bias_scale)
    : kernels_(&kernels()), inputs_(static_cast<int>(ins.size())), outputs_(static_cast<int>(outs.size())), bias_(outs.size()) {
    auto at = [&](int o, int i) {
        return outs[o] == NONE || ins[i] == NONE ? 0.0f : weight[size_t(outs[o]) * model_inputs + ins[i]] * scale;
    };
    if (bias)
        for (int o = 0; o < outputs_; o++) bias_[o] = outs[o] == NONE ? 0 : bias[outs[o]] * bias_scale;
    const Kernels& k = *kernels_;
    if (k.product_bf16 && precision != Precision::FLOAT) {
        // FINE: x w is nearly x' w' + x' (w - w') + (x - x') w', where a dash rounds to bfloat16.
        parts_ = precision == Precision::FINE ? 3 : 1;
        const int width = padded(inputs_, PAD_BF16);
        bfloats_ = pack<uint16_t>(outputs_, parts_ * width, 2, k.lanes, k.vectors_bf16, [&](int o, int i) {
            if (i % width >= inputs_) return uint16_t(0);
            float w = at(o, i % width);
            uint16_t near = bfloat(w);
            return i / width == 1 ? bfloat(w - unbfloat(near)) : near;
        });
    } else if (k.product_short && precision == Precision::FAST) {
        units_.resize(outputs_);
        for (int o = 0; o < outputs_; o++) {
            float most = 0, sum = 0;
            for (int i = 0; i < inputs_; i++) most = std::max(most, std::fabs(at(o, i))), sum += std::fabs(at(o, i));
            // The nearest integer can be half a unit larger.
            units_[o] = std::max({most / 32767, sum / (MOST_SHORTS - inputs_), FLT_MIN});
        }
        shorts_ = pack<int16_t>(outputs_, inputs_, 2, k.lanes, k.vectors,
                                [&](int o, int i) { return static_cast<int16_t>(std::lrint(at(o, i) / units_[o])); });
    } else {
        floats_ = pack<float>(outputs_, inputs_, 1, k.lanes, k.vectors, at);
    }
}

void Product::run(const float* in, size_t ld, int rows, float* out, size_t ldo, const float* add) const {
    FloatEnd end{bias_.data(), lower_, add};
    if (!bfloats_.empty()) return run_bfloats(in, ld, rows, end, out, ldo);
    if (!shorts_.empty()) return run_shorts(in, ld, rows, end, out, ldo);
    kernels_->product(packed(floats_.data(), inputs_, outputs_), in, ld, rows, end, out, ldo);
}

void Product::run_bfloats(const float* in, size_t ld, int rows, const FloatEnd& end, float* out, size_t ldo) const {
    const Kernels& k = *kernels_;
    RDC_PER_THREAD Buffer<uint16_t> rounded;
    RDC_PER_THREAD Buffer<float> rest;
    const size_t part = padded(inputs_, PAD_BF16), width = parts_ * part;
    if (rounded.size() < (rows + MORE_ROWS) * width) rounded.resize((rows + MORE_ROWS) * width);
    if (parts_ == 1 && ld == width) {
        k.to_bf16(in, rounded.data(), rows * width);
    } else {
        rest.assign(part, 0);
        for (int r = 0; r < rows; r++) {
            uint16_t* near = rounded.data() + r * width;
            k.to_bf16(in + r * ld, near, inputs_);
            std::fill(near + inputs_, near + part, uint16_t(0));
            if (parts_ == 1) continue;
            for (int i = 0; i < inputs_; i++) rest[i] = in[r * ld + i] - unbfloat(near[i]);
            std::copy(near, near + part, near + part);
            k.to_bf16(rest.data(), near + 2 * part, part);
        }
    }
    k.product_bf16(packed(bfloats_.data(), static_cast<int>(width) / 2, outputs_), rounded.data(), width, rows, end, out, ldo);
}

void Product::run_shorts(const float* in, size_t ld, int rows, const FloatEnd& end, float* out, size_t ldo) const {
    RDC_PER_THREAD Buffer<int16_t> rounded;
    RDC_PER_THREAD Buffer<float> units;
    if (rounded.size() < size_t(rows) * inputs_) rounded.resize(size_t(rows) * inputs_);
    if (units.size() < size_t(rows)) units.resize(rows);
    kernels_->to_shorts(in, ld, rows, inputs_, rounded.data(), units.data());
    kernels_->product_short(packed(shorts_.data(), inputs_ / 2, outputs_), rounded.data(), inputs_, rows,
                            {end, units_.data(), units.data()}, out, ldo);
}

Depthwise::Depthwise(const float* weight, const float* bias, const Order& order)
    : channels_(static_cast<int>(order.size())), weights_(9 * order.size()), bias_(order.size()) {
    for (int c = 0; c < channels_; c++) {
        if (order[c] == NONE) continue;
        for (int t = 0; t < 9; t++) weights_[size_t(t) * channels_ + c] = weight[9 * order[c] + t];
        bias_[c] = bias[order[c]];
    }
}

void Depthwise::run(const float* const rows[3], size_t ld, int columns, float* out, size_t ldo) const {
    kernels().depthwise(rows, ld, columns, channels_, weights_.data(), bias_.data(), out, ldo);
}

}  // namespace rdc
