// Residual blocks of the light transforms, row by row, on floats or on integers.
//
// A row enters a trunk of blocks at its top, and leaves it as many rows later as it has blocks: memory holds a few
// rows of each block, whatever the height of the picture.
#pragma once
#include "integers.h"

namespace rdc {

struct OnFloats {
    using Value = float;
    using Product = rdc::Product;
    using Depthwise = rdc::Depthwise;
};

struct OnIntegers {
    using Value = int16_t;
    using Product = IntegerProduct;
    using Depthwise = IntegerDepthwise;
};

// x + (pointwise, depthwise, pointwise)(x), then x + (pointwise, pointwise)(x), which may be left out.
template <class Numbers>
struct Block {
    int width;  // padded
    typename Numbers::Product enter, leave, widen, shrink;
    typename Numbers::Depthwise depthwise;
};

template <class Numbers>
class BlockRows {
  public:
    using Value = typename Numbers::Value;

    // most: rows of a push
    BlockRows(const Block<Numbers>& block, int columns, int most)
        : block_(&block), columns_(columns), row_(size_t(columns) * block.width),
          mixed_row_(size_t(columns) * block.depthwise.channels()), mixed_((most + 2) * mixed_row_), held_((most + 1) * row_),
          hidden_((most + 1) * size_t(columns) * std::max(block.depthwise.channels(), block.widen.outputs())),
          out_((most + 1) * row_) {}

    // Take the next rows (count, columns, channels), or null below the last one; gives as many as can be given by now,
    // from the one before them on: `given` points to them until the next push.
    int push(const Value* in, int count, const Value*& given) {
        const int width = block_->width, mixed = block_->depthwise.channels(), wide = block_->widen.outputs();
        if (in) {
            block_->enter.run(in, width, count * columns_, mixed_.data() + 2 * mixed_row_, mixed);
            std::copy(in, in + count * row_, held_.data() + row_);
        } else {
            std::fill_n(mixed_.data() + 2 * mixed_row_, mixed_row_, Value(0));
        }
        const int first = begun_ ? 0 : 1;  // of the rows held: above the first one there are zeros
        const int ready = in ? count - first : 1;
        for (int r = first; r < first + ready; r++) {
            const Value* middle = mixed_.data() + (r + 1) * mixed_row_;
            const Value* rows[3] = {middle - mixed_row_, middle, middle + mixed_row_};
            block_->depthwise.run(rows, mixed, columns_, hidden_.data() + (r - first) * mixed_row_, mixed);
        }
        Value* x = held_.data() + first * row_;
        const int positions = ready * columns_;
        block_->leave.run(hidden_.data(), mixed, positions, out_.data(), width, x);
        if (wide) {
            block_->widen.run(out_.data(), width, positions, hidden_.data(), wide);
            block_->shrink.run(hidden_.data(), wide, positions, out_.data(), width, out_.data());
        }
        if (in) {
            std::copy_n(held_.data() + count * row_, row_, held_.data());
            std::copy(mixed_.data() + count * mixed_row_, mixed_.data() + (count + 2) * mixed_row_, mixed_.data());
            begun_ = true;
        }
        given = out_.data();
        return ready;
    }

  private:
    const Block<Numbers>* block_;
    int columns_;
    size_t row_, mixed_row_;
    bool begun_ = false;
    Buffer<Value> mixed_, held_, hidden_, out_;  // the last two rows of `mixed`, the last one of `held`, come first
};

// Blocks one after the other.
template <class Numbers>
class Trunk {
  public:
    using Value = typename Numbers::Value;

    Trunk(const std::vector<Block<Numbers>>& blocks, int columns, int most, int first_row) : next_(first_row) {
        for (const Block<Numbers>& block : blocks) blocks_.emplace_back(block, columns, most);
    }
    // give(number of the first row, rows, count) for what comes out. Null rows, once, when there is nothing below.
    template <class Give>
    void push(const Value* rows, int count, Give&& give) {
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
    void pass(size_t k, const Value* rows, int count, Give&& give) {
        for (; count && k < blocks_.size(); k++) count = blocks_[k].push(rows, count, rows);
        if (count) {
            next_ += count;
            give(next_ - count, rows, count);
        }
    }
    std::vector<BlockRows<Numbers>> blocks_;
    int next_;
};

}  // namespace rdc
