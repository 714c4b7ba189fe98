#include "light.h"

namespace rdc {
namespace {

constexpr int PATCH = 16, SAMPLES = 3 * PATCH * PATCH, CELL = 8, CELL_SAMPLES = 3 * CELL * CELL;
constexpr int POSITIONS = 192;  // that a product should have at least, so that its weights are read less often
constexpr float PIXEL_MEAN = 118, PIXEL_UNIT = 32, LATENT_UNIT = 64, HYPER_UNIT = 4;

// Samples of a square in the order of the picture (row, column, colour), of a model's (colour, row, column).
Order by_rows(int side) {
    Order order;
    for (int i = 0; i < side; i++)
        for (int j = 0; j < side; j++)
            for (int c = 0; c < 3; c++) order.push_back((c * side + i) * side + j);
    return order;
}

Block block(const Arrays<float>& arrays, const std::string& name, int width) {
    const Order outer = in_order(width);
    auto product = [&](const char* part, int outputs, int inputs) {
        return Product(pick(arrays, name + part + ".weight", {outputs, inputs, 1, 1}), inputs,
                       pick(arrays, name + part + ".bias", {outputs}), in_order(outputs), in_order(inputs), Precision::FAST);
    };
    const int mixed = outputs_of(arrays, name + "mix.0");
    Block made;
    made.width = static_cast<int>(outer.size());
    made.enter = product("mix.0", mixed, width);
    made.depthwise = Depthwise(pick(arrays, name + "mix.2.weight", {mixed, 1, 3, 3}),
                               pick(arrays, name + "mix.2.bias", {mixed}), in_order(mixed));
    made.leave = product("mix.4", width, mixed);
    if (arrays.count(name + "feed_forward.0.bias")) {
        const int hidden = outputs_of(arrays, name + "feed_forward.0");
        made.widen = product("feed_forward.0", hidden, width);
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

std::vector<Block> blocks(const Arrays<float>& arrays, int place, int count, int width) {
    std::vector<Block> made;
    for (int i = 0; i < count; i++) made.push_back(block(arrays, trunk(place + i, "."), width));
    return made;
}

}  // namespace

BlockRows::BlockRows(const Block& block, int columns, int most)
    : block_(&block), columns_(columns), row_(size_t(columns) * block.width),
      mixed_row_(size_t(columns) * block.depthwise.channels), mixed_((most + 2) * mixed_row_), held_((most + 1) * row_),
      hidden_((most + 1) * size_t(columns) * std::max(block.depthwise.channels, block.widen.outputs())),
      out_((most + 1) * row_) {}

int BlockRows::push(const float* in, int count, const float*& given) {
    const int width = block_->width, mixed = block_->depthwise.channels, wide = block_->widen.outputs();
    if (in) {
        block_->enter.run(in, width, count * columns_, mixed_.data() + 2 * mixed_row_, mixed, true);
        std::copy(in, in + count * row_, held_.data() + row_);
    } else {
        std::fill_n(mixed_.data() + 2 * mixed_row_, mixed_row_, 0.0f);
    }
    const int first = begun_ ? 0 : 1;  // of the rows held: above the first one there are zeros
    const int ready = in ? count - first : 1;
    for (int r = first; r < first + ready; r++) {
        const float* middle = mixed_.data() + (r + 1) * mixed_row_;
        const float* rows[3] = {middle - mixed_row_, middle, middle + mixed_row_};
        block_->depthwise.run(rows, columns_, hidden_.data() + (r - first) * mixed_row_);
    }
    float* x = held_.data() + first * row_;
    const int positions = ready * columns_;
    block_->leave.run(hidden_.data(), mixed, positions, out_.data(), width, false, x);
    if (wide) {
        block_->widen.run(out_.data(), width, positions, hidden_.data(), wide, true);
        block_->shrink.run(hidden_.data(), wide, positions, out_.data(), width, false, out_.data());
    }
    if (in) {
        std::copy_n(held_.data() + count * row_, row_, held_.data());
        std::copy(mixed_.data() + count * mixed_row_, mixed_.data() + (count + 2) * mixed_row_, mixed_.data());
        begun_ = true;
    }
    given = out_.data();
    return ready;
}

Trunk::Trunk(const std::vector<Block>& blocks, int columns, int most, int first_row) : next_(first_row) {
    for (const Block& block : blocks) blocks_.emplace_back(block, columns, most);
}

LightSynthesis::LightSynthesis(const LightShape& shape, const Arrays<float>& arrays) : shape_(shape) {
    auto [m, wide, wide_blocks, deep, deep_blocks] = shape;
    Order latents = in_order(m), deeps = in_order(deep), wides = in_order(wide);
    // (768, m) by rows of samples: what the network keeps as the matrix of its analysis.
    std::vector<float> mean(SAMPLES, PIXEL_MEAN);
    shortcut_ = Product(pick(arrays, "shortcut.weight", {SAMPLES, m}), m, mean.data(), by_rows(PATCH), latents,
                        Precision::FINE);
    enter_ = Product(pick(arrays, "enter.weight", {deep, m, 1, 1}), m, pick(arrays, "enter.bias", {deep}), deeps, latents,
                     Precision::FAST, 1 / LATENT_UNIT);
    deep_ = blocks(arrays, 0, deep_blocks, deep);
    for (int k = 0; k < 4; k++)
        grow_[k] = Product(pick(arrays, trunk(deep_blocks, ".weight"), {4 * wide, deep, 1, 1}), deep,
                           pick(arrays, trunk(deep_blocks, ".bias"), {4 * wide}), every(k, 4, wide), deeps, Precision::FAST);
    wide_ = blocks(arrays, deep_blocks + 2, wide_blocks, wide);
    int last = deep_blocks + 2 + wide_blocks;
    last_ = Product(pick(arrays, trunk(last, ".weight"), {CELL_SAMPLES, wide, 1, 1}), wide,
                    pick(arrays, trunk(last, ".bias"), {CELL_SAMPLES}), by_rows(CELL), wides, Precision::FAST, PIXEL_UNIT,
                    PIXEL_UNIT);
}

void LightSynthesis::run(const float* y, const float* unit, const float* tint, int rows, int columns, int height,
                         int width, int threads, uint8_t* out) const {
    in_parallel(rows, threads, [&](int first, int end) {
        draw({y, 0}, unit, tint, rows, columns, height, width, first, end, {out, 0});
    });
}

void LightSynthesis::draw(RowsOf<const float> y, const float* unit, const float* tint, int rows, int columns, int height,
                          int width, int first, int end, RowsOf<uint8_t> out) const {
    in_parts(columns, reach(),
             [&](Columns part) { strip(y, unit, tint, rows, columns, height, width, first, end, part, out); });
}

void LightSynthesis::strip(RowsOf<const float> y, const float* unit, const float* tint, int rows, int all_columns,
                           int height, int width, int first, int end, Columns part, RowsOf<uint8_t> out) const {
    const int columns = part.count;
    const int m = shape_.latents, latents = padded(m), deep = padded(shape_.deep), wide = padded(shape_.wide);
    const int first_deep = std::max(0, 2 * first - shape_.wide_blocks) / 2;  // the rows that others depend on
    const int first_in = std::max(0, first_deep - shape_.deep_blocks);
    const int end_in = std::min(rows, (2 * end + shape_.wide_blocks + 1) / 2 + shape_.deep_blocks);
    const int group = rows_of_group(columns);
    const Kernels& k = kernels();
    Trunk deeps(deep_, columns, group, first_in), wides(wide_, 2 * columns, 2, 2 * first_deep);
    Buffer<float> latent(size_t(group) * columns * latents), entered(size_t(group) * columns * deep);
    Buffer<float> grown(size_t(4) * columns * wide), added(size_t(4) * columns * CELL_SAMPLES);
    Buffer<float> linears(size_t(group) * columns * SAMPLES);

    auto take = [&](int row, int count) {
        for (int i = 0; i < count; i++) {
            const float* from = y.at(row + i, size_t(all_columns) * m) + size_t(part.first) * m;
            float* to = latent.data() + size_t(i) * columns * latents;
            for (int x = 0; x < columns; x++)
                for (int c = 0; c < m; c++) to[size_t(x) * latents + c] = from[size_t(x) * m + c] * unit[c];
        }
    };
    auto draw = [&](int row) {  // the sixteen rows of pixels of a row of latents, whose two wide rows are in `added`
        const int place = (row - first) % group;
        if (place == 0) {
            const int count = std::min(group, end - row);
            take(row, count);
            shortcut_.run(latent.data(), latents, count * columns, linears.data(), SAMPLES);
        }
        const float* linear = linears.data() + size_t(place) * columns * SAMPLES;
        for (int i = 0; i < PATCH && PATCH * row + i < height; i++) {
            uint8_t* pixels = out.at(row, size_t(PATCH) * width * 3) + size_t(i) * width * 3;
            const float* half = added.data() + size_t(i / CELL) * 2 * columns * CELL_SAMPLES + i % CELL * 3 * CELL;
            for (int x = part.wanted; x < part.wanted_end; x++) {
                const float* base = linear + size_t(x) * SAMPLES + i * 3 * PATCH;
                const int left = PATCH * (part.first + x), count = std::min(3 * PATCH, 3 * (width - left));
                uint8_t given[3 * PATCH];
                for (int side = 0; side < 2; side++)
                    k.to_pixels(base + side * 3 * CELL, half + (size_t(2) * x + side) * CELL_SAMPLES, 3 * CELL,
                                given + side * 3 * CELL);
                if (count > 0) std::memcpy(pixels + size_t(3) * left, given, count);
            }
        }
    };
    auto from_wide = [&](int row, const float* values, int count) {
        for (int i = 0; i < count; i++, row++, values += size_t(2) * columns * wide) {
            if (row < 2 * first || row >= 2 * end) continue;
            last_.run(values, wide, 2 * columns, added.data() + size_t(row % 2) * 2 * columns * CELL_SAMPLES, CELL_SAMPLES);
            if (row % 2) draw(row / 2);
        }
    };
    auto from_deep = [&](int row, const float* values, int count) {
        for (int i = 0; i < count; i++, row++, values += size_t(columns) * deep) {
            if (row < first_deep) continue;
            for (int k = 0; k < 4; k++)
                grow_[k].run(values, deep, columns, grown.data() + (size_t(k / 2) * 2 * columns + k % 2) * wide, 2 * wide);
            wides.push(grown.data(), 2, from_wide);
        }
    };
    for (int row = first_in; row < end_in; row += group) {
        const int count = std::min(group, end_in - row);
        take(row, count);
        enter_.run(latent.data(), latents, count * columns, entered.data(), deep);
        for (int x = 0; x < count * columns; x++)
            for (int c = 0; c < shape_.deep; c++) entered[size_t(x) * deep + c] *= tint[c];
        deeps.push(entered.data(), count, from_deep);
    }
    if (end_in == rows) {
        deeps.push(nullptr, 0, from_deep);
        wides.push(nullptr, 0, from_wide);
    }
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
    Trunk wides(wide_, 2 * columns, 2, first_in), deeps(deep_, columns, group, first_deep);
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
            last_.run(values, deep, columns, latent.data(), latents, false, latent.data());
            for (int x = part.wanted; x < part.wanted_end; x++)
                std::copy_n(latent.data() + size_t(x) * latents, m, y + (size_t(row) * all_columns + part.first + x) * m);
        }
    };
    int waiting = 0;  // rows in `merged`
    auto from_wide = [&](int row, const float* values, int count) {
        for (int i = 0; i < count; i++, row++, values += size_t(2) * columns * wide) {
            if (row < 2 * first_deep) continue;
            float* to = merged.data() + size_t(waiting) * columns * deep;
            merge_[row % 2].run(values, size_t(2) * wide, columns, to, deep, false, row % 2 ? to : nullptr);
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
                     Precision::FLOAT);
    half_ = Depthwise(pick(arrays, "2.weight", {features, 1, 3, 3}), pick(arrays, "2.bias", {features}), f);
    merge_ = Product(pick(arrays, "5.weight", {features, 4 * features, 1, 1}), 4 * features,
                     pick(arrays, "5.bias", {features}), f, four, Precision::FLOAT);
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
            layer.run(around, columns, row.data());
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
                enter_.run(row.data(), latents, broad, whole.data() + size_t(r) * broad * wide, wide, true);
            }
        });
        in_parallel(tall / 2, threads, [&](int first, int end) {
            Buffer<float> row, four(size_t(broad) * 2 * wide);
            for (int r = first; r < end; r++) {
                pair_up(half_, whole, tall, broad, r, four.data(), row);
                merge_.run(four.data(), size_t(4) * wide, broad / 2, halves.data() + size_t(r) * (broad / 2) * wide, wide, true);
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
