// A factor of many products, laid out once as the kernels read it: see gemm_kernels.h.
#pragma once
#include <optional>
#include <vector>

#include "../gemm.h"
#include "cpu.h"
#include "gemm_kernels.h"

namespace aligndraw::cpu {

// The k of some rows of a factor outside which they are 0.
struct Span {
  int64_t first, end;  // equal where all is 0
};

// The right factor of products result[i, j] = sum over k of left[i, k] right[j, k].
//
// The sum over k is formed in blocks of at most `most_depth` numbers (or pairs), which are added to
// the result one after another: long sums err less in parts. Blocks depend on k alone.
//
// Products leave out the k outside the span of a panel: a factor may have blocks of zeros. They
// would add 0, so that no bit of a finite result changes. A left factor's infinity or NaN there is
// left out too.
template <class Number>
class Packed {
 public:
  using Source = Sum<Number>;
  static constexpr int64_t in_k = std::is_same_v<Number, Bf16Pair> ? 2 : 1;  // what a Number holds
  static constexpr int64_t most_depth = 320;

  // right [n, k], of any strides; with `rounded`, of numbers rounded to bfloat16.
  Packed(Matrix<const Source> right, Isa isa, bool rounded = false);

  // A factor of this shape in memory that outlives this object, of size(rows, columns) numbers and
  // in panels that so many threads share equally. They are not rounded. pack() fills the memory.
  Packed(int64_t rows, int64_t columns, Isa isa, int64_t threads, Number* data);
  static int64_t size(int64_t rows, int64_t columns) {
    const int64_t strips = (rows + strip - 1) / strip;
    constexpr int64_t span_size = sizeof(Span) / sizeof(Number);
    return strips * strip * ((columns + in_k - 1) / in_k) + (strips * span_size + 15) / 16 * 16;
  }
  void pack(Matrix<const Source> right);

  Isa isa() const { return isa_; }
  bool rounded() const { return rounded_; }
  int64_t rows() const { return rows_; }
  int64_t depth() const { return depth_; }
  int64_t panels() const { return int64_t(first_strips_.size()) - 1; }
  int64_t first_row(int64_t panel) const { return first_strips_[panel] * strip; }
  int64_t strips(int64_t panel) const { return first_strips_[panel + 1] - first_strips_[panel]; }
  const Span& span(int64_t panel) const { return spans()[panel]; }
  const Number* at(int64_t panel, int64_t k) const {
    return data_ + (first_strips_[panel] * depth_ + k * strips(panel)) * strip;
  }
  int64_t blocks() const { return (depth_ + most_depth - 1) / most_depth; }
  int64_t first_of_block(int64_t block) const { return depth_ * block / blocks(); }

 private:
  // Those of the panels, behind the numbers of all strips.
  Span* spans() const {
    return reinterpret_cast<Span*>(data_ + first_strips_.back() * strip * depth_);
  }
  Span span_of(int64_t panel) const;
  void pack_square(Matrix<const Source> right, int64_t first, int64_t k, Number* to,
                   int64_t stride) const;

  Isa isa_;
  bool rounded_;
  int64_t rows_, depth_;  // depth in Numbers
  std::vector<int64_t> first_strips_;
  std::optional<Buffer<Number>> own_;
  Number* data_;
};

}  // namespace aligndraw::cpu
