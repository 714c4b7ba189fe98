// The core as a Python module: arrays in, arrays out. The GIL is released while anything is computed.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include "checkerboard.h"
#include "light.h"
#include "rans.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

template <class T, int DIMENSIONS>
using In = nb::ndarray<const T, nb::ndim<DIMENSIONS>, nb::c_contig, nb::device::cpu>;
template <class T, int DIMENSIONS>
using Out = nb::ndarray<nb::numpy, T, nb::ndim<DIMENSIONS>>;
using Free = nb::call_guard<nb::gil_scoped_release>;

template <class T, size_t N>
struct Given {  // memory that becomes an array
    explicit Given(const size_t (&sides)[N]) {
        size_t count = 1;
        for (size_t i = 0; i < N; i++) count *= shape[i] = sides[i];
        memory.reset(new T[count ? count : 1]);
    }
    Out<T, N> array() {
        T* data = memory.release();
        return Out<T, N>(data, N, shape, nb::capsule(data, [](void* p) noexcept { delete[] static_cast<T*>(p); }));
    }
    T* data() { return memory.get(); }
    size_t shape[N];
    std::unique_ptr<T[]> memory;
};

template <class T>
Out<T, 1> array_of(std::vector<T>&& values) {  // without a copy
    auto* kept = new std::vector<T>(std::move(values));
    nb::capsule owner(kept, [](void* p) noexcept { delete static_cast<std::vector<T>*>(p); });
    const size_t shape[1] = {kept->size()};
    return Out<T, 1>(kept->data(), 1, shape, owner);
}

template <class T>
rdc::Arrays<T> arrays_of(const nb::dict& dict, std::vector<nb::object>& kept, const char* suffix = "") {
    rdc::Arrays<T> found;
    for (auto [key, value] : dict) {
        std::string name = nb::cast<std::string>(key);
        if (name.size() < std::strlen(suffix) || name.compare(name.size() - std::strlen(suffix), std::string::npos, suffix))
            continue;
        nb::ndarray<const T, nb::c_contig, nb::device::cpu> array;
        if (!nb::try_cast(value, array, false)) throw rdc::Misfit(name + " is of another type");
        rdc::Array<T> made{array.data(), {}};
        for (size_t i = 0; i < array.ndim(); i++) made.shape.push_back(array.shape(i));
        found[name] = made;
        kept.push_back(nb::borrow(value));
    }
    return found;
}

struct Tables {  // keeps the arrays
    Tables(In<int32_t, 1> edges, In<int32_t, 1> edge_start, In<int32_t, 1> radius, In<uint16_t, 2> bucket, int skip_below)
        : edges(edges), edge_start(edge_start), radius(radius), bucket(bucket) {
        if (edge_start.shape(0) != radius.shape(0) || bucket.shape(0) != radius.shape(0) || bucket.shape(1) != 256)
            throw rdc::Misfit("tables of different lengths");
        view = {edges.data(),  edge_start.data(), radius.data(), bucket.data(), static_cast<int>(radius.shape(0)), skip_below};
    }
    In<int32_t, 1> edges, edge_start, radius;
    In<uint16_t, 2> bucket;
    rdc::Tables view;
};

template <class Index>
void check(const In<Index, 1>& indexes, const Tables& tables) {
    for (size_t i = 0; i < indexes.shape(0); i++)
        if (indexes.data()[i] >= tables.view.rows) throw std::invalid_argument("an index beyond the rows of the tables");
}

nb::bytes bytes_of(const std::vector<uint8_t>& data) { return nb::bytes(data.data(), data.size()); }

template <class Index>
nb::bytes encode(In<int32_t, 1> symbols, In<Index, 1> indexes, const Tables& tables) {
    if (symbols.shape(0) != indexes.shape(0)) throw std::invalid_argument("an index for each symbol");
    std::vector<uint8_t> stream;
    {
        nb::gil_scoped_release free;
        check(indexes, tables);
        stream = rdc::encode(symbols.data(), indexes.data(), symbols.shape(0), tables.view);
    }
    return bytes_of(stream);
}

template <class Index>
Out<int32_t, 1> decode(rdc::Decoder& decoder, In<Index, 1> indexes, const Tables& tables) {
    Given<int32_t, 1> symbols({indexes.shape(0)});
    {
        nb::gil_scoped_release free;
        check(indexes, tables);
        decoder.decode(indexes.data(), indexes.shape(0), symbols.data());
    }
    return symbols.array();
}

struct Decoder {
    Decoder(nb::bytes stream, const Tables& tables)
        : tables(tables), decoder(static_cast<const uint8_t*>(stream.data()), stream.size(), tables.view) {}
    const Tables& tables;  // kept alive by the module
    rdc::Decoder decoder;
};

rdc::LightShape shape_of(int latents, int wide, int wide_blocks, int deep, int deep_blocks) {
    return {latents, wide, wide_blocks, deep, deep_blocks};
}

void require(bool holds, const char* otherwise) {
    if (!holds) throw std::invalid_argument(otherwise);
}

struct LightSynthesis {
    int latents, deep;
    rdc::LightSynthesis network;
    Out<uint8_t, 3> run(In<float, 3> y, In<float, 1> unit, In<float, 1> tint, int tenths, int height, int width,
                        int threads) const {
        int rows = static_cast<int>(y.shape(0)), columns = static_cast<int>(y.shape(1));
        require(0 <= tenths && tenths <= 1000, "a quality beyond its scale");
        require(int(y.shape(2)) == latents && int(unit.shape(0)) == latents && int(tint.shape(0)) == deep, "channels");
        require(0 < height && height <= 16 * rows && 0 < width && width <= 16 * columns, "a picture beyond its latents");
        Given<uint8_t, 3> out({size_t(height), size_t(width), 3});
        {
            nb::gil_scoped_release free;
            network.run(y.data(), {unit.data(), tint.data(), tenths}, rows, columns, height, width, threads, out.data());
        }
        return out.array();
    }
};

struct LightAnalysis {
    int latents;
    rdc::LightAnalysis network;
    Out<float, 3> run(In<uint8_t, 3> image, int rows, int columns, int threads) const {
        int height = static_cast<int>(image.shape(0)), width = static_cast<int>(image.shape(1));
        require(image.shape(2) == 3 && height > 0 && width > 0, "a picture is (height, width, 3)");
        require(rows > 0 && columns > 0 && height <= 16 * rows && width <= 16 * columns, "a picture beyond its latents");
        Given<float, 3> y({size_t(rows), size_t(columns), size_t(latents)});
        {
            nb::gil_scoped_release free;
            network.run(image.data(), height, width, rows, columns, threads, y.data());
        }
        return y.array();
    }
};

struct HyperAnalysis {
    int latents, hyper;
    rdc::HyperAnalysis network;
    Out<float, 3> run(In<float, 3> y, In<float, 1> gain, In<float, 1> shift, int threads) const {
        int rows = static_cast<int>(y.shape(0)), columns = static_cast<int>(y.shape(1));
        require(int(y.shape(2)) == latents && int(gain.shape(0)) == latents && int(shift.shape(0)) == hyper, "channels");
        require(rows > 0 && columns > 0, "no latents");
        Given<float, 3> z({size_t(rows + 3) / 4, size_t(columns + 3) / 4, size_t(hyper)});
        {
            nb::gil_scoped_release free;
            network.run(y.data(), gain.data(), rows, columns, shift.data(), threads, z.data());
        }
        return z.array();
    }
};

struct Checkerboard {
    Checkerboard(int latents, int hyper, int features, int hidden, int passes, nb::dict dict, const Tables& tables)
        : latents(latents), hyper(hyper), edges(tables.edges.size()),
          network(build({latents, hyper, features, hidden, passes}, dict, tables)) {}

    static rdc::Checkerboard build(const rdc::CheckerboardShape& shape, const nb::dict& dict, const Tables& tables) {
        std::vector<nb::object> kept;
        if (tables.view.rows < 128) throw rdc::Misfit("tables of too few rows");
        rdc::IntegerArrays arrays{arrays_of<int16_t>(dict, kept, ".weight"), arrays_of<int32_t>(dict, kept, ".bias"),
                                  arrays_of<int8_t>(dict, kept, ".shift")};
        return rdc::Checkerboard(shape, arrays, tables.view);
    }

    rdc::Quality quality(const In<uint8_t, 1>& hyper_rows, const In<int32_t, 1>& offset) const {
        require(int(hyper_rows.shape(0)) == hyper && int(offset.shape(0)) == latents, "channels");
        for (size_t c = 0; c < hyper_rows.shape(0); c++) require(hyper_rows.data()[c] < 128, "a row beyond the tables");
        return {hyper_rows.data(), offset.data()};
    }

    std::pair<Out<float, 3>, uint32_t> decode(nb::bytes stream, int rows, int columns, In<uint8_t, 1> hyper_rows,
                                              In<int32_t, 1> offset, int threads) const {
        require(rows > 0 && columns > 0, "no latents");
        rdc::Quality at = quality(hyper_rows, offset);
        Given<float, 3> y_hat({size_t(rows), size_t(columns), size_t(latents)});
        uint32_t crc;
        {
            nb::gil_scoped_release free;
            crc = network.decode(static_cast<const uint8_t*>(stream.data()), stream.size(), rows, columns, at, threads,
                                 y_hat.data());
        }
        return {y_hat.array(), crc};
    }

    std::tuple<nb::bytes, uint32_t, Out<int16_t, 1>, Out<uint8_t, 1>> encode(
        In<float, 3> y, In<float, 1> gain, In<float, 3> z, In<uint8_t, 1> hyper_rows, In<int32_t, 1> offset,
        int threads, std::optional<In<float, 1>> worth, std::optional<In<float, 1>> savings) const {
        size_t rows = y.shape(0), columns = y.shape(1);
        require(rows > 0 && columns > 0 && int(y.shape(2)) == latents && int(gain.shape(0)) == latents &&
                int(z.shape(2)) == hyper && z.shape(0) == (rows + 3) / 4 && z.shape(1) == (columns + 3) / 4,
                "latents and hyper-latents do not fit");
        require(worth.has_value() == savings.has_value(), "worth and savings belong together");
        require(!worth || (int(worth->shape(0)) == latents && savings->shape(0) == edges), "worth or savings do not fit");
        const rdc::Choice choice = worth ? rdc::Choice{worth->data(), savings->data()} : rdc::Choice{};
        rdc::Quality at = quality(hyper_rows, offset);
        rdc::Coded coded;
        {
            nb::gil_scoped_release free;
            coded = network.encode(y.data(), gain.data(), z.data(), int(rows), int(columns), at, threads, choice);
        }
        return {bytes_of(coded.stream), coded.crc, array_of(std::move(coded.symbols)), array_of(std::move(coded.rows))};
    }

    int latents, hyper;
    size_t edges;
    rdc::Checkerboard network;
};

}  // namespace

NB_MODULE(_native, m) {
    nb::set_leak_warnings(false);  // codecs are kept until the interpreter ends
    m.doc() = "The codec's core: entropy coder, integer entropy networks and light transforms.";
    nb::exception<rdc::Damaged>(m, "Damaged", PyExc_ValueError);
    nb::exception<rdc::Misfit>(m, "Misfit", PyExc_ValueError);

    m.def("crc32c", [](nb::bytes data, uint32_t before) {
        return rdc::crc32c(static_cast<const uint8_t*>(data.data()), data.size(), before);
    }, "data"_a, "before"_a = 0);
    m.def("crc32c", [](In<uint8_t, 1> data, uint32_t before) {
        nb::gil_scoped_release free;
        return rdc::crc32c(data.data(), data.shape(0), before);
    }, "data"_a, "before"_a = 0);
    m.def("all_kernels", [] {
        std::vector<std::string> names;
        for (auto k = rdc::all_kernels(); *k; k++) names.push_back((*k)->name);
        return names;
    });
    m.def("kernels", [] { return std::string(rdc::kernels().name); });
    m.def("use_kernels", [](const std::string& name) { return rdc::use(name.c_str()); }, "name"_a);

    nb::class_<Tables>(m, "Tables")
        .def(nb::init<In<int32_t, 1>, In<int32_t, 1>, In<int32_t, 1>, In<uint16_t, 2>, int>(), "edges"_a, "edge_start"_a,
             "radius"_a, "bucket"_a, "skip_below"_a);
    m.def("encode", encode<uint8_t>, "symbols"_a, "indexes"_a, "tables"_a);
    m.def("encode", encode<uint16_t>, "symbols"_a, "indexes"_a, "tables"_a);
    nb::class_<Decoder>(m, "Decoder")
        .def(nb::init<nb::bytes, const Tables&>(), "stream"_a, "tables"_a, nb::keep_alive<1, 3>())
        .def("decode", [](Decoder& d, In<uint8_t, 1> indexes) { return decode(d.decoder, indexes, d.tables); }, "indexes"_a)
        .def("decode", [](Decoder& d, In<uint16_t, 1> indexes) { return decode(d.decoder, indexes, d.tables); }, "indexes"_a)
        .def("finish", [](const Decoder& d) { d.decoder.finish(); });

    nb::class_<LightSynthesis>(m, "LightSynthesis")
        .def("__init__", [](LightSynthesis* self, int latents, int wide, int wide_blocks, int deep, int deep_blocks, nb::dict arrays,
                            nb::dict pixels) {
            std::vector<nb::object> kept;
            new (self) LightSynthesis{latents, deep,
                rdc::LightSynthesis(shape_of(latents, wide, wide_blocks, deep, deep_blocks), arrays_of<float>(arrays, kept),
                                    arrays_of<int8_t>(pixels, kept))};
        }, "latents"_a, "wide"_a, "wide_blocks"_a, "deep"_a, "deep_blocks"_a, "arrays"_a, "pixels"_a)
        .def("run", &LightSynthesis::run, "y"_a, "unit"_a, "tint"_a, "tenths"_a, "height"_a, "width"_a, "threads"_a);
    nb::class_<LightAnalysis>(m, "LightAnalysis")
        .def("__init__", [](LightAnalysis* self, int latents, int wide, int wide_blocks, int deep, int deep_blocks, nb::dict arrays) {
            std::vector<nb::object> kept;
            new (self) LightAnalysis{latents,
                rdc::LightAnalysis(shape_of(latents, wide, wide_blocks, deep, deep_blocks), arrays_of<float>(arrays, kept))};
        }, "latents"_a, "wide"_a, "wide_blocks"_a, "deep"_a, "deep_blocks"_a, "arrays"_a)
        .def("run", &LightAnalysis::run, "image"_a, "rows"_a, "columns"_a, "threads"_a);
    nb::class_<HyperAnalysis>(m, "HyperAnalysis")
        .def("__init__", [](HyperAnalysis* self, int latents, int features, int hyper, nb::dict dict) {
            std::vector<nb::object> kept;
            new (self) HyperAnalysis{latents, hyper, rdc::HyperAnalysis(latents, features, hyper, arrays_of<float>(dict, kept))};
        }, "latents"_a, "features"_a, "hyper"_a, "arrays"_a)
        .def("run", &HyperAnalysis::run, "y"_a, "gain"_a, "shift"_a, "threads"_a);
    nb::class_<Checkerboard>(m, "Checkerboard")
        .def(nb::init<int, int, int, int, int, nb::dict, const Tables&>(), "latents"_a, "hyper"_a, "features"_a, "hidden"_a,
             "passes"_a, "arrays"_a, "tables"_a, nb::keep_alive<1, 8>())
        .def("decode", &Checkerboard::decode, "stream"_a, "rows"_a, "columns"_a, "hyper_rows"_a, "offset"_a, "threads"_a)
        .def("encode", &Checkerboard::encode, "y"_a, "gain"_a, "z"_a, "hyper_rows"_a, "offset"_a, "threads"_a,
             "worth"_a.none(), "savings"_a.none());
}
