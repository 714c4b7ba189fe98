// Usage: check CASE [MUTATIONS]. Decodes the files of a case (made by tests/test_native.py) with every set of kernels,
// compares latents and pixels with those expected, and where MUTATIONS are given codes the latents again and decodes so
// many damaged streams, which may fail in one way only (none without exceptions, as in WebAssembly). Exit status 0 if all
// holds. No Python: sanitizers and emulators run it.
#include <cstdio>
#include <cstdlib>
#include <random>
#include <utility>

#include "../checkerboard.h"
#include "../light.h"
#include "../named.h"

using namespace rdc;

#if !defined(__cpp_exceptions)
void rdc::give_up(const char* why) { std::exit((std::fprintf(stderr, "%s\n", why), 1)); }
#endif

namespace {

void require(bool holds, const char* what) {
    if (!holds) std::exit((std::fprintf(stderr, "%s: %s\n", kernels().name, what), 1));
}

// Products against sums in double: at the largest sums, of nothing at all, and beside a row that holds no numbers.
void check_products() {
    std::mt19937 random(3);
    std::uniform_real_distribution<float> some(-1, 1);
    const int outputs = 48, rows = 5;
    for (int inputs : {5, 112, 640})
        for (bool equal : {true, false}) {
            const Order ins = in_order(inputs), outs = in_order(outputs);
            const size_t ld = ins.size();
            std::vector<float> weights(outputs * inputs), bias(outputs, 0.5f), out(rows * outputs);
            Buffer<float> in((rows + MORE_ROWS) * ld);
            for (float& w : weights) w = equal ? -3 : some(random);
            for (int r = 0; r < rows; r++)
                for (int i = 0; i < inputs; i++) in[r * ld + i] = r == 0 ? 0 : r == 1 ? NAN : equal ? 1000 : 1000 * some(random);
            for (auto [precision, error] : {std::pair{Precision::FAST, 1e-2}, {Precision::FINE, 1e-4}, {Precision::FLOAT, 1e-5}}) {
                Product product(weights.data(), inputs, bias.data(), outs, ins, precision);
                product.run(in.data(), ld, rows, out.data(), outputs);
                for (int r : {0, 2, 3, 4})
                    for (int o = 0; o < outputs; o++) {
                        double sum = bias[o], size = 1;
                        for (int i = 0; i < inputs; i++) {
                            const double part = double(weights[o * inputs + i]) * in[r * ld + i];
                            sum += part, size += std::fabs(part);
                        }
                        require(std::fabs(out[r * outputs + o] - sum) <= error * size, "a product is another");
                    }
            }
        }
}

struct Off {  // pixels beside those expected
    int largest = 0;
    size_t beyond_1 = 0, samples = 0;
};

Off check(const Named& from, int mutations) {
    Off all;
    // latents, hyper, features, hidden; wide, blocks, deep, blocks of the synthesis; rows of the tables, skip_below; of
    // the analysis as of the synthesis; passes
    const int32_t* s = from.at<int32_t>("shape");
    Tables tables{from.at<int32_t>("edges"), from.at<int32_t>("edge_start"), from.at<int32_t>("radius"),
                  from.at<uint16_t>("bucket"), s[8], s[9]};
    IntegerArrays integers{from.under<int16_t>("exact.", ".weight"), from.under<int32_t>("exact.", ".bias"),
                           from.under<int8_t>("exact.", ".shift")};
    Checkerboard entropy({s[0], s[1], s[2], s[3], s[14]}, integers, tables);
    LightSynthesis synthesis({s[0], s[4], s[5], s[6], s[7]}, from.under<float>("synthesis."),
                             from.under<int8_t>("pixels."));
    const bool on_integers = from.has("pixels.steps.deep");
    LightAnalysis analysis({s[0], s[10], s[11], s[12], s[13]}, from.under<float>("analysis."));
    HyperAnalysis hyper(s[0], s[2], s[1], from.under<float>("hyper_analysis."));
    std::mt19937 random(7);
    for (int file = 0; from.has("stream." + std::to_string(file)); file++) {
        const std::string n = "." + std::to_string(file);
        const int32_t* sides = from.at<int32_t>("sides" + n);  // rows, columns, height, width, whether a picture has such latents
        const int rows = sides[0], columns = sides[1], height = sides[2], width = sides[3];
        const size_t latents = size_t(rows) * columns * s[0], samples = size_t(height) * width * 3;
        const std::vector<char>& stream = from.bytes("stream" + n);
        Quality quality{from.at<uint8_t>("hyper_rows" + n), from.at<int32_t>("offset" + n)};
        SynthesisQuality at{from.at<float>("unit" + n), from.at<float>("tint" + n), *from.at<int32_t>("tenths" + n)};
        auto decode = [&](const std::vector<char>& data, int threads, float* y_hat) {
            return entropy.decode(reinterpret_cast<const uint8_t*>(data.data()), data.size(), rows, columns, quality, threads,
                                  y_hat);
        };
        std::vector<float> y_hat(latents);
        for (int threads : {1, 3}) {
            require(decode(stream, threads, y_hat.data()) == *from.at<uint32_t>("crc" + n), "another checksum");
            require(!std::memcmp(y_hat.data(), from.at<float>("y_hat" + n), 4 * latents), "other latents");
            std::vector<uint8_t> pixels(samples);
            synthesis.run(y_hat.data(), at, rows, columns, height, width, threads, pixels.data());
            if (on_integers) require(!std::memcmp(pixels.data(), from.at<uint8_t>("picture" + n), samples), "other pixels");
            if (!sides[4]) continue;
            Off here;
            for (size_t i = 0; i < samples; i++) {
                const int off = std::abs(int(pixels[i]) - int(from.at<uint8_t>("picture" + n)[i]));
                here.largest = std::max(here.largest, off);
                here.beyond_1 += off > 1;
            }
            require(here.largest <= 2, "a pixel more than two levels off");
            require(1000 * here.beyond_1 <= samples, "too many pixels two levels off");
            all.largest = std::max(all.largest, here.largest);
            all.beyond_1 += here.beyond_1;
            all.samples += samples;
        }
        if (mutations < 0) continue;
        std::vector<float> y(latents), gain(s[0], 0.5f), shift(s[1], 0.25f);
        std::vector<float> z(size_t((rows + 3) / 4) * ((columns + 3) / 4) * s[1]);
        analysis.run(from.at<uint8_t>("picture" + n), height, width, rows, columns, 2, y.data());
        hyper.run(y.data(), gain.data(), rows, columns, shift.data(), 2, z.data());
        const std::vector<float> worth(s[0], 1.5f), savings(from.bytes("edges").size() / sizeof(int32_t), 2.0f);
        const Choice choice{worth.data(), savings.data()};
        Coded again = entropy.encode(y.data(), gain.data(), z.data(), rows, columns, quality, 2, choice);
        y[0] = NAN, y[latents - 1] = -INFINITY;  // weights can hold anything
        require(!entropy.encode(y.data(), gain.data(), z.data(), rows, columns, quality, 2, choice).stream.empty(), "no stream");
        std::vector<char> coded(again.stream.begin(), again.stream.end());
        require(decode(coded, 2, y_hat.data()) == again.crc, "what was coded decodes to something else");
        for (int i = 0; i < mutations; i++) {
            std::vector<char> damaged = stream;
            if (i % 4 == 0) damaged.resize(random() % (damaged.size() + 1));
            for (unsigned flips = random() % 4; flips > 0 && !damaged.empty(); flips--)
                damaged[random() % damaged.size()] ^= char(1u << random() % 8);
#if defined(__cpp_exceptions)
            try {
                decode(damaged, 1, y_hat.data());
            } catch (const Damaged&) {
            }
#endif
        }
    }
    return all;
}

}  // namespace

int main(int count, char** arguments) {
    if (count < 2) return 2;
    std::vector<char> memory;
    char some[1 << 16];
    std::FILE* in = std::fopen(arguments[1], "rb");
    for (size_t count; in && (count = std::fread(some, 1, sizeof some, in)) > 0;) memory.insert(memory.end(), some, some + count);
    const Named from(memory.data(), memory.size());
    for (const Kernels* const* k = all_kernels(); *k; k++) {
        use((*k)->name);
        check_products();
        const Off off = check(from, count > 2 ? std::atoi(arguments[2]) : -1);
        std::printf("%s: all as expected, pixels at most %d off, %zu of %zu samples more than 1\n", (*k)->name, off.largest,
                    off.beyond_1, off.samples);
    }
}
