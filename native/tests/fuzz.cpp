// A libFuzzer target: clang++, -DRDC_FUZZ=ON, and the environment variable RDC_CASE with a case as check.cpp reads it.
// benchmarks/fuzz_native.py builds it, writes case and seeds, and runs it.
//
// Of an input the first byte says what is done with the rest:
// 0: two bytes for the sides, one for the file whose quality is taken, then a stream that is decoded to latents; what can
//    be decoded gives a picture, and its symbols the same stream again.
// 1: one byte for the number of table rows in turn, these rows, then a stream for the coder alone: likewise.
// 2: one byte for the sides, then floats that are latents: they are coded and decoded again, and give a picture.
// 3: arrays by name, as hosts of the WebAssembly module give them.
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>

#include "../checkerboard.h"
#include "../light.h"
#include "../named.h"

using namespace rdc;

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t most);

namespace {

constexpr int LONGEST = 6;        // sides in latents
constexpr size_t SYMBOLS = 4096;  // of the coder alone

void require(bool holds, const char* what) {
    if (!holds) std::abort();
    (void)what;
}

std::vector<char> read(const char* path) {
    std::vector<char> memory;
    char some[1 << 16];
    std::FILE* in = path ? std::fopen(path, "rb") : nullptr;
    if (!in) std::exit((std::fprintf(stderr, "RDC_CASE names no case\n"), 2));
    for (size_t count; (count = std::fread(some, 1, sizeof some, in)) > 0;) memory.insert(memory.end(), some, some + count);
    std::fclose(in);
    return memory;
}

struct Model {
    Model(const std::vector<char>& memory, bool on_integers)
        : from(memory.data(), memory.size()), shape(from.at<int32_t>("shape")),
          tables{from.at<int32_t>("edges"), from.at<int32_t>("edge_start"), from.at<int32_t>("radius"),
                 from.at<uint16_t>("bucket"), shape[8], shape[9]},
          entropy({shape[0], shape[1], shape[2], shape[3], shape[14]},
                  {from.under<int16_t>("exact.", ".weight"), from.under<int32_t>("exact.", ".bias"),
                   from.under<int8_t>("exact.", ".shift")},
                  tables),
          synthesis({shape[0], shape[4], shape[5], shape[6], shape[7]}, from.under<float>("synthesis."),
                    on_integers ? from.under<int8_t>("pixels.") : Arrays<int8_t>{}) {
        while (from.has("stream." + std::to_string(files))) files++;
    }
    Quality quality(int file) const {
        const std::string n = "." + std::to_string(file % files);
        return {from.at<uint8_t>("hyper_rows" + n), from.at<int32_t>("offset" + n)};
    }
    void draw(const std::vector<float>& y_hat, int file, int rows, int columns) const {
        const std::string n = "." + std::to_string(file % files);
        // The last row and column of blocks are cut, as where sides are no multiple of them.
        const int height = 16 * rows - 5, width = 16 * columns - 11;
        std::vector<uint8_t> pixels(size_t(height) * width * 3);
        const SynthesisQuality at{from.at<float>("unit" + n), from.at<float>("tint" + n), *from.at<int32_t>("tenths" + n)};
        synthesis.run(y_hat.data(), at, rows, columns, height, width, 1, pixels.data());
    }
    const Named from;
    const int32_t* shape;
    Tables tables;
    Checkerboard entropy;
    LightSynthesis synthesis;
    int files = 0;
};

const Model& model() {  // with other kernels, or a synthesis on floats or integers, from one input to the next
    static const std::vector<char> memory = read(std::getenv("RDC_CASE"));
    static const std::vector<std::unique_ptr<Model>> models = [] {
        std::vector<std::unique_ptr<Model>> made;
        for (const Kernels* const* k = all_kernels(); *k; k++)
            for (bool on_integers : {false, true}) use((*k)->name), made.push_back(std::make_unique<Model>(memory, on_integers));
        return made;
    }();
    static size_t turn = 0;
    const size_t now = turn++ % models.size();
    use(all_kernels()[now / 2]->name);
    return *models[now];
}

struct Input {
    const uint8_t* data;
    size_t bytes;
    int byte() { return bytes ? (bytes--, *data++) : 0; }
    int side() { return 1 + byte() % LONGEST; }
};

void decode_file(const Model& m, Input in) {
    const int rows = in.side(), columns = in.side(), file = in.byte();
    std::vector<float> y_hat(size_t(rows) * columns * m.shape[0]);
    m.entropy.decode(in.data, in.bytes, rows, columns, m.quality(file), 1, y_hat.data());
    m.draw(y_hat, file, rows, columns);
}

void decode_symbols(const Model& m, Input in) {
    std::vector<uint8_t> turn(1 + in.byte());
    for (uint8_t& row : turn) row = static_cast<uint8_t>(in.byte() % m.tables.rows);
    std::vector<uint8_t> rows(SYMBOLS);
    for (size_t i = 0; i < rows.size(); i++) rows[i] = turn[i % turn.size()];
    std::vector<int16_t> symbols(SYMBOLS);
    // Of a stream made by nobody the number of symbols is what it happens to hold.
    for (size_t count : {SYMBOLS, SYMBOLS / 16, size_t(5), size_t(0)}) {
        Decoder decoder(in.data, in.bytes, m.tables);
        try {
            decoder.decode(rows.data(), count / 2, symbols.data());
            decoder.decode(rows.data() + count / 2, count - count / 2, symbols.data() + count / 2);
            decoder.finish();
        } catch (const Damaged&) {
            continue;
        }
        const std::vector<uint8_t> again = encode(symbols.data(), rows.data(), count, m.tables);
        require(again == std::vector<uint8_t>(in.data, in.data + in.bytes), "another stream for the same symbols");
    }
}

void code_latents(const Model& m, Input in) {
    const int sides = in.byte(), rows = 1 + sides % 4, columns = 1 + sides / 4 % 4, file = sides / 16;
    std::vector<float> y(size_t(rows) * columns * m.shape[0]), z(m.shape[1]), gain(m.shape[0], 1.0f);
    for (std::vector<float>* to : {&z, &y})
        for (float& value : *to)
            if (in.bytes >= sizeof(float)) std::memcpy(&value, in.data, sizeof value), in.data += sizeof value, in.bytes -= sizeof value;
    const Quality quality = m.quality(file);
    const std::vector<float> worth(m.shape[0], 1.5f), savings(m.from.bytes("edges").size() / sizeof(int32_t), 2.0f);
    const Choice choice = sides % 2 ? Choice{worth.data(), savings.data()} : Choice{};
    const Coded coded = m.entropy.encode(y.data(), gain.data(), z.data(), rows, columns, quality, 1, choice);
    const uint32_t crc = m.entropy.decode(coded.stream.data(), coded.stream.size(), rows, columns, quality, 1, y.data());
    require(crc == coded.crc, "what was coded decodes to something else");
    m.draw(y, file, rows, columns);
}

}  // namespace

// As libFuzzer changes bytes, and often makes the four states of a stream possible again: without it, nearly every
// stream would be refused at its start.
extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t most, unsigned seed) {
    size = LLVMFuzzerMutate(data, size, most);
    if (size < 24 || data[0] % 4 > 1 || seed % 4 == 0) return size;
    const size_t start = data[0] % 4 == 0 ? 4 : 3 + data[1];
    for (int k = 0; k < STATES && start + 4 * (k + 1) <= size; k++) {
        uint8_t* state = data + start + 4 * k;
        if (!state[2] && !state[3]) state[2] = 1;
    }
    return size - (size - start) % 2 * (size > start);
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t bytes) {
    const Model& m = model();
    Input in{data, bytes};
    try {
        switch (in.byte() % 4) {
            case 0: decode_file(m, in); break;
            case 1: decode_symbols(m, in); break;
            case 2: code_latents(m, in); break;
            default: Named(reinterpret_cast<const char*>(in.data), in.bytes);
        }
    } catch (const Damaged&) {
    } catch (const Misfit&) {
    }
    return 0;
}
