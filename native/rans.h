// The entropy coder: four interleaved rANS states of 32 bits, words of 16 (docs/format.md). Duda 2013, arXiv:1311.2540;
// interleaving: Giesen 2014, arXiv:1402.3392.
#pragma once
#include "common.h"

namespace rdc {

constexpr int STATES = 4;
constexpr int MAX_SYMBOL = 32767;

// As in exact/tables.py; the arrays belong to the caller, who has checked them.
struct Tables {
    const int32_t* edges;       // the rows, each with its closing 65536
    const int32_t* edge_start;  // (rows)
    const int32_t* radius;      // (rows)
    const uint16_t* bucket;     // (rows, 256)
    int rows;
    int skip_below;
};

class Decoder {
  public:
    Decoder(const uint8_t* stream, size_t bytes, const Tables& tables);
    // The next symbols, for table rows below tables.rows. Damaged if the stream ends or holds an impossible symbol.
    template <class Index, class Symbol>
    void decode(const Index* indexes, size_t count, Symbol* symbols);
    void finish() const;  // Damaged unless all was read and every state is back where the encoder started

  private:
    Tables tables_;
    std::vector<uint16_t> words_;
    size_t position_ = 0, end_ = 0;
    uint64_t coded_ = 0;
    uint32_t states_[STATES];
};

// Symbols and their table rows, in coding order, to the bytes of a stream. std::invalid_argument for a symbol beyond
// +-MAX_SYMBOL, or one that is not 0 where nothing is coded.
template <class Index, class Symbol>
std::vector<uint8_t> encode(const Symbol* symbols, const Index* indexes, size_t count, const Tables& tables);

uint32_t crc32c(const uint8_t* data, size_t bytes, uint32_t before = 0);

}  // namespace rdc
