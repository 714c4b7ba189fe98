#include "rans.h"

#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

namespace rdc {
namespace {

constexpr int PRECISION = 16, EXPONENT_BITS = 4, ESCAPE_BITS = EXPONENT_BITS + 1;
constexpr uint32_t LOW = 1u << 16, MASK = LOW - 1;
constexpr size_t BUCKETS = 256;
constexpr size_t BLOCK = 2048;
constexpr size_t SPARE_WORDS = 4;  // a symbol takes three at most

// The coded positions of a block. No branch: it could not be predicted.
template <class Index>
size_t list_coded(const Index* indexes, size_t count, int skip_below, uint16_t* listed) {
    size_t found = 0;
    for (size_t i = 0; i < count; i++) {
        listed[found] = static_cast<uint16_t>(i);
        found += static_cast<int>(indexes[i]) >= skip_below;
    }
    return found;
}

inline uint32_t pull(uint32_t state, uint32_t start, uint32_t freq, const uint16_t* words, size_t& position) {
    state = freq * (state >> PRECISION) + (state & MASK) - start;
    bool low = state < LOW;
    uint32_t word = words[position];
    position += low;
    return low ? state << 16 | word : state;
}

// A symbol beyond the radius of its table's row: sign, exponent and mantissa.
inline int32_t escaped(uint32_t& state, int32_t radius, const uint16_t* words, size_t& position) {
    const uint32_t value = (state & MASK) >> (PRECISION - ESCAPE_BITS);
    state = pull(state, value << (PRECISION - ESCAPE_BITS), 1u << (PRECISION - ESCAPE_BITS), words, position);
    const int exponent = value & ((1 << EXPONENT_BITS) - 1), spare = PRECISION - exponent;
    const uint32_t mantissa = (state & MASK) >> spare;
    state = pull(state, mantissa << spare, 1u << spare, words, position);
    const int32_t size = radius + (1 << exponent) + static_cast<int32_t>(mantissa);
    return value >> EXPONENT_BITS ? -size : size;
}

struct Writer {  // words from the end of the memory downwards
    uint16_t* next;

    uint32_t push(uint32_t state, uint32_t start, uint32_t freq) {
        *next = static_cast<uint16_t>(state);
        bool full = state >= static_cast<uint64_t>(freq) << 16;
        next -= full;
        state = full ? state >> 16 : state;
        return (state / freq << PRECISION) + start + state % freq;
    }
};

}  // namespace

Decoder::Decoder(const uint8_t* stream, size_t bytes, const Tables& tables) : tables_(tables) {
    if (bytes < 4 * STATES || bytes % 2) fail<Damaged>("its length is impossible");
    for (int k = 0; k < STATES; k++, stream += 4) {
        states_[k] = uint32_t(stream[0]) | uint32_t(stream[1]) << 8 | uint32_t(stream[2]) << 16 | uint32_t(stream[3]) << 24;
        if (states_[k] < LOW) fail<Damaged>("a state is out of range");
    }
    end_ = (bytes - 4 * STATES) / 2;
    words_.resize(end_ + SPARE_WORDS);
    for (size_t i = 0; i < end_; i++) words_[i] = static_cast<uint16_t>(stream[2 * i] | stream[2 * i + 1] << 8);
}

template <class Index, class Symbol>
void Decoder::decode(const Index* indexes, size_t count, Symbol* symbols) {
    if (position_ > end_) fail<Damaged>("it ends too early or holds an impossible symbol");
    uint16_t listed[BLOCK];
    uint32_t states[STATES];  // the next one first
    for (int k = 0; k < STATES; k++) states[k] = states_[(coded_ + k) % STATES];
    size_t position = position_;
    const size_t end = end_;
    const uint16_t *words = words_.data(), *buckets = tables_.bucket;
    const int32_t *edges = tables_.edges, *starts = tables_.edge_start, *radii = tables_.radius;
    auto next = [&](uint32_t& state, size_t at) {
        const size_t index = indexes[at];
        const uint32_t slot = state & MASK;
        const int32_t first = starts[index], radius = radii[index];
        const int32_t* edge = edges + first + buckets[index * BUCKETS + (slot >> (PRECISION - 8))];
        while (static_cast<uint32_t>(edge[1]) <= slot) edge++;  // ends: the last edge of a row is 65536
        state = pull(state, edge[0], edge[1] - edge[0], words, position);
        int32_t symbol = static_cast<int32_t>(edge - edges) - first - radius;
        if (symbol > radius) symbol = escaped(state, radius, words, position);
        if (position > end || symbol < -MAX_SYMBOL || symbol > MAX_SYMBOL) {
            position_ = end + 1;  // it stays damaged
            fail<Damaged>("it ends too early or holds an impossible symbol");
        }
        symbols[at] = static_cast<Symbol>(symbol);
    };
    for (size_t begin = 0; begin < count; begin += BLOCK) {
        size_t length = std::min(BLOCK, count - begin);
        std::fill(symbols + begin, symbols + begin + length, Symbol(0));
        size_t coded = list_coded(indexes + begin, length, tables_.skip_below, listed), j = 0;
        for (; j + STATES <= coded; j += STATES) {  // written out, so that the states stay in registers
            next(states[0], begin + listed[j]);
            next(states[1], begin + listed[j + 1]);
            next(states[2], begin + listed[j + 2]);
            next(states[3], begin + listed[j + 3]);
        }
        for (; j < coded; j++) {
            next(states[0], begin + listed[j]);
            std::rotate(states, states + 1, states + STATES);
        }
        coded_ += coded;
    }
    for (int k = 0; k < STATES; k++) states_[(coded_ + k) % STATES] = states[k];
    position_ = position;
}

void Decoder::finish() const {
    for (uint32_t state : states_)
        if (state != LOW || position_ != end_) fail<Damaged>("it does not end with the last symbol");
}

template <class Index, class Symbol>
std::vector<uint8_t> encode(const Symbol* symbols, const Index* indexes, size_t count, const Tables& tables) {
    size_t coded = 0, escapes = 0;
    for (size_t i = 0; i < count; i++) {
        int32_t s = symbols[i];
        if (s < -MAX_SYMBOL || s > MAX_SYMBOL) fail<std::invalid_argument>("symbols beyond +-32767");
        if (static_cast<int>(indexes[i]) >= tables.skip_below) {
            int32_t r = tables.radius[indexes[i]];
            coded++;
            escapes += s < -r || s > r;
        } else if (s) {
            fail<std::invalid_argument>("symbols that are not 0 where the index is not coded");
        }
    }
    std::vector<uint16_t> words(coded + 2 * escapes + 1);
    Writer writer{words.data() + words.size() - 1};
    uint32_t states[STATES] = {LOW, LOW, LOW, LOW};
    uint16_t listed[BLOCK];
    for (size_t block = (count + BLOCK - 1) / BLOCK; block-- > 0;) {
        size_t begin = block * BLOCK;
        for (size_t j = list_coded(indexes + begin, std::min(BLOCK, count - begin), tables.skip_below, listed); j-- > 0;) {
            uint32_t state = states[--coded % STATES];
            int32_t symbol = symbols[begin + listed[j]];
            size_t index = indexes[begin + listed[j]];
            int32_t radius = tables.radius[index], column = symbol + radius;
            if (symbol < -radius || symbol > radius) {
                uint32_t beyond = static_cast<uint32_t>(std::abs(symbol) - radius);
                int exponent = 0;
                while (beyond >> (exponent + 1)) exponent++;
                int spare = PRECISION - exponent;
                state = writer.push(state, (beyond - (1u << exponent)) << spare, 1u << spare);
                uint32_t value = uint32_t(symbol < 0) << EXPONENT_BITS | exponent;
                spare = PRECISION - ESCAPE_BITS;
                state = writer.push(state, value << spare, 1u << spare);
                column = 2 * radius + 1;
            }
            const int32_t* edge = tables.edges + tables.edge_start[index] + column;
            states[coded % STATES] = writer.push(state, edge[0], edge[1] - edge[0]);
        }
    }
    std::vector<uint8_t> stream;
    const uint16_t* end = words.data() + words.size();
    stream.reserve(4 * STATES + 2 * (end - writer.next - 1));
    for (uint32_t state : states)
        for (int shift = 0; shift < 32; shift += 8) stream.push_back(static_cast<uint8_t>(state >> shift));
    for (const uint16_t* word = writer.next + 1; word < end; word++) {
        stream.push_back(static_cast<uint8_t>(*word));
        stream.push_back(static_cast<uint8_t>(*word >> 8));
    }
    return stream;
}

template void Decoder::decode(const uint8_t*, size_t, int32_t*);
template void Decoder::decode(const uint16_t*, size_t, int32_t*);
template void Decoder::decode(const uint8_t*, size_t, int16_t*);
template std::vector<uint8_t> encode(const int32_t*, const uint8_t*, size_t, const Tables&);
template std::vector<uint8_t> encode(const int32_t*, const uint16_t*, size_t, const Tables&);
template std::vector<uint8_t> encode(const int16_t*, const uint8_t*, size_t, const Tables&);

// CRC-32C (Castagnoli), eight bytes at a time ("slicing by 8": Kounavis and Berry, 2005).
namespace {
struct Slices {
    uint32_t row[8][256];
    Slices() {
        for (uint32_t byte = 0; byte < 256; byte++) {
            uint32_t crc = byte;
            for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0x82F63B78u : 0);
            row[0][byte] = crc;
        }
        for (int k = 1; k < 8; k++)
            for (int byte = 0; byte < 256; byte++) row[k][byte] = row[k - 1][byte] >> 8 ^ row[0][row[k - 1][byte] & 0xFF];
    }
};
}  // namespace

#if defined(__x86_64__)
namespace {
__attribute__((target("sse4.2"))) uint32_t crc32c_instruction(const uint8_t* data, size_t bytes, uint64_t crc) {
    for (; bytes >= 8; data += 8, bytes -= 8) {
        uint64_t next;
        std::memcpy(&next, data, 8);
        crc = _mm_crc32_u64(crc, next);
    }
    for (; bytes; data++, bytes--) crc = _mm_crc32_u8(static_cast<uint32_t>(crc), *data);
    return static_cast<uint32_t>(crc);
}
}  // namespace
#endif

uint32_t crc32c(const uint8_t* data, size_t bytes, uint32_t before) {
    uint32_t crc = ~before;
#if defined(__x86_64__)
    static const bool has_instruction = __builtin_cpu_supports("sse4.2");
    if (has_instruction) return ~crc32c_instruction(data, bytes, crc);
#endif
    static const Slices t;
    for (; bytes >= 8; data += 8, bytes -= 8) {
        uint32_t a = crc ^ (uint32_t(data[0]) | uint32_t(data[1]) << 8 | uint32_t(data[2]) << 16 | uint32_t(data[3]) << 24);
        crc = t.row[7][a & 0xFF] ^ t.row[6][a >> 8 & 0xFF] ^ t.row[5][a >> 16 & 0xFF] ^ t.row[4][a >> 24];
        crc ^= t.row[3][data[4]] ^ t.row[2][data[5]] ^ t.row[1][data[6]] ^ t.row[0][data[7]];
    }
    for (; bytes; data++, bytes--) crc = crc >> 8 ^ t.row[0][(crc ^ *data) & 0xFF];
    return ~crc;
}

}  // namespace rdc
