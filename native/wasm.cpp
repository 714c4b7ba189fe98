// The decoder as a WebAssembly module, for a page or any other host: arrays in, a picture out (named.h says how arrays
// lie in memory). The host reads container and weights file, and interpolates what depends on the quality, as
// codec/native_engine.py does. Where arrays or streams are wrong the module traps, after a line on standard error.
#include "checkerboard.h"
#include "light.h"
#include "named.h"

namespace {

using namespace rdc;

struct Shape {
    int32_t latents, hyper, features, hidden, wide, wide_blocks, deep, deep_blocks, rows, skip_below;
};

struct Model {
    explicit Model(const Named& given)
        : arrays(given), shape(*arrays.at<Shape>("shape", 1)),
          entropy({shape.latents, shape.hyper, shape.features, shape.hidden},
                  {arrays.under<int16_t>("exact.", ".weight"), arrays.under<int32_t>("exact.", ".bias"),
                   arrays.under<int8_t>("exact.", ".shift")},
                  {arrays.at<int32_t>("edges"), arrays.at<int32_t>("edge_start", shape.rows),
                   arrays.at<int32_t>("radius", shape.rows), arrays.at<uint16_t>("bucket", size_t(256) * shape.rows),
                   shape.rows, shape.skip_below}),
          synthesis({shape.latents, shape.wide, shape.wide_blocks, shape.deep, shape.deep_blocks},
                    arrays.under<float>("synthesis.")) {}
    Named arrays;
    Shape shape;
    Checkerboard entropy;
    LightSynthesis synthesis;
};

}  // namespace

#define RDC_EXPORT(name) extern "C" __attribute__((export_name(#name)))

RDC_EXPORT(rdc_allocate) void* rdc_allocate(size_t bytes) { return std::malloc(bytes); }
RDC_EXPORT(rdc_free) void rdc_free(void* memory) { std::free(memory); }

// shape (10: the fields of Shape), edges, edge_start, radius, bucket, exact.*, synthesis.* -> a model, which keeps copies.
// Integers are taken as they are: that no sum of theirs overflows is for the host to know, of weights that it trusts.
RDC_EXPORT(rdc_model) const Model* rdc_model(const char* arrays, size_t bytes) { return new Model(Named(arrays, bytes)); }
RDC_EXPORT(rdc_forget) void rdc_forget(const Model* model) { delete model; }

// stream, crc (of the symbols), sides (rows and columns of latents, height, width), hyper_rows, offset, unit, tint ->
// RGB (height, width, 3), for rdc_free.
RDC_EXPORT(rdc_decode) uint8_t* rdc_decode(const Model* model, const char* arrays, size_t bytes) {
    const Named file(arrays, bytes);
    const Shape& s = model->shape;
    const int32_t* sides = file.at<int32_t>("sides", 4);
    const int rows = sides[0], columns = sides[1], height = sides[2], width = sides[3];
    if (rows < 1 || columns < 1 || height < 1 || height > 16 * rows || width < 1 || width > 16 * columns)
        fail<Misfit>("a picture beyond its latents");
    const Quality quality{file.at<uint8_t>("hyper_rows", s.hyper), file.at<int32_t>("offset", s.latents)};
    for (int c = 0; c < s.hyper; c++)
        if (quality.hyper_rows[c] >= s.rows) fail<Misfit>("a row beyond the tables");
    const std::vector<char>& stream = file.bytes("stream");
    std::vector<float> y_hat(size_t(rows) * columns * s.latents);
    const uint32_t crc = model->entropy.decode(reinterpret_cast<const uint8_t*>(stream.data()), stream.size(), rows,
                                               columns, quality, 1, y_hat.data());
    if (crc != *file.at<uint32_t>("crc", 1)) fail<Damaged>("the decoded symbols are not those that were coded");
    auto* picture = static_cast<uint8_t*>(std::malloc(size_t(height) * width * 3));
    if (!picture) fail<Misfit>("out of memory");
    model->synthesis.run(y_hat.data(), file.at<float>("unit", s.latents), file.at<float>("tint", s.deep), rows, columns,
                         height, width, 1, picture);
    return picture;
}
