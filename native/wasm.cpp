// The codec as a WebAssembly module, for a page or any other host: arrays in, a picture or a stream out (named.h says how
// arrays lie in memory). The host reads container and weights file, and interpolates what depends on the quality, as
// codec/native_engine.py does. The module imports nothing. Where something is wrong it traps, and rdc_error says what
// was; the host then takes a new instance, for the memory of this one may be in any state.
#include "checkerboard.h"
#include "light.h"
#include "named.h"

namespace {

using namespace rdc;

char error[256];

struct Shape {
    int32_t latents, hyper, features, hidden, wide, wide_blocks, deep, deep_blocks, rows, skip_below;
    int32_t of_analysis[4];  // wide, wide_blocks, deep, deep_blocks
    int32_t passes;
};

// What only an encoder runs.
struct Encoder {
    Encoder(const Named& arrays, const Shape& s)
        : analysis({s.latents, s.of_analysis[0], s.of_analysis[1], s.of_analysis[2], s.of_analysis[3]},
                   arrays.under<float>("analysis.")),
          hyper_analysis(s.latents, s.features, s.hyper, arrays.under<float>("hyper_analysis.")) {}
    LightAnalysis analysis;
    HyperAnalysis hyper_analysis;
};

template <class T>
std::vector<T> copied(const Named& arrays, const char* name) {
    const T* first = arrays.at<T>(name);
    return {first, first + arrays.bytes(name).size() / sizeof(T)};
}

struct Model {
    explicit Model(const Named& arrays)
        : shape(*arrays.at<Shape>("shape", 1)), edges(copied<int32_t>(arrays, "edges")),
          edge_start(copied<int32_t>(arrays, "edge_start")), radius(copied<int32_t>(arrays, "radius")),
          bucket(copied<uint16_t>(arrays, "bucket")), savings(copied<float>(arrays, "savings")),
          entropy({shape.latents, shape.hyper, shape.features, shape.hidden, shape.passes},
                  {arrays.under<int16_t>("exact.", ".weight"), arrays.under<int32_t>("exact.", ".bias"),
                   arrays.under<int8_t>("exact.", ".shift")},
                  {edges.data(), edge_start.data(), radius.data(), bucket.data(), shape.rows, shape.skip_below}),
          synthesis({shape.latents, shape.wide, shape.wide_blocks, shape.deep, shape.deep_blocks},
                    arrays.under<float>("synthesis."), arrays.under<int8_t>("pixels.")) {
        const size_t rows = shape.rows;
        if (rows < 128 || edge_start.size() != rows || radius.size() != rows || bucket.size() != 256 * rows ||
            savings.size() != edges.size())
            fail<Misfit>("tables of different lengths");
        if (arrays.has("analysis.shortcut.weight")) encoder.reset(new Encoder(arrays, shape));
    }
    Shape shape;
    std::vector<int32_t> edges, edge_start, radius;
    std::vector<uint16_t> bucket;
    std::vector<float> savings;
    Checkerboard entropy;
    LightSynthesis synthesis;
    std::unique_ptr<Encoder> encoder;
};

Quality quality_of(const Named& arrays, const Shape& shape) {
    const Quality quality{arrays.at<uint8_t>("hyper_rows", shape.hyper), arrays.at<int32_t>("offset", shape.latents)};
    for (int c = 0; c < shape.hyper; c++)
        if (quality.hyper_rows[c] >= shape.rows) fail<Misfit>("a row beyond the tables");
    return quality;
}

const Encoder& encoder_of(const Model& model) {
    if (!model.encoder) fail<Misfit>("these weights only decode");
    return *model.encoder;
}

int latents_of(int side) { return (side + 15) / 16; }

void decode_latents(const Model& model, const Named& file, int rows, int columns, float* y) {
    const std::vector<char>& stream = file.bytes("stream");
    const uint32_t crc = model.entropy.decode(reinterpret_cast<const uint8_t*>(stream.data()), stream.size(), rows, columns,
                                              quality_of(file, model.shape), 1, y);
    if (crc != *file.at<uint32_t>("crc", 1)) fail<Damaged>("the decoded symbols are not those that were coded");
}

SynthesisQuality synthesis_quality(const Named& file, const Shape& shape) {
    const int tenths = *file.at<int32_t>("tenths", 1);
    if (tenths < 0 || tenths > 1000) fail<Misfit>("a quality beyond its scale");
    return {file.at<float>("unit", shape.latents), file.at<float>("tint", shape.deep), tenths};
}

void check_sides(int height, int width) {
    if (height < 1 || width < 1) fail<Misfit>("a picture without pixels");
}

}  // namespace

[[noreturn]] void rdc::give_up(const char* why) {
    std::strncpy(error, why, sizeof error - 1);
    __builtin_trap();
}

// All that the standard library would otherwise print before it ends.
namespace std {
inline namespace __1 {
[[noreturn]] void __libcpp_verbose_abort(const char*, ...) noexcept { rdc::give_up("an impossible size"); }
}  // namespace __1
}  // namespace std

void* operator new(size_t bytes) {
    void* memory = std::malloc(bytes);
    if (!memory) rdc::give_up("out of memory");
    return memory;
}
void* operator new(size_t bytes, std::align_val_t at) {
    const size_t step = static_cast<size_t>(at);
    void* memory = std::aligned_alloc(step, (bytes + step - 1) / step * step);
    if (!memory) rdc::give_up("out of memory");
    return memory;
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, size_t, std::align_val_t) noexcept { std::free(memory); }

#define RDC_EXPORT(name) extern "C" __attribute__((export_name(#name)))

RDC_EXPORT(rdc_allocate) void* rdc_allocate(size_t bytes) { return operator new(bytes); }
RDC_EXPORT(rdc_free) void rdc_free(void* memory) { std::free(memory); }
RDC_EXPORT(rdc_error) const char* rdc_error() { return error; }  // why it trapped, ASCII; empty: not known

RDC_EXPORT(rdc_crc32c) uint32_t rdc_crc32c(const uint8_t* data, size_t bytes) { return crc32c(data, bytes); }

// shape (15: the fields of Shape), edges, edge_start, radius, bucket, savings, exact.*, synthesis.* with log_gain.values,
// pixels.*, and for an encoder analysis.* and hyper_analysis.* -> a model, which keeps copies. Integers of exact.* are
// taken as they are: that no sum of theirs overflows is for the host to know, of weights that it trusts.
RDC_EXPORT(rdc_model) const Model* rdc_model(const char* arrays, size_t bytes) { return new Model(Named(arrays, bytes)); }
RDC_EXPORT(rdc_forget) void rdc_forget(const Model* model) { delete model; }

// stream, crc (of the symbols), hyper_rows, offset, unit, tint, tenths -> RGB (height, width, 3), for rdc_free.
RDC_EXPORT(rdc_decode)
uint8_t* rdc_decode(const Model* model, int height, int width, const char* arrays, size_t bytes) {
    check_sides(height, width);
    const Named file(arrays, bytes);
    const Shape& s = model->shape;
    const int rows = latents_of(height), columns = latents_of(width);
    std::vector<float> y_hat(size_t(rows) * columns * s.latents);
    decode_latents(*model, file, rows, columns, y_hat.data());
    auto* picture = static_cast<uint8_t*>(rdc_allocate(size_t(height) * width * 3));
    model->synthesis.run(y_hat.data(), synthesis_quality(file, s), rows, columns, height, width, 1, picture);
    return picture;
}

// The same in two steps, of which several instances can take the second, a strip each. stream, crc, hyper_rows, offset ->
// y (rows, columns, latents) in quantisation steps, for rdc_free.
RDC_EXPORT(rdc_latents)
float* rdc_latents(const Model* model, int height, int width, const char* arrays, size_t bytes) {
    check_sides(height, width);
    const int rows = latents_of(height), columns = latents_of(width);
    auto* y = static_cast<float*>(rdc_allocate(size_t(rows) * columns * model->shape.latents * sizeof(float)));
    decode_latents(*model, Named(arrays, bytes), rows, columns, y);
    return y;
}

// Rows `from` to `to` of y; unit, tint, tenths -> RGB of its rows `first` to `end`, sixteen of pixels each, as far as they
// are in the picture, for rdc_free. The other rows of y are what these see: `LightSynthesis::reach` on either side.
RDC_EXPORT(rdc_draw)
uint8_t* rdc_draw(const Model* model, const float* y, int from, int to, int first, int end, int height, int width,
                  const char* arrays, size_t bytes) {
    check_sides(height, width);
    const Named file(arrays, bytes);
    const Shape& s = model->shape;
    const int rows = latents_of(height), columns = latents_of(width), reach = model->synthesis.reach();
    if (first < 0 || first >= end || end > rows || from > std::max(0, first - reach) || to < std::min(rows, end + reach))
        fail<Misfit>("a strip beyond its picture");
    const size_t pixel_rows = std::min(16 * end, height) - 16 * first;
    auto* strip = static_cast<uint8_t*>(rdc_allocate(pixel_rows * width * 3));
    model->synthesis.draw({y, from}, synthesis_quality(file, s), rows, columns, height, width, first, end, {strip, first});
    return strip;
}

// RGB (height, width, 3) -> y (rows, columns, latents) in units of the picture, for rdc_free.
RDC_EXPORT(rdc_analyse) float* rdc_analyse(const Model* model, const uint8_t* image, int height, int width) {
    check_sides(height, width);
    const int rows = latents_of(height), columns = latents_of(width);
    auto* y = static_cast<float*>(rdc_allocate(size_t(rows) * columns * model->shape.latents * sizeof(float)));
    encoder_of(*model).analysis.run(image, height, width, rows, columns, 1, y);
    return y;
}

// What samples lack, (count, 16, 16, 3) floats, added to these positions of y (rows * columns, latents).
RDC_EXPORT(rdc_correct)
void rdc_correct(const Model* model, float* y, int32_t of_y, const int32_t* positions, const float* lacking, int count) {
    for (int k = 0; k < count; k++)
        if (positions[k] < 0 || positions[k] >= of_y) fail<Misfit>("a block beyond its picture");
    encoder_of(*model).analysis.add(lacking, positions, count, y);
}

// y of a picture as it was analysed, and as it is to be coded: the same, or corrected; gain, shift, hyper_rows, offset,
// worth -> bytes of the stream and crc of the symbols (u32 each), then the stream, for rdc_free.
RDC_EXPORT(rdc_encode)
uint8_t* rdc_encode(const Model* model, const float* analysed, const float* y, int height, int width, const char* arrays,
                    size_t bytes) {
    check_sides(height, width);
    const Named at(arrays, bytes);
    const Shape& s = model->shape;
    const int rows = latents_of(height), columns = latents_of(width);
    const float* gain = at.at<float>("gain", s.latents);
    std::vector<float> z(size_t((rows + 3) / 4) * ((columns + 3) / 4) * s.hyper);
    encoder_of(*model).hyper_analysis.run(analysed, gain, rows, columns, at.at<float>("shift", s.hyper), 1, z.data());
    const Choice choice{at.at<float>("worth", s.latents), model->savings.data()};
    const Coded coded = model->entropy.encode(y, gain, z.data(), rows, columns, quality_of(at, s), 1, choice);
    const uint32_t head[2] = {static_cast<uint32_t>(coded.stream.size()), coded.crc};
    auto* out = static_cast<uint8_t*>(rdc_allocate(sizeof head + coded.stream.size()));
    std::memcpy(out, head, sizeof head);
    std::memcpy(out + sizeof head, coded.stream.data(), coded.stream.size());
    return out;
}
