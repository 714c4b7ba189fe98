#include "light.h"

#include "pixels.h"

namespace rdc {
namespace {

constexpr int PATCH = 16, SAMPLES = 3 * PATCH * PATCH, CELL = 8, CELL_SAMPLES = 3 * CELL * CELL;
constexpr int POSITIONS = 192;  // that a product should have at least, so that its weights are read less often
constexpr int PIXEL_UNIT_BITS = 5, LATENT_UNIT_BITS = 6;
constexpr float PIXEL_MEAN = 118, PIXEL_UNIT = 1 << PIXEL_UNIT_BITS, LATENT_UNIT = 1 << LATENT_UNIT_BITS, HYPER_UNIT = 4;

// Samples of a square in the order of the picture (row, column, colour), of a model's (colour, row, column).
Order by_rows(int side) {
    Order order;
    for (int i = 0; i < side; i++)
        for (int j = 0; j < side; j++)
            for (int c = 0; c < 3; c++) order.push_back((c * side + i) * side + j);
    return order;
}

Block<OnFloats> block(const Arrays<float>& arrays, const std::string& name, int width) {
    const Order outer = in_order(width);
    auto product = [&](const char* part, int outputs, int inputs) {
        return Product(pick(arrays, name + part + ".weight", {outputs, inputs, 1, 1}), inputs,
                       pick(arrays, name + part + ".bias", {outputs}), in_order(outputs), in_order(inputs), Precision::FAST);
    };
    const int mixed = outputs_of(arrays, name + "mix.0");
    Block<OnFloats> made;
    made.width = static_cast<int>(outer.size());
    made.enter = product("mix.0", mixed, width).then_relu();
    made.depthwise = Depthwise(pick(arrays, name + "mix.2.weight", {mixed, 1, 3, 3}),
                               pick(arrays, name + "mix.2.bias", {mixed}), in_order(mixed));
    made.leave = product("mix.4", width, mixed);
    if (arrays.count(name + "feed_forward.0.bias")) {
        const int hidden = outputs_of(arrays, name + "feed_forward.0");
        made.widen = product("feed_forward.0", hidden, width).then_relu();
        made.shrink = product("feed_forward.2", width, hidden);
    }
    return made;
}

std::string trunk(int place, const char* part = "") { return "trunk." + std::to_string(place) + part; }

constexpr int PART = 512;  // columns of latents that are computed together

// work(part) for the parts of so many columns; reach: how far away a column can see.
template <class Work>
void in_parts(int columns, int reach, Work work) {
    for (int wanted = 0; wanted < columns; wanted += PART) {
        const int end = std::min(columns, wanted + PART);
        const int first = std::max(0, wanted - reach), last = std::min(columns, end + reach);
        work(Columns{first, last - first, wanted - first, end - first});
    }
}

int rows_of_group(int columns) { return std::max(1, POSITIONS / columns); }

std::vector<Block<OnFloats>> blocks(const Arrays<float>& arrays, int place, int count, int width) {
    std::vector<Block<OnFloats>> made;
    for (int i = 0; i < count; i++) made.push_back(block(arrays, trunk(place + i, "."), width));
    return made;
}

// The integers of a block, made from its floats; then the block.
Block<OnIntegers> block(PixelIntegers& integers, const Arrays<float>& arrays, const std::string& name, int width,
                        const std::vector<int>& steps) {
    const Order outer = in_order(width);
    // From steps of what goes in to those of what comes out; the last layer's are those of the block.
    auto make = [&](const char* part, int outputs, int inputs, const std::vector<int>& takes, bool leaves) {
        const std::vector<int> gives = leaves ? steps : integers.steps(name + part, outputs);
        integers.make(name + part, {outputs, inputs, 1, 1}, takes, gives, leaves ? INSIDE : WIDE, 0, leaves);
        return gives;
    };
    auto product = [&](const char* part, int outputs, int inputs, IntegerRange range) {
        return IntegerProduct(integers.arrays(), name + part, {outputs, inputs, 1, 1}, in_order(outputs), in_order(inputs), range);
    };
    const int mixed = outputs_of(arrays, name + "mix.0");
    const std::vector<int> entered = make("mix.0", mixed, width, steps, false);
    const std::vector<int> around = integers.steps(name + "mix.2", mixed);
    integers.make(name + "mix.2", {mixed, 1, 3, 3}, entered, around, INSIDE);
    make("mix.4", width, mixed, around, true);
    Block<OnIntegers> made;
    made.width = static_cast<int>(outer.size());
    made.enter = product("mix.0", mixed, width, INSIDE);
    made.depthwise = IntegerDepthwise(integers.arrays(), name + "mix.2", mixed, in_order(mixed), INSIDE);
    made.leave = product("mix.4", width, mixed, WIDE);
    if (arrays.count(name + "feed_forward.0.bias")) {
        const int hidden = outputs_of(arrays, name + "feed_forward.0");
        make("feed_forward.2", width, hidden, make("feed_forward.0", hidden, width, steps, false), true);
        made.widen = product("feed_forward.0", hidden, width, INSIDE);
        made.shrink = product("feed_forward.2", width, hidden, WIDE);
    }
    return made;
}

void to_pixels(const float* a, const float* b, int count, uint8_t* out) { kernels().to_pixels(a, b, count, out); }
void to_pixels(const int16_t* a, const int16_t* b, int count, uint8_t* out) { kernels().to_pixels_i16(a, b, count, out); }

int16_t rounded(int64_t value, int shift) {
    value = (value + (int64_t(1) << (shift - 1))) >> shift;
    return static_cast<int16_t>(std::clamp<int64_t>(value, WIDE.low, WIDE.high));
}

// Rows first to end of latents, in a part of the columns.
template <class Numbers, class Tuning>
void strip(const LightShape& shape, const SynthesisLayers<Numbers>& layers, const Tuning& tuning, RowsOf<const float> y, int rows,
           int all_columns, int height, int width, int first, int end, Columns part, RowsOf<uint8_t> out) {
    using Value = typename Numbers::Value;
    const int columns = part.count;
    const int m = shape.latents, latents = padded(m), deep = padded(shape.deep), wide = padded(shape.wide);
    const int first_deep = std::max(0, 2 * first - shape.wide_blocks) / 2;  // the rows that others depend on
    const int first_in = std::max(0, first_deep - shape.deep_blocks);
    const int end_in = std::min(rows, (2 * end + shape.wide_blocks + 1) / 2 + shape.deep_blocks);
    const int group = rows_of_group(columns);
    Trunk<Numbers> deeps(layers.deep, columns, group, first_in), wides(layers.wide, 2 * columns, 2, 2 * first_deep);
    Buffer<Value> latent(size_t(group) * columns * latents), entered(size_t(group) * columns * deep);
    Buffer<Value> grown(size_t(4) * columns * wide), added(size_t(4) * columns * CELL_SAMPLES);
    Buffer<Value> linears(size_t(group) * columns * SAMPLES);

    auto take = [&](int row, int count) {
        for (int i = 0; i < count; i++) {
            const float* from = y.at(row + i, size_t(all_columns) * m) + size_t(part.first) * m;
            Value* to = latent.data() + size_t(i) * columns * latents;
            for (int x = 0; x < columns; x++)
                for (int c = 0; c < m; c++) to[size_t(x) * latents + c] = tuning.latent(c, from[size_t(x) * m + c]);
        }
    };
    auto draw = [&](int row) {  // the sixteen rows of pixels of a row of latents, whose two wide rows are in `added`
        const int place = (row - first) % group;
        if (place == 0) {
            const int count = std::min(group, end - row);
            take(row, count);
            layers.shortcut.run(latent.data(), latents, count * columns, linears.data(), SAMPLES);
        }
        const Value* linear = linears.data() + size_t(place) * columns * SAMPLES;
        for (int i = 0; i < PATCH && PATCH * row + i < height; i++) {
            uint8_t* pixels = out.at(row, size_t(PATCH) * width * 3) + size_t(i) * width * 3;
            const Value* half = added.data() + size_t(i / CELL) * 2 * columns * CELL_SAMPLES + i % CELL * 3 * CELL;
            for (int x = part.wanted; x < part.wanted_end; x++) {
                const Value* base = linear + size_t(x) * SAMPLES + i * 3 * PATCH;
                const int left = PATCH * (part.first + x), count = std::min(3 * PATCH, 3 * (width - left));
                uint8_t given[3 * PATCH];
                for (int side = 0; side < 2; side++)
                    to_pixels(base + side * 3 * CELL, half + (size_t(2) * x + side) * CELL_SAMPLES, 3 * CELL,
                                given + side * 3 * CELL);
                if (count > 0) std::memcpy(pixels + size_t(3) * left, given, count);
            }
        }
    };
    auto from_wide = [&](int row, const Value* values, int count) {
        for (int i = 0; i < count; i++, row++, values += size_t(2) * columns * wide) {
            if (row < 2 * first || row >= 2 * end) continue;
            layers.last.run(values, wide, 2 * columns, added.data() + size_t(row % 2) * 2 * columns * CELL_SAMPLES, CELL_SAMPLES);
            if (row % 2) draw(row / 2);
        }
    };
    auto from_deep = [&](int row, const Value* values, int count) {
        for (int i = 0; i < count; i++, row++, values += size_t(columns) * deep) {
            if (row < first_deep) continue;
            for (int k = 0; k < 4; k++)
                layers.grow[k].run(values, deep, columns, grown.data() + (size_t(k / 2) * 2 * columns + k % 2) * wide, 2 * wide);
            wides.push(grown.data(), 2, from_wide);
        }
    };
    for (int row = first_in; row < end_in; row += group) {
        const int count = std::min(group, end_in - row);
        take(row, count);
        layers.enter.run(latent.data(), latents, count * columns, entered.data(), deep);
        for (int x = 0; x < count * columns; x++)
            for (int c = 0; c < shape.deep; c++) entered[size_t(x) * deep + c] = tuning.entered(c, entered[size_t(x) * deep + c]);
        deeps.push(entered.data(), count, from_deep);
    }
    if (end_in == rows) {
        deeps.push(nullptr, 0, from_deep);
        wides.push(nullptr, 0, from_wide);
    }
}

}  // namespace

LightSynthesis::LightSynthesis(const LightShape& shape, const Arrays<float>& arrays, const Arrays<int8_t>& pixels)
    : shape_(shape), on_integers_(!pixels.empty()) {
    on_integers_ ? build(arrays, pixels) : build(arrays);
}

void LightSynthesis::build(const Arrays<float>& arrays) {
    auto [m, wide, wide_blocks, deep, deep_blocks] = shape_;
    const Order latents = in_order(m), deeps = in_order(deep), wides = in_order(wide);
    SynthesisLayers<OnFloats>& made = floats_;
    // (768, m) by rows of samples: what the network keeps as the matrix of its analysis.
    std::vector<float> mean(SAMPLES, PIXEL_MEAN);
    made.shortcut = Product(pick(arrays, "shortcut.weight", {SAMPLES, m}), m, mean.data(), by_rows(PATCH), latents,
                            Precision::FINE);
    made.enter = Product(pick(arrays, "enter.weight", {deep, m, 1, 1}), m, pick(arrays, "enter.bias", {deep}), deeps,
                         latents, Precision::FAST, 1 / LATENT_UNIT);
    made.deep = blocks(arrays, 0, deep_blocks, deep);
    for (int k = 0; k < 4; k++)
        made.grow[k] = Product(pick(arrays, trunk(deep_blocks, ".weight"), {4 * wide, deep, 1, 1}), deep,
                               pick(arrays, trunk(deep_blocks, ".bias"), {4 * wide}), every(k, 4, wide), deeps, Precision::FAST);
    made.wide = blocks(arrays, deep_blocks + 2, wide_blocks, wide);
    const int last = deep_blocks + 2 + wide_blocks;
    made.last = Product(pick(arrays, trunk(last, ".weight"), {CELL_SAMPLES, wide, 1, 1}), wide,
                        pick(arrays, trunk(last, ".bias"), {CELL_SAMPLES}), by_rows(CELL), wides, Precision::FAST, PIXEL_UNIT,
                        PIXEL_UNIT);
}

void LightSynthesis::build(const Arrays<float>& arrays, const Arrays<int8_t>& pixels) {
    auto [m, wide, wide_blocks, deep, deep_blocks] = shape_;
    const Order latents = in_order(m), deeps = in_order(deep), wides = in_order(wide);
    const std::string grow = trunk(deep_blocks), last = trunk(deep_blocks + 2 + wide_blocks);
    SynthesisLayers<OnIntegers>& made = integers_;
    PixelIntegers integers(arrays, pixels);
    const std::vector<int> of_latents(m, LATENT_STEP), entered = integers.steps("entered", deep);
    const std::vector<int> of_deep = integers.steps("deep", deep), of_wide = integers.steps("wide", wide);
    std::vector<int> grown;
    for (int o = 0; o < 4 * wide; o++) grown.push_back(of_wide[o / 4]);
    integers.make("shortcut", {SAMPLES, m}, of_latents, std::vector<int>(SAMPLES, SAMPLE_STEP), WIDE);
    integers.make("enter", {deep, m, 1, 1}, of_latents, entered, WIDE, -LATENT_UNIT_BITS);
    integers.make(grow, {4 * wide, deep, 1, 1}, of_deep, grown, WIDE);
    integers.make(last, {CELL_SAMPLES, wide, 1, 1}, of_wide, std::vector<int>(CELL_SAMPLES, SAMPLE_STEP), WIDE,
                  PIXEL_UNIT_BITS);
    const IntegerArrays found = integers.arrays();
    made.shortcut = IntegerProduct(found, "shortcut", {SAMPLES, m}, by_rows(PATCH), latents, WIDE);
    made.enter = IntegerProduct(found, "enter", {deep, m, 1, 1}, deeps, latents, WIDE);
    for (int k = 0; k < 4; k++)
        made.grow[k] = IntegerProduct(found, grow, {4 * wide, deep, 1, 1}, every(k, 4, wide), deeps, WIDE);
    made.last = IntegerProduct(found, last, {CELL_SAMPLES, wide, 1, 1}, by_rows(CELL), wides, WIDE);
    for (int i = 0; i < deep_blocks; i++) made.deep.push_back(block(integers, arrays, trunk(i, "."), deep, of_deep));
    for (int i = 0; i < wide_blocks; i++)
        made.wide.push_back(block(integers, arrays, trunk(deep_blocks + 2 + i, "."), wide, of_wide));
    log_gains_ = whole(pick(arrays, "log_gain.values", {ANCHORS, m}), ANCHORS * m, GAIN_STEPS);
    tints_ = whole(pick(arrays, "tint.values", {ANCHORS, deep}), ANCHORS * deep, 1 << TINT_BITS, 1);
    for (int c = 0; c < deep; c++) {
        tint_shift_.push_back(TINT_BITS + of_deep[c] - entered[c]);
        if (tint_shift_[c] < 1 || tint_shift_[c] > 62) fail<Misfit>("steps too far apart");
    }
}

IntegerTuning LightSynthesis::tuning(int tenths) const {
    IntegerTuning made;
    for (int32_t log_gain : interpolated(log_gains_, tenths)) {
        const Unit unit = unit_of(log_gain);
        made.mantissa.push_back(unit.mantissa), made.shift.push_back(unit.shift);
    }
    for (int32_t factor : interpolated(tints_, tenths)) made.factor.push_back(factor);
    made.back = &tint_shift_;
    return made;
}

int16_t IntegerTuning::latent(int c, float y) const {
    constexpr float TO_WHOLE = 12582912.0f;  // the next float is 1 larger
    const int64_t whole = static_cast<int32_t>((y * (1 << MEAN_BITS) + TO_WHOLE) - TO_WHOLE);
    return rounded(whole * mantissa[c], shift[c]);
}

int16_t IntegerTuning::entered(int c, int16_t value) const { return rounded(value * factor[c], (*back)[c]); }

void LightSynthesis::run(const float* y, const SynthesisQuality& quality, int rows, int columns, int height, int width,
                         int threads, uint8_t* out) const {
    in_parallel(rows, threads, [&](int first, int end) {
        draw({y, 0}, quality, rows, columns, height, width, first, end, {out, 0});
    });
}

void LightSynthesis::draw(RowsOf<const float> y, const SynthesisQuality& quality, int rows, int columns, int height,
                          int width, int first, int end, RowsOf<uint8_t> out) const {
    auto in_numbers = [&](const auto& layers, const auto& tuning) {
        in_parts(columns, reach(), [&](Columns part) {
            strip(shape_, layers, tuning, y, rows, columns, height, width, first, end, part, out);
        });
    };
    if (on_integers_)
        in_numbers(integers_, tuning(quality.tenths));
    else
        in_numbers(floats_, FloatTuning{quality.unit, quality.tint});
}

LightAnalysis::LightAnalysis(const LightShape& shape, const Arrays<float>& arrays) : shape_(shape) {
    auto [m, wide, wide_blocks, deep, deep_blocks] = shape;
    Order latents = in_order(m), deeps = in_order(deep), wides = in_order(wide);
    const float* basis = pick(arrays, "shortcut.weight", {SAMPLES, m});
    std::vector<float> turned(size_t(m) * SAMPLES);
    for (int s = 0; s < SAMPLES; s++)
        for (int c = 0; c < m; c++) turned[size_t(c) * SAMPLES + s] = basis[size_t(s) * m + c];
    shortcut_ = Product(turned.data(), SAMPLES, nullptr, latents, by_rows(PATCH), Precision::FINE);
    enter_ = Product(pick(arrays, trunk(1, ".weight"), {wide, CELL_SAMPLES, 1, 1}), CELL_SAMPLES,
                     pick(arrays, trunk(1, ".bias"), {wide}), wides, by_rows(CELL), Precision::FAST, 1 / PIXEL_UNIT);
    wide_ = blocks(arrays, 2, wide_blocks, wide);
    int place = 2 + wide_blocks + 1;
    for (int i = 0; i < 2; i++) {  // of two rows of two positions
        Order ins(2 * padded(wide), NONE);
        for (int j = 0; j < 2; j++)
            for (int c = 0; c < wide; c++) ins[j * padded(wide) + c] = 4 * c + 2 * i + j;
        merge_[i] = Product(pick(arrays, trunk(place, ".weight"), {deep, 4 * wide, 1, 1}), 4 * wide,
                            i ? nullptr : pick(arrays, trunk(place, ".bias"), {deep}), deeps, ins, Precision::FAST);
    }
    deep_ = blocks(arrays, place + 1, deep_blocks, deep);
    place += 1 + deep_blocks;
    last_ = Product(pick(arrays, trunk(place, ".weight"), {m, deep, 1, 1}), deep, pick(arrays, trunk(place, ".bias"), {m}),
                    latents, deeps, Precision::FAST, LATENT_UNIT, LATENT_UNIT);
}

void LightAnalysis::run(const uint8_t* image, int height, int width, int rows, int columns, int threads, float* y) const {
    in_parallel(rows, threads, [&](int first, int end) {
        in_parts(columns, shape_.deep_blocks + (shape_.wide_blocks + 1) / 2, [&](Columns part) {
            strip(image, height, width, rows, columns, first, end, part, y);
        });
    });
}

void LightAnalysis::add(const float* samples, const int32_t* positions, int count, float* y) const {
    const int m = shape_.latents, latents = padded(m), at_once = 64;
    Buffer<float> latent(size_t(at_once) * latents);
    for (int first = 0; first < count; first += at_once) {
        const int some = std::min(at_once, count - first);
        shortcut_.run(samples + size_t(first) * SAMPLES, SAMPLES, some, latent.data(), latents);
        for (int k = 0; k < some; k++) {
            float* to = y + size_t(positions[first + k]) * m;
            for (int c = 0; c < m; c++) to[c] += latent[size_t(k) * latents + c];
        }
    }
}

void LightAnalysis::strip(const uint8_t* image, int height, int width, int rows, int all_columns, int first, int end,
                          Columns part, float* y) const {
    const int columns = part.count, left = PATCH * part.first;
    const int m = shape_.latents, latents = padded(m), deep = padded(shape_.deep), wide = padded(shape_.wide);
    const int first_deep = std::max(0, first - shape_.deep_blocks);
    const int first_in = std::max(0, 2 * first_deep - shape_.wide_blocks);
    const int end_in = std::min(2 * rows, 2 * (end + shape_.deep_blocks) + shape_.wide_blocks);
    const int group = rows_of_group(columns);
    Trunk<OnFloats> wides(wide_, 2 * columns, 2, first_in), deeps(deep_, columns, group, first_deep);
    Buffer<float> samples(size_t(columns) * SAMPLES), entered(size_t(4) * columns * wide);
    Buffer<float> merged(size_t(group) * columns * deep), latent(size_t(columns) * latents);

    auto take = [&](int row, int side, float* to) {  // squares of the picture, one after another
        const int count = PATCH * columns / side, inside = std::min(count, std::max(0, (width - left) / side));
        for (int i = 0; i < side; i++) {
            const uint8_t* pixels = image + size_t(std::min(row * side + i, height - 1)) * width * 3;
            float* square = to + i * 3 * side;
            for (int x = 0; x < inside; x++, square += 3 * side * side)
                for (int s = 0; s < 3 * side; s++) square[s] = pixels[size_t(3) * (left + x * side) + s] - PIXEL_MEAN;
            for (int x = inside; x < count; x++, square += 3 * side * side)
                for (int s = 0; s < 3 * side; s++)
                    square[s] = pixels[size_t(3) * std::min(left + x * side + s / 3, width - 1) + s % 3] - PIXEL_MEAN;
        }
    };
    auto from_deep = [&](int row, const float* values, int count) {
        for (int i = 0; i < count; i++, row++, values += size_t(columns) * deep) {
            if (row < first || row >= end) continue;
            take(row, PATCH, samples.data());
            shortcut_.run(samples.data(), SAMPLES, columns, latent.data(), latents);
            last_.run(values, deep, columns, latent.data(), latents, latent.data());
            for (int x = part.wanted; x < part.wanted_end; x++)
                std::copy_n(latent.data() + size_t(x) * latents, m, y + (size_t(row) * all_columns + part.first + x) * m);
        }
    };
    int waiting = 0;  // rows in `merged`
    auto from_wide = [&](int row, const float* values, int count) {
        for (int i = 0; i < count; i++, row++, values += size_t(2) * columns * wide) {
            if (row < 2 * first_deep) continue;
            float* to = merged.data() + size_t(waiting) * columns * deep;
            merge_[row % 2].run(values, size_t(2) * wide, columns, to, deep, row % 2 ? to : nullptr);
            if (row % 2 && ++waiting == group) {
                deeps.push(merged.data(), group, from_deep);
                waiting = 0;
            }
        }
    };
    for (int row = first_in; row < end_in; row += 2) {
        const int count = std::min(2, end_in - row);
        for (int i = 0; i < count; i++) take(row + i, CELL, samples.data() + size_t(i) * 2 * columns * CELL_SAMPLES);
        enter_.run(samples.data(), CELL_SAMPLES, count * 2 * columns, entered.data(), wide);
        wides.push(entered.data(), count, from_wide);
    }
    if (end_in == 2 * rows) wides.push(nullptr, 0, from_wide);
    if (waiting) deeps.push(merged.data(), waiting, from_deep);
    if (end_in == 2 * rows) deeps.push(nullptr, 0, from_deep);
}

HyperAnalysis::HyperAnalysis(int latents, int features, int hyper, const Arrays<float>& arrays)
    : latents_(latents), features_(features), hyper_(hyper) {
    Order in = in_order(latents), f = in_order(features);
    const int wide = padded(features);
    Order four(4 * wide, NONE);  // a square of positions, of the model's (channel, row, column)
    for (int k = 0; k < 4; k++)
        for (int c = 0; c < features; c++) four[k * wide + c] = 4 * c + k;
    enter_ = Product(pick(arrays, "0.weight", {features, latents, 1, 1}), latents, pick(arrays, "0.bias", {features}), f, in,
                     Precision::FLOAT).then_relu();
    half_ = Depthwise(pick(arrays, "2.weight", {features, 1, 3, 3}), pick(arrays, "2.bias", {features}), f);
    merge_ = Product(pick(arrays, "5.weight", {features, 4 * features, 1, 1}), 4 * features,
                     pick(arrays, "5.bias", {features}), f, four, Precision::FLOAT).then_relu();
    quarter_ = Depthwise(pick(arrays, "7.weight", {features, 1, 3, 3}), pick(arrays, "7.bias", {features}), f);
    last_ = Product(pick(arrays, "10.weight", {hyper, 4 * features, 1, 1}), 4 * features, pick(arrays, "10.bias", {hyper}),
                    in_order(hyper), four, Precision::FLOAT, HYPER_UNIT, HYPER_UNIT);
}

void HyperAnalysis::run(const float* y, const float* gain, int rows, int columns, const float* shift, int threads,
                        float* z) const {
    const int m = latents_, latents = padded(m), wide = padded(features_);
    const int tall = (rows + 3) / 4 * 4, broad = (columns + 3) / 4 * 4;
    const Kernels& k = kernels();
    // 3x3 of rows 2r and 2r + 1 of (tall, columns, wide); their positions 2x and 2x + 1 lie as one of four times the
    // channels.
    auto pair_up = [&](const Depthwise& layer, const Buffer<float>& from, int tall, int columns, int r, float* to,
                       Buffer<float>& row) {
        const size_t length = size_t(columns) * wide;
        row.assign(2 * length, 0);
        const float *zeros = row.data() + length, *first = from.data() + 2 * r * length;
        for (int i = 0; i < 2; i++, first += length) {
            const float* around[3] = {2 * r + i ? first - length : zeros, first, 2 * r + i + 1 < tall ? first + length : zeros};
            layer.run(around, wide, columns, row.data(), wide);
            for (int x = 0; x < columns; x += 2)
                std::copy_n(row.data() + size_t(x) * wide, 2 * wide, to + (size_t(x) * 2 + 2 * i) * wide);
        }
    };
    Buffer<float> halves(size_t(tall / 2) * (broad / 2) * wide);
    {
        Buffer<float> whole(size_t(tall) * broad * wide);
        in_parallel(tall, threads, [&](int first, int end) {
            Buffer<float> row(size_t(broad) * latents);
            for (int r = first; r < end; r++) {
                for (int x = 0; x < broad; x++) {
                    const float* from = y + (size_t(std::min(r, rows - 1)) * columns + std::min(x, columns - 1)) * m;
                    for (int c = 0; c < m; c++) row[size_t(x) * latents + c] = from[c] * gain[c];
                }
                k.asinh(row.data(), row.data(), row.size());
                enter_.run(row.data(), latents, broad, whole.data() + size_t(r) * broad * wide, wide);
            }
        });
        in_parallel(tall / 2, threads, [&](int first, int end) {
            Buffer<float> row, four(size_t(broad) * 2 * wide);
            for (int r = first; r < end; r++) {
                pair_up(half_, whole, tall, broad, r, four.data(), row);
                merge_.run(four.data(), size_t(4) * wide, broad / 2, halves.data() + size_t(r) * (broad / 2) * wide, wide);
            }
        });
    }
    in_parallel(tall / 4, threads, [&](int first, int end) {
        Buffer<float> row, four(size_t(broad) * wide), given(size_t(broad / 4) * last_.outputs());
        for (int r = first; r < end; r++) {
            pair_up(quarter_, halves, tall / 2, broad / 2, r, four.data(), row);
            last_.run(four.data(), size_t(4) * wide, broad / 4, given.data(), last_.outputs());
            for (int x = 0; x < broad / 4; x++)
                for (int c = 0; c < hyper_; c++)
                    z[(size_t(r) * (broad / 4) + x) * hyper_ + c] = given[size_t(x) * last_.outputs() + c] - shift[c];
        }
    });
}

}  // namespace rdc
