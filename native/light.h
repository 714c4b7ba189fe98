// The light transforms, row by row (models/transforms/light.py is their definition in torch).
//
// A row enters a trunk of blocks at its top, and leaves it as many rows later as it has blocks: memory holds a few
// rows of each block, whatever the height of the picture. A strip of a picture begins some rows early, and drops what
// those rows give: each row is then what it would be in the whole picture, bit for bit. The same holds for very wide
// pictures, which are computed in parts of some thousand pixels: a thin one takes no more memory than another.
#pragma once
#include "layers.h"

namespace rdc {

// x + (pointwise, depthwise, pointwise)(x), then x + (pointwise, pointwise)(x), which may be left out.
struct Block {
    int width;  // padded
    Product enter, leave, widen, shrink;
    Depthwise depthwise;
};

class BlockRows {
  public:
    // most: rows of a push
    BlockRows(const Block& block, int columns, int most);
    // Take the next rows (count, columns, channels), or null below the last one; gives as many as can be given by now,
    // from the one before them on: `given` points to them until the next push.
    int push(const float* in, int count, const float*& given);

  private:
    const Block* block_;
    int columns_;
    size_t row_, mixed_row_;
    bool begun_ = false;
    Buffer<float> mixed_, held_, hidden_, out_;  // the last two rows of `mixed`, the last one of `held`, come first
};

// Blocks one after the other.
class Trunk {
  public:
    Trunk(const std::vector<Block>& blocks, int columns, int most, int first_row);
    // give(number of the first row, rows, count) for what comes out. Null rows, once, when there is nothing below.
    template <class Give>
    void push(const float* rows, int count, Give&& give) {
        if (rows) {
            pass(0, rows, count, give);
        } else {
            for (size_t k = 0; k < blocks_.size(); k++) {
                count = blocks_[k].push(nullptr, 0, rows);
                pass(k + 1, rows, count, give);
            }
        }
    }

  private:
    template <class Give>
    void pass(size_t k, const float* rows, int count, Give&& give) {
        for (; count && k < blocks_.size(); k++) count = blocks_[k].push(rows, count, rows);
        if (count) {
            next_ += count;
            give(next_ - count, rows, count);
        }
    }
    std::vector<BlockRows> blocks_;
    int next_;
};

// Columns of latents that are computed together, and those of them that are wanted: the others are what these see.
struct Columns {
    int first, count;
    int wanted, wanted_end;  // within the count
};

struct LightShape {
    int latents, wide, wide_blocks, deep, deep_blocks;
};

// Rows of an array from row `first` on.
template <class T>
struct RowsOf {
    T* data;
    int first;
    T* at(int row, size_t length) const { return data + size_t(row - first) * length; }
};

class LightSynthesis {
  public:
    // arrays: of the network, by the names of its parameters.
    LightSynthesis(const LightShape& shape, const Arrays<float>& arrays);
    // y (rows, columns, latents), to be multiplied by unit (latents); tint (deep): factors of the channels of the
    // 1/16 trunk. -> RGB (height, width, 3), height and width at most 16 times rows and columns.
    void run(const float* y, const float* unit, const float* tint, int rows, int columns, int height, int width,
             int threads, uint8_t* out) const;
    // Likewise its rows first to end of latents alone, which see `reach` rows more on either side. out: from 16 * out.first
    // rows of pixels on.
    void draw(RowsOf<const float> y, const float* unit, const float* tint, int rows, int columns, int height, int width,
              int first, int end, RowsOf<uint8_t> out) const;
    int reach() const { return shape_.deep_blocks + (shape_.wide_blocks + 1) / 2; }

  private:
    void strip(RowsOf<const float> y, const float* unit, const float* tint, int rows, int columns, int height, int width,
               int first, int end, Columns part, RowsOf<uint8_t> out) const;
    LightShape shape_;
    Product shortcut_, enter_, grow_[4], last_;
    std::vector<Block> deep_, wide_;
};

class LightAnalysis {
  public:
    LightAnalysis(const LightShape& shape, const Arrays<float>& arrays);
    // RGB (height, width, 3), its last row and column repeated -> y (rows, columns, latents).
    void run(const uint8_t* image, int height, int width, int rows, int columns, int threads, float* y) const;
    // The linear part alone: what samples (count, 16, 16, 3), of any sign, add to a position of y each.
    void add(const float* samples, const int32_t* positions, int count, float* y) const;

  private:
    void strip(const uint8_t* image, int height, int width, int rows, int columns, int first, int end, Columns part,
               float* y) const;
    LightShape shape_;
    Product shortcut_, enter_, merge_[2], last_;
    std::vector<Block> wide_, deep_;
};

// Hyper-analysis of the checkerboard model: y (rows, columns, latents), times gain in quantisation steps -> z, not yet rounded, of a
// quarter of the sides, rounded up, of y with its last row and column repeated. shift (hyper) is taken off z.
class HyperAnalysis {
  public:
    HyperAnalysis(int latents, int features, int hyper, const Arrays<float>& arrays);
    void run(const float* y, const float* gain, int rows, int columns, const float* shift, int threads, float* z) const;

  private:
    int latents_, features_, hyper_;
    Product enter_, merge_, last_;
    Depthwise half_, quarter_;
};

}  // namespace rdc
