#include "layers.h"

#include <cfloat>

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
    if (precision == Precision::FLOAT || !k.product_bf16) {
        floats_ = pack<float>(outputs_, inputs_, 1, k.lanes, k.vectors, at);
        return;
    }
    // FINE: x w is nearly x' w' + x' (w - w') + (x - x') w', where a dash rounds to bfloat16.
    parts_ = precision == Precision::FINE ? 3 : 1;
    bfloats_ = pack<uint16_t>(outputs_, parts_ * inputs_, 2, k.lanes, k.vectors_bf16, [&](int o, int i) {
        float w = at(o, i % inputs_);
        uint16_t near = bfloat(w);
        return i / inputs_ == 1 ? bfloat(w - unbfloat(near)) : near;
    });
}

void Product::run(const float* in, size_t ld, int rows, float* out, size_t ldo, bool relu, const float* add) const {
    const Kernels& k = *kernels_;
    FloatEnd end{bias_.data(), relu ? 0 : -FLT_MAX, add};
    if (!parts_) {
        k.product({floats_.data(), inputs_, outputs_}, in, ld, rows, end, out, ldo);
        return;
    }
    thread_local Buffer<uint16_t> rounded;
    thread_local Buffer<float> rest;
    size_t width = static_cast<size_t>(parts_) * inputs_;
    if (rounded.size() < (rows + MORE_ROWS) * width) rounded.resize((rows + MORE_ROWS) * width);
    if (parts_ == 1 && ld == width) {
        k.to_bf16(in, rounded.data(), rows * width);
    } else {
        rest.resize(inputs_);
        for (int r = 0; r < rows; r++) {
            uint16_t* near = rounded.data() + r * width;
            k.to_bf16(in + r * ld, near, inputs_);
            if (parts_ == 1) continue;
            for (int i = 0; i < inputs_; i++) rest[i] = in[r * ld + i] - unbfloat(near[i]);
            std::copy(near, near + inputs_, near + inputs_);
            k.to_bf16(rest.data(), near + 2 * inputs_, inputs_);
        }
    }
    k.product_bf16({bfloats_.data(), static_cast<int>(width) / 2, outputs_}, rounded.data(), width, rows, end, out, ldo);
}

Depthwise::Depthwise(const float* weight, const float* bias_, const Order& order)
    : channels(static_cast<int>(order.size())), weights(9 * order.size()), bias(order.size()) {
    for (int c = 0; c < channels; c++) {
        if (order[c] == NONE) continue;
        for (int t = 0; t < 9; t++) weights[t * channels + c] = weight[9 * order[c] + t];
        bias[c] = bias_[order[c]];
    }
}

void Depthwise::run(const float* const rows[3], int columns, float* out) const {
    kernels().depthwise(rows, channels, columns, channels, weights.data(), bias.data(), out, channels);
}

}  // namespace rdc
