// Layers as the networks use them: weights in a kernel's order, made from a model's arrays.
#pragma once
#include <cfloat>
#include <cmath>
#include <functional>
#include <map>

#include "common.h"
#include "kernels.h"

namespace rdc {

// An array of a weights file, C order.
template <class T>
struct Array {
    const T* data = nullptr;
    std::vector<size_t> shape;
};

template <class T>
using Arrays = std::map<std::string, Array<T>>;

// arrays[name]; Misfit unless it is there in this shape.
template <class T>
const T* pick(const Arrays<T>& arrays, const std::string& name, std::initializer_list<int> shape) {
    auto found = arrays.find(name);
    if (found == arrays.end() || !std::equal(shape.begin(), shape.end(), found->second.shape.begin(),
                                             found->second.shape.end(), [](int a, size_t b) { return size_t(a) == b; }))
        fail<Misfit>(name + " is missing or altered");
    return found->second.data;
}

// How many outputs a layer has; Misfit unless its bias is there.
template <class T>
int outputs_of(const Arrays<T>& biases, const std::string& layer) {
    auto found = biases.find(layer + ".bias");
    if (found == biases.end() || found->second.shape.size() != 1 || found->second.shape[0] == 0)
        fail<Misfit>(layer + " is missing or altered");
    return static_cast<int>(found->second.shape[0]);
}

// Which channel of a model's layer each channel of ours is; NONE for padding.
using Order = std::vector<int>;
constexpr int NONE = -1;

inline Order in_order(int channels) {
    Order order(padded(channels), NONE);
    for (int c = 0; c < channels; c++) order[c] = c;
    return order;
}

// Every step-th channel from the first on.
inline Order every(int first, int step, int count) {
    Order order(padded(count), NONE);
    for (int c = 0; c < count; c++) order[c] = first + step * c;
    return order;
}

// Weights (outputs, inputs), as a function, to a kernel's panels. per: inputs of a step.
template <class T, class Weight>
Buffer<T> pack(int outputs, int inputs, int per, int lanes, int vectors, Weight weight) {
    Buffer<T> packed(static_cast<size_t>(outputs) * inputs);
    T* next = packed.data();
    for (int first = 0; first < outputs; first += lanes * vectors)
        for (int step = 0; step < inputs; step += per)
            for (int o = first; o < std::min(first + lanes * vectors, outputs); o++)
                for (int k = 0; k < per; k++) *next++ = weight(o, step + k);
    return packed;
}

// Weights, laid out by `pack`, with this thread's memory for the steps that a kernel lists.
inline Packed packed(const void* weights, int steps, int outputs) {
    RDC_PER_THREAD Buffer<int32_t> listed;
    if (listed.size() < size_t(BLOCKS) * steps) listed.resize(size_t(BLOCKS) * steps);
    return {weights, steps, outputs, listed.data()};
}

inline uint16_t bfloat(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    return static_cast<uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

inline float unbfloat(uint16_t value) {
    uint32_t bits = static_cast<uint32_t>(value) << 16;
    float out;
    std::memcpy(&out, &bits, 4);
    return out;
}

// How a matrix product of floats may round: FAST in bfloat16 or in integers of 12 bits where that is faster; FINE to some
// 16 bits at least.
enum class Precision { FAST, FINE, FLOAT };

// A matrix product of floats with a bias.
class Product {
  public:
    Product() = default;
    // weight (.., inputs of the model) by rows of its outputs; outs and ins: its channels in our order.
    Product(const float* weight, int model_inputs, const float* bias, const Order& outs, const Order& ins,
            Precision precision, float scale = 1, float bias_scale = 1);
    // The same product with a ReLU behind it.
    Product then_relu() && { return lower_ = 0, std::move(*this); }
    // in: (rows, ld), of which `inputs` channels are taken -> out (rows, ldo). add: a residual, shaped as out.
    void run(const float* in, size_t ld, int rows, float* out, size_t ldo, const float* add = nullptr) const;
    int outputs() const { return outputs_; }

  private:
    const Kernels* kernels_ = nullptr;  // for which the weights are laid out
    void run_bfloats(const float* in, size_t ld, int rows, const FloatEnd& end, float* out, size_t ldo) const;
    void run_shorts(const float* in, size_t ld, int rows, const FloatEnd& end, float* out, size_t ldo) const;
    int inputs_ = 0, outputs_ = 0, parts_ = 0;  // parts: of a sum in bfloat16
    float lower_ = -FLT_MAX;                    // results below it are raised to it
    Buffer<float> bias_, units_;                // units: of integer weights
    Buffer<float> floats_;                      // one of these three holds the weights
    Buffer<uint16_t> bfloats_;
    Buffer<int16_t> shorts_;
};

// 3x3 of each channel by itself, with ReLU; weights (channels, 1, 3, 3).
class Depthwise {
  public:
    Depthwise() = default;
    Depthwise(const float* weight, const float* bias, const Order& channels);
    // rows (columns, ld) -> out (columns, ldo)
    void run(const float* const rows[3], size_t ld, int columns, float* out, size_t ldo) const;
    int channels() const { return channels_; }

  private:
    int channels_ = 0;
    Buffer<float> weights_, bias_;
};

}  // namespace rdc
