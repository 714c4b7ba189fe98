#include "pixels.h"

#include <cmath>

namespace rdc {
namespace {

constexpr float PIXEL_MEAN = 118;
constexpr int MOST_SHIFT = 30, GAIN_BITS = 16, ROOT_BITS = 30, QUALITIES = 1000;
constexpr double SUMS = 2147483648.0, DEPTHWISE_SUMS = 16777216.0;
// 2^(30 + 1/2), 2^(30 + 1/4), ..., rounded.
constexpr int64_t ROOTS[GAIN_BITS] = {1518500250, 1276901417, 1170923762, 1121280436, 1097253708, 1085434106,
                                      1079572136, 1076653033, 1075196443, 1074468888, 1074105294, 1073923544,
                                      1073832680, 1073787251, 1073764537, 1073753181};

}  // namespace

std::vector<int> PixelIntegers::steps(const std::string& tensor, int channels) const {
    const int8_t* found = pick(pixels_, "steps." + tensor, {channels});
    return {found, found + channels};
}

void PixelIntegers::make(const std::string& layer, std::initializer_list<int> shape, const std::vector<int>& takes,
                         const std::vector<int>& gives, IntegerRange inputs, int unit, bool adds) {
    const float* weight = pick(floats_, layer + ".weight", shape);
    const int outputs = *shape.begin();
    const float* bias = layer == "shortcut" ? nullptr : pick(floats_, layer + ".bias", {outputs});
    const int8_t* shift = pick(pixels_, "shifts." + layer, {outputs});
    Made made{{shape.begin(), shape.end()}, {}, {}, shift};
    size_t count = 1;
    for (size_t side : made.shape) count *= side;
    const size_t each = count / outputs;
    const bool depthwise = made.shape.back() == 3;
    made.weight.resize(count), made.bias.resize(outputs);
    bool fits = true;
    for (int o = 0; o < outputs; o++) {
        fits &= shift[o] >= int(adds) && shift[o] <= MOST_SHIFT;
        double sum = 0;
        for (size_t i = 0; i < each; i++) {
            const int power = unit + takes[depthwise ? size_t(o) : i] - gives[o] + shift[o];
            const double value = std::nearbyint(std::ldexp(double(weight[o * each + i]), power));
            fits &= std::fabs(value) <= WIDE.high;
            made.weight[o * each + i] = fits ? static_cast<int16_t>(value) : int16_t(0);
            sum += std::fabs(value);
        }
        const double half = shift[o] > 0 ? std::ldexp(0.5, shift[o]) : 0, float_bias = bias ? bias[o] : PIXEL_MEAN;
        const double offset = std::nearbyint(std::ldexp(float_bias, std::max(unit, 0) - gives[o] + shift[o])) + half;
        sum *= inputs.high;
        fits &= std::fabs(offset) < SUMS / 2 && sum + std::fabs(offset) < SUMS && (!depthwise || sum < DEPTHWISE_SUMS);
        made.bias[o] = fits ? static_cast<int32_t>(offset) : 0;
    }
    if (!fits) fail<Misfit>(layer + " could overflow on integers");
    made_[layer] = std::move(made);
}

IntegerArrays PixelIntegers::arrays() const {
    IntegerArrays found;
    for (const auto& [name, made] : made_) {
        const std::vector<size_t> outputs{made.shape[0]};
        found.weights[name + ".weight"] = {made.weight.data(), made.shape};
        found.biases[name + ".bias"] = {made.bias.data(), outputs};
        found.shifts[name + ".shift"] = {made.shift, outputs};
    }
    return found;
}

std::vector<int32_t> whole(const float* anchors, int count, double unit, double plus) {
    std::vector<int32_t> found(count);
    for (int i = 0; i < count; i++) {
        const double value = std::nearbyint((anchors[i] + plus) * unit);
        if (!(std::fabs(value) < SUMS)) fail<Misfit>("an anchor of quality beyond all integers");
        found[i] = static_cast<int32_t>(value);
    }
    return found;
}

Unit unit_of(int32_t log_gain) {
    const int64_t exponent = -int64_t(log_gain);
    int64_t mantissa = int64_t(1) << ROOT_BITS;
    for (int place = 1; place <= GAIN_BITS; place++)
        if (exponent >> (GAIN_BITS - place) & 1) mantissa = (mantissa * ROOTS[place - 1] + (1 << (ROOT_BITS - 1))) >> ROOT_BITS;
    const int64_t shift = ROOT_BITS + MEAN_BITS + LATENT_STEP - (exponent >> GAIN_BITS);
    return {mantissa, static_cast<int>(std::clamp<int64_t>(shift, 1, 62))};
}

std::vector<int32_t> interpolated(const std::vector<int32_t>& anchors, int tenths) {
    const int channels = static_cast<int>(anchors.size()) / ANCHORS, position = tenths * (ANCHORS - 1);
    const int low = std::min(position / QUALITIES, ANCHORS - 2), part = position - low * QUALITIES;
    std::vector<int32_t> mixed(channels);
    for (int c = 0; c < channels; c++) {
        const int64_t sum = int64_t(anchors[size_t(low) * channels + c]) * (QUALITIES - part) +
                            int64_t(anchors[size_t(low + 1) * channels + c]) * part;
        mixed[c] = static_cast<int32_t>(sum >= 0 ? sum / QUALITIES : -((-sum + QUALITIES - 1) / QUALITIES));  // floored
    }
    return mixed;
}

}  // namespace rdc
