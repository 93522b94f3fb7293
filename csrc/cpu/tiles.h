// A factor of products of numbers rounded to bfloat16, in tiles as AMX multiplies them.
//
// A product is result[i, j] = sum over k of left[i, k] right[j, k]. A tile is 16 rows by 32 k: 256
// pairs of neighbours in k, in 16 lines of 64 bytes. A left tile has a line per row, a right tile a
// line per pair:
//
//      left tile                                  right tile
//      i = 0    | k = 0, 1 | 2, 3 | ... | 30, 31  k = 0, 1    | j = 0 | j = 1 | ... | j = 15
//      i = 1    | k = 0, 1 | 2, 3 | ... | 30, 31  k = 2, 3    | j = 0 | j = 1 | ... | j = 15
//      ...                                        ...
//      i = 15   | k = 0, 1 | 2, 3 | ... | 30, 31  k = 30, 31  | j = 0 | j = 1 | ... | j = 15
//
// The tiles of 16 rows follow one another in k, the first number of a pair lies in the low bits,
// and 0 fills what lies outside the matrix:
//
//      rows 0 ... 15    | k = 0 ... 31 | k = 32 ... 63 | ...
//      rows 16 ... 31   | k = 0 ... 31 | k = 32 ... 63 | ...
//      ...              (an even number of lines: a kernel takes two at a time)
#pragma once
#include "../gemm.h"
#include "cpu.h"
#include "isa.h"

namespace aligndraw::cpu {

class Tiles {
 public:
  enum class Side { left, right };

  Tiles(Side side, Matrix<const float> matrix);

  // Row tile i from depth tile k on.
  const uint32_t* at(int64_t i, int64_t k) const { return data_ + (i * depth_ + k) * 256; }
  int64_t rows() const { return rows_; }
  int64_t row_tiles() const { return (rows_ + 15) / 16; }
  int64_t depth_tiles() const { return depth_; }

 private:
  int64_t rows_, depth_;
  Buffer<uint32_t> data_;
};

struct Term {
  const Tiles &left, &right;
};

// result = the sum of the terms' products, or with `accumulate` result += that; at most two terms.
void multiply(Matrix<float> result, std::initializer_list<Term> terms, bool accumulate, Isa isa);

}  // namespace aligndraw::cpu
