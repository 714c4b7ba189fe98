#include "rans.h"

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
    uint32_t states[STATES];
    std::copy(states_, states_ + STATES, states);
    size_t position = position_;
    const uint16_t* words = words_.data();
    const int32_t* edges = tables_.edges;
    for (size_t begin = 0; begin < count; begin += BLOCK) {
        size_t length = std::min(BLOCK, count - begin);
        std::fill(symbols + begin, symbols + begin + length, Symbol(0));
        size_t coded = list_coded(indexes + begin, length, tables_.skip_below, listed);
        for (size_t j = 0; j < coded; j++) {
            uint32_t& state = states[coded_++ % STATES];
            size_t index = indexes[begin + listed[j]];
            uint32_t slot = state & MASK;
            int32_t first = tables_.edge_start[index], radius = tables_.radius[index];
            int32_t at = first + tables_.bucket[index * BUCKETS + (slot >> (PRECISION - 8))];
            while (static_cast<uint32_t>(edges[at + 1]) <= slot) at++;  // ends: the last edge of a row is 65536
            uint32_t start = edges[at], freq = edges[at + 1] - start;
            state = pull(state, start, freq, words, position);
            int32_t symbol = at - first - radius;
            if (symbol > radius) {
                uint32_t value = (state & MASK) >> (PRECISION - ESCAPE_BITS);
                state = pull(state, value << (PRECISION - ESCAPE_BITS), 1u << (PRECISION - ESCAPE_BITS), words, position);
                int exponent = value & ((1 << EXPONENT_BITS) - 1), spare = PRECISION - exponent;
                uint32_t mantissa = (state & MASK) >> spare;
                state = pull(state, mantissa << spare, 1u << spare, words, position);
                symbol = radius + (1 << exponent) + static_cast<int32_t>(mantissa);
                if (value >> EXPONENT_BITS) symbol = -symbol;
            }
            if (position > end_ || symbol < -MAX_SYMBOL || symbol > MAX_SYMBOL) {
                position_ = end_ + 1;  // it stays damaged
                fail<Damaged>("it ends too early or holds an impossible symbol");
            }
            symbols[begin + listed[j]] = static_cast<Symbol>(symbol);
        }
    }
    std::copy(states, states + STATES, states_);
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

uint32_t crc32c(const uint8_t* data, size_t bytes, uint32_t before) {
    static const Slices t;
    uint32_t crc = ~before;
    for (; bytes >= 8; data += 8, bytes -= 8) {
        uint32_t a = crc ^ (uint32_t(data[0]) | uint32_t(data[1]) << 8 | uint32_t(data[2]) << 16 | uint32_t(data[3]) << 24);
        crc = t.row[7][a & 0xFF] ^ t.row[6][a >> 8 & 0xFF] ^ t.row[5][a >> 16 & 0xFF] ^ t.row[4][a >> 24];
        crc ^= t.row[3][data[4]] ^ t.row[2][data[5]] ^ t.row[1][data[6]] ^ t.row[0][data[7]];
    }
    for (; bytes; data++, bytes--) crc = crc >> 8 ^ t.row[0][(crc ^ *data) & 0xFF];
    return ~crc;
}

}  // namespace rdc
