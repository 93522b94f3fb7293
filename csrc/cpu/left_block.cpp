#include "left_block.h"

#include <cstring>

#include "packed.h"
#include "round.h"

namespace aligndraw::cpu {
namespace {

// n neighbours in k, as Numbers.
void put_row(const float* from, int64_t n, float* to) { std::copy_n(from, n, to); }
void put_row(const float* from, int64_t n, Bf16Pair* to) {
  pack_row(from, n, reinterpret_cast<uint32_t*>(to));
}

// 16 rows that stand side by side, and 16 Numbers of each: lines of 16 rows are col_stride apart.
void put_square(const float* from, int64_t col_stride, float* to, int64_t row_stride) {
  transpose(reinterpret_cast<const uint32_t*>(from), col_stride, reinterpret_cast<uint32_t*>(to),
            row_stride);
}
void put_square(const float* from, int64_t col_stride, Bf16Pair* to, int64_t row_stride) {
  alignas(64) uint32_t pairs[strip * strip];
  pack_columns(from, col_stride, pairs);
  transpose(pairs, strip, reinterpret_cast<uint32_t*>(to), row_stride);
}

// block [rows, columns] to Numbers in rows `row_stride` apart.
template <class Number>
void put_block(Matrix<const float> block, Number* to, int64_t row_stride) {
  constexpr int64_t width = Packed<Number>::in_k * strip;  // columns of a square
  int64_t i = 0;
  for (; block.row_stride == 1 && i + strip <= block.rows; i += strip)
    for (int64_t k = 0; k < block.columns; k += width) {
      const float* from = block.data + i + k * block.col_stride;
      int64_t col_stride = block.col_stride;
      alignas(64) float part[width * strip] = {};
      if (k + width > block.columns) {
        for (int64_t n = 0; k + n < block.columns; ++n)
          std::copy_n(from + n * col_stride, strip, part + n * strip);
        from = part, col_stride = strip;
      }
      put_square(from, col_stride, to + i * row_stride + k / Packed<Number>::in_k, row_stride);
    }
  for (; i < block.rows; ++i) {
    const float* from = block.data + i * block.row_stride;
    alignas(64) float part[2 * Packed<Number>::most_depth];
    if (block.col_stride != 1) {
      for (int64_t n = 0; n < block.columns; ++n) part[n] = from[n * block.col_stride];
      from = part;
    }
    put_row(from, block.columns, to + i * row_stride);
  }
}

int64_t whole_squares(int64_t depth) { return (depth + strip - 1) / strip * strip; }

}  // namespace

LeftBlock<float> left_block(Matrix<const float> left, int64_t k, int64_t depth, bool rounded,
                            float* workspace) {
  const auto block = left.columns_from(k, depth);
  if (block.col_stride == 1 && !rounded) return {block.data, block.row_stride, 1};
  const int64_t row_stride = whole_squares(depth);
  put_block(block, workspace, row_stride);
  for (int64_t i = 0; i < (rounded ? block.rows : 0); ++i)
    round_row(workspace + i * row_stride, depth);
  return {workspace, row_stride, 1};
}

LeftBlock<double> left_block(Matrix<const double> left, int64_t k, int64_t, bool, double*) {
  return {left.data + k * left.col_stride, left.row_stride, left.col_stride};
}

LeftBlock<Bf16Pair> left_block(Matrix<const float> left, int64_t k, int64_t depth, bool,
                               Bf16Pair* workspace) {
  const int64_t row_stride = whole_squares(depth);
  put_block(left.columns_from(2 * k, std::min(2 * depth, left.columns - 2 * k)), workspace,
            row_stride);
  return {workspace, row_stride, 1};
}

}  // namespace aligndraw::cpu
