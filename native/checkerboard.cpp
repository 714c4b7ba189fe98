#include "checkerboard.h"

namespace rdc {
namespace {

// exact/fixed.py and exact/tables.py
constexpr IntegerRange ACTIVATION{0, 511}, PARAMETER{-32767, 32767};
constexpr int HYPER_MAX = 127, HYPER_STRIDE = 4, MEAN_ONE = 64, LATENT_MAX = 4095, LEVELS = 128;

template <class T>
T within(T value, T low, T high) {
    return value < low ? low : value > high ? high : value;
}

Order joined(std::initializer_list<Order> orders) {
    Order all;
    for (const Order& order : orders) all.insert(all.end(), order.begin(), order.end());
    return all;
}

// Of symbols as 16-bit little-endian integers, as a file has it.
uint32_t checksum(const std::vector<int16_t>& symbols, uint32_t crc) {
    static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the symbols would have to be turned");
    return crc32c(reinterpret_cast<const uint8_t*>(symbols.data()), 2 * symbols.size(), crc);
}

int16_t symbol_of(float value) {  // to the nearest, halves to even
    value = value > -float(MAX_SYMBOL) ? value : -float(MAX_SYMBOL);  // what is no number is the lowest symbol
    value = value < float(MAX_SYMBOL) ? value : float(MAX_SYMBOL);
    return static_cast<int16_t>((value + 12582912.0f) - 12582912.0f);
}

}  // namespace

Checkerboard::Checkerboard(const CheckerboardShape& shape, const IntegerArrays& arrays, const Tables& tables)
    : shape_(shape), tables_(tables) {
    const int n = shape.hyper, f = shape.features;
    Order hyper = in_order(n), features = in_order(f);
    Order square;  // positions of a 3x3 kernel, each with its channels; of the model's (channel, row, column)
    for (int t = 0; t < 9; t++)
        for (int c : hyper) square.push_back(c == NONE ? NONE : 9 * c + t);
    enter_ = IntegerProduct(arrays, "hyper_synthesis.0", {n, n, 3, 3}, hyper, square, ACTIVATION);
    for (int k = 0; k < 4; k++) {
        grow_[0][k] = IntegerProduct(arrays, "hyper_synthesis.2", {4 * f, n, 1, 1}, every(k, 4, f), hyper, ACTIVATION);
        grow_[1][k] = IntegerProduct(arrays, "hyper_synthesis.7", {4 * f, f, 1, 1}, every(k, 4, f), features, ACTIVATION);
    }
    quarter_ = IntegerDepthwise(arrays, "hyper_synthesis.5", f, features, ACTIVATION);
    half_ = IntegerDepthwise(arrays, "hyper_synthesis.10", f, features, ACTIVATION);
    if (shape.passes == 3) {
        if (shape.latents % 4) fail<Misfit>("three passes need channels in fours");
        passes_.push_back(pass_of(arrays, {4, 0}, nullptr, "first"));
        passes_.push_back(pass_of(arrays, {4, 1}, "middle_context.0", "middle"));
    } else {
        passes_.push_back(pass_of(arrays, {2, 0}, nullptr, "first"));
    }
    passes_.push_back(pass_of(arrays, {2, 1}, "context.0", "second"));
}

Checkerboard::Pass Checkerboard::pass_of(const IntegerArrays& arrays, Lattice lattice, const char* context,
                                      const std::string& network) const {
    const int m = shape_.latents, f = shape_.features, count = m / lattice.of;
    auto outputs = [&](const std::string& layer) {
        const int found = outputs_of(arrays.biases, layer);
        if (found > shape_.hidden) fail<Misfit>(layer + " has more channels than it should");
        return found;
    };
    const std::string one = network + ".0", next = network + ".2", last = network + (context ? ".4" : ".2");
    Pass pass{lattice, {}, {}, {}, {}};
    int hidden = outputs(one);
    if (context) {
        // The features, then the first and the second output of the context for each channel.
        Order seen = joined({in_order(f), every(f, 2, m), every(f + 1, 2, m)});
        for (int k = 0; k < 2; k++) pass.context[k] = IntegerDepthwise(arrays, context, 2 * m, every(k, 2, m), ACTIVATION);
        pass.one = IntegerProduct(arrays, one, {hidden, 2 * m + f, 1, 1}, in_order(hidden), seen, ACTIVATION);
        const int again = outputs(next);
        pass.again = IntegerProduct(arrays, next, {again, hidden, 1, 1}, in_order(again), in_order(hidden), ACTIVATION);
        hidden = again;
    } else {
        pass.one = IntegerProduct(arrays, one, {hidden, f, 1, 1}, in_order(hidden), in_order(f), ACTIVATION);
    }
    for (int c = 0; c < lattice.of; c++) {
        Order outs = joined({every(c, lattice.of, count), every(m + c, lattice.of, count)});  // means, then levels
        pass.last[c] = IntegerProduct(arrays, last, {2 * m, hidden, 1, 1}, outs, in_order(hidden), PARAMETER);
    }
    return pass;
}

// Rows of integers with a row of zeros above and below them.
struct Bordered {
    Bordered(int rows, int columns, int channels)
        : length(size_t(columns) * channels), values((rows + 2) * length) {}
    int16_t* row(int r) { return values.data() + (r + 1) * length; }
    void around(int r, const int16_t* found[3]) {
        for (int i = 0; i < 3; i++) found[i] = row(r - 1 + i);
    }
    size_t length;
    Buffer<int16_t> values;
};

void Checkerboard::hyper_synthesis(const int16_t* z, int rows, int columns, int threads, Buffer<int16_t>& features) const {
    const int n = shape_.hyper, hyper = padded(n), wide = padded(shape_.features);
    // Four products make a row of positions two of twice the length.
    auto grow = [&](const IntegerProduct* layers, const int16_t* in, size_t ld, int count, Bordered& to, int r) {
        for (int k = 0; k < 4; k++)
            layers[k].run(in, ld, count, to.row(2 * r + k / 2) + size_t(k % 2) * wide, 2 * wide);
    };
    const int high = 2 * rows, broad = 2 * columns;
    Bordered whole(2 * high, 2 * broad, wide);
    {
        Bordered half(high, broad, wide);
        in_parallel(rows, threads, [&](int first, int end) {
            Buffer<int16_t> squares(size_t(columns) * 9 * hyper), entered(size_t(columns) * hyper);
            for (int r = first; r < end; r++) {
                for (int x = 0; x < columns; x++)
                    for (int t = 0; t < 9; t++) {
                        int above = r + t / 3 - 1, left = x + t % 3 - 1;
                        bool inside = above >= 0 && above < rows && left >= 0 && left < columns;
                        int16_t* to = squares.data() + (size_t(x) * 9 + t) * hyper;
                        const int16_t* from = z + (inside ? (size_t(above) * columns + left) * n : 0);
                        for (int c = 0; c < n; c++)
                            to[c] = inside ? static_cast<int16_t>(within<int>(from[c], -HYPER_MAX, HYPER_MAX)) : int16_t(0);
                    }
                enter_.run(squares.data(), size_t(9) * hyper, columns, entered.data(), hyper);
                grow(grow_[0], entered.data(), hyper, columns, half, r);
            }
        });
        in_parallel(high, threads, [&](int first, int end) {
            Buffer<int16_t> row(size_t(broad) * wide);
            for (int r = first; r < end; r++) {
                const int16_t* around[3];
                half.around(r, around);
                quarter_.run(around, wide, broad, row.data(), wide);
                grow(grow_[1], row.data(), wide, broad, whole, r);
            }
        });
    }
    features.resize(size_t(2) * high * 2 * broad * wide);
    in_parallel(2 * high, threads, [&](int first, int end) {
        for (int r = first; r < end; r++) {
            const int16_t* around[3];
            whole.around(r, around);
            half_.run(around, wide, 2 * broad, features.data() + size_t(r) * 2 * broad * wide, wide);
        }
    });
}

void Checkerboard::predict(const Pass& pass, const std::vector<int32_t>& offsets, const int16_t* features, size_t feature_row,
                           Bordered& seen, int rows, int columns, int threads, uint8_t* indexes, int16_t* means) const {
    const int count = shape_.latents / pass.lattice.of, lower = padded(count);
    const int wide = padded(shape_.features), hidden = padded(shape_.hidden), latents = padded(shape_.latents);
    const int beyond = static_cast<int>(seen.length / latents);  // columns, with one that mirrors
    const bool sees = pass.context[0].channels() > 0;
    in_parallel(rows, threads, [&](int first, int end) {
        const size_t ld = wide + 2 * size_t(latents);
        Buffer<int16_t> in(sees ? (columns + 1) * ld : 0), a(sees ? size_t(columns) * hidden : 0), b(size_t(columns) * hidden);
        Buffer<int16_t> given(size_t(columns) * 2 * lower);
        for (int r = first; r < end; r++) {
            const int16_t* feature = features + r * feature_row;
            if (!sees) {
                pass.one.run(feature, wide, columns, b.data(), hidden);
            } else {
                const int16_t* around[3];
                seen.around(r, around);
                for (int x = 0; x < columns; x++) std::copy_n(feature + size_t(x) * wide, wide, in.data() + x * ld);
                for (int k = 0; k < 2; k++)
                    pass.context[k].run(around, latents, beyond, in.data() + wide + size_t(k) * latents, ld);
                pass.one.run(in.data(), ld, columns, a.data(), hidden);
                pass.again.run(a.data(), hidden, columns, b.data(), hidden);
            }
            for (int x = 0; x < 2 && x < columns; x++)  // every other position has the same channels
                pass.last[pass.lattice.first(r, x)].run(b.data() + size_t(x) * hidden, 2 * size_t(hidden), (columns - x + 1) / 2,
                                                        given.data() + size_t(x) * 2 * lower, 4 * size_t(lower));
            for (int x = 0; x < columns; x++) {
                const int16_t *mean = given.data() + size_t(x) * 2 * lower, *level = mean + lower;
                const int32_t* offset = offsets.data() + size_t(pass.lattice.first(r, x)) * count;
                const size_t at = (size_t(r) * columns + x) * count;
                std::copy_n(mean, count, means + at);
                uint8_t* index = indexes + at;  // bytes may lie anywhere: compilers need locals to go side by side
                for (int c = 0, all = count; c < all; c++)
                    index[c] = static_cast<uint8_t>(within((level[c] + offset[c]) >> 4, 0, LEVELS - 1));
            }
        }
    });
}

template <class Coder>
void Checkerboard::code(Coder& coder, int rows, int columns, const Quality& quality, int threads, float* y_hat) const {
    const int m = shape_.latents, latents = padded(m);
    const int high = (rows + HYPER_STRIDE - 1) / HYPER_STRIDE, broad = (columns + HYPER_STRIDE - 1) / HYPER_STRIDE;
    Buffer<int16_t> features;
    hyper_synthesis(coder.z(high, broad, quality.hyper_rows), high, broad, threads, features);
    const size_t feature_row = size_t(HYPER_STRIDE) * broad * padded(shape_.features);

    // What a pass sees of those before: contexts mirror a row and a column where the hyper-latents reach beyond the
    // picture (`mirror_edge`).
    const bool mirror_bottom = rows % HYPER_STRIDE && rows > 1, mirror_right = columns % HYPER_STRIDE && columns > 1;
    Bordered seen(rows, columns + mirror_right, latents);
    std::vector<uint8_t> indexes;
    std::vector<int16_t> means;
    for (const Pass& pass : passes_) {
        const bool is_last = &pass == &passes_.back();
        const int of = pass.lattice.of, part = m / of;
        const size_t count = size_t(rows) * columns * part;
        std::vector<int32_t> offsets(m);  // those of the channels of each kind of position lie together
        for (int c = 0; c < m; c++) offsets[c % of * part + c / of] = quality.offset[c];
        indexes.resize(count), means.resize(count);
        predict(pass, offsets, features.data(), feature_row, seen, rows, columns, threads, indexes.data(), means.data());
        const int16_t* symbols = coder.y(pass.lattice, count, indexes.data(), means.data());
        if (is_last && !y_hat) return;
        in_parallel(rows, threads, [&](int first, int end) {
            std::vector<float> decoded(part);
            std::vector<int16_t> context(part);
            for (int r = first; r < end; r++)
                for (int x = 0; x < columns; x++) {
                    const size_t at = (size_t(r) * columns + x) * part;
                    const int lowest = pass.lattice.first(r, x);
                    float* to = y_hat ? y_hat + (size_t(r) * columns + x) * m + lowest : nullptr;
                    int16_t* sees = seen.row(r) + size_t(x) * latents + lowest;
                    for (int c = 0; c < part; c++) {  // all that can be done side by side, before channels lie apart
                        int32_t value = means[at + c] + MEAN_ONE * symbols[at + c];
                        decoded[c] = static_cast<float>(value) / MEAN_ONE;
                        context[c] = static_cast<int16_t>(within((value + 2) >> 2, -LATENT_MAX, LATENT_MAX));
                    }
                    if (to)
                        for (int c = 0; c < part; c++) to[of * c] = decoded[c];
                    if (!is_last)
                        for (int c = 0; c < part; c++) sees[of * c] = context[c];
                }
        });
        if (is_last) return;
        if (mirror_right)
            for (int r = 0; r < rows; r++)
                std::copy_n(seen.row(r) + size_t(columns - 2) * latents, latents, seen.row(r) + size_t(columns) * latents);
        if (mirror_bottom) std::copy_n(seen.row(rows - 2), seen.length, seen.row(rows));
    }
}

namespace {

class Reader {
  public:
    Reader(const uint8_t* stream, size_t bytes, const Tables& tables, int hyper)
        : decoder_(stream, bytes, tables), hyper_(hyper) {}
    const int16_t* z(int rows, int columns, const uint8_t* hyper_rows) {
        std::vector<uint8_t> indexes(size_t(rows) * columns * hyper_);
        for (size_t at = 0; at < indexes.size(); at += hyper_) std::copy_n(hyper_rows, hyper_, indexes.data() + at);
        return read(indexes.data(), indexes.size());
    }
    const int16_t* y(const Lattice&, size_t count, const uint8_t* indexes, const int16_t*) { return read(indexes, count); }
    uint32_t finish() {
        decoder_.finish();
        return crc_;
    }

  private:
    const int16_t* read(const uint8_t* indexes, size_t count) {
        symbols_.resize(count);
        decoder_.decode(indexes, count, symbols_.data());
        crc_ = checksum(symbols_, crc_);
        return symbols_.data();
    }
    Decoder decoder_;
    int hyper_;
    std::vector<int16_t> symbols_;
    uint32_t crc_ = 0;
};

class Writer {
  public:
    Writer(const float* y, const float* gain, const float* z, int rows, int columns, const CheckerboardShape& shape,
           const Tables& tables, const Choice& choice)
        : y_(y), gain_(gain), z_(z), rows_(rows), columns_(columns), shape_(shape), tables_(tables), choice_(choice) {}
    const int16_t* z(int rows, int columns, const uint8_t* hyper_rows) {
        const size_t count = size_t(rows) * columns * shape_.hyper;
        coded_.symbols.resize(count + size_t(rows_) * columns_ * shape_.latents);
        coded_.rows.resize(coded_.symbols.size());
        for (size_t i = 0; i < count; i++) {
            const uint8_t row = hyper_rows[i % shape_.hyper];
            put(row >= tables_.skip_below ? symbol_of(z_[i]) : int16_t(0), row);
        }
        return coded_.symbols.data();
    }
    const int16_t* y(const Lattice& lattice, size_t, const uint8_t* indexes, const int16_t* means) {
        const int16_t* found = coded_.symbols.data() + next_;
        for (int r = 0; r < rows_; r++)
            for (int x = 0; x < columns_; x++) {
                const float* from = y_ + (size_t(r) * columns_ + x) * shape_.latents;
                for (int c = lattice.first(r, x); c < shape_.latents; c += lattice.of) {
                    const uint8_t row = *indexes++;
                    const float value = from[c] * gain_[c] - float(*means++) / MEAN_ONE;
                    put(row >= tables_.skip_below ? chosen(value, row, c) : int16_t(0), row);
                }
            }
        return found;
    }
    Coded finish() {
        coded_.stream = rdc::encode(coded_.symbols.data(), coded_.rows.data(), coded_.symbols.size(), tables_);
        coded_.crc = checksum(coded_.symbols, 0);
        return std::move(coded_);
    }

  private:
    void put(int16_t symbol, uint8_t row) {
        coded_.symbols[next_] = symbol;
        coded_.rows[next_++] = row;
    }
    int16_t chosen(float value, uint8_t row, int channel) const {
        const int symbol = symbol_of(value), radius = tables_.radius[row];
        if (!choice_.worth || symbol == 0 || symbol > radius || symbol < -radius) return static_cast<int16_t>(symbol);
        const int sign = symbol > 0 ? 1 : -1;
        // (value - symbol + sign)^2 - (value - symbol)^2
        const float error = 1.0f + 2.0f * (value - float(symbol)) * float(sign);
        const bool lower = choice_.savings[tables_.edge_start[row] + radius + symbol] > choice_.worth[channel] * error;
        return static_cast<int16_t>(lower ? symbol - sign : symbol);
    }
    const float *y_, *gain_, *z_;
    int rows_, columns_;
    CheckerboardShape shape_;
    Tables tables_;
    Choice choice_;
    Coded coded_;
    size_t next_ = 0;
};

}  // namespace

uint32_t Checkerboard::decode(const uint8_t* stream, size_t bytes, int rows, int columns, const Quality& quality,
                              int threads, float* y_hat) const {
    Reader reader(stream, bytes, tables_, shape_.hyper);
    code(reader, rows, columns, quality, threads, y_hat);
    return reader.finish();
}

Coded Checkerboard::encode(const float* y, const float* gain, const float* z, int rows, int columns,
                           const Quality& quality, int threads, const Choice& choice) const {
    Writer writer(y, gain, z, rows, columns, shape_, tables_, choice);
    code(writer, rows, columns, quality, threads, nullptr);
    return writer.finish();
}

}  // namespace rdc
