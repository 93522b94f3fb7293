// The driver of block_kernels.h: which thread forms which blocks, and in which order.
#include "block_kernels.h"
#include "loop.h"
#include "tiles.h"

namespace aligndraw::cpu {
namespace {

constexpr int64_t at_once = 32;  // depth tiles whose products are formed before the next rows'

}  // namespace

void multiply(Matrix<float> result, std::initializer_list<Term> terms, bool accumulate, Isa isa) {
  const Tiles &left = terms.begin()->left, &right = terms.begin()->right;
  const int64_t left_blocks = (left.rows() + block_side - 1) / block_side;
  const int64_t right_blocks = (right.rows() + block_side - 1) / block_side;
  int64_t depth = 0;
  for (const Term& term : terms) depth += term.left.depth_tiles();
  if (depth == 0) {
    for (int64_t i = 0; i < (accumulate ? 0 : result.rows); ++i)
      std::fill_n(result.data + i * result.row_stride, result.columns, 0.0f);
    return;
  }
  // A thread keeps to its blocks of the longer side; the other side's stay in its cache meanwhile.
  const bool by_right = right_blocks >= left_blocks;
  const int64_t outer = by_right ? right_blocks : left_blocks;
  const int64_t inner = by_right ? left_blocks : right_blocks;
  const auto multiply_block = [&](BlockKernel kernel, int64_t m, int64_t n, int64_t from,
                                  int64_t to) {
    const int64_t height = std::min(block_side, result.rows - m * block_side);
    const int64_t width = std::min(block_side, result.columns - n * block_side);
    float* const place = result.data + m * block_side * result.row_stride + n * block_side;
    // What adds to the result is summed by itself first: long sums err less in parts.
    const bool added = accumulate || from > 0;
    const bool whole = height == block_side && width == block_side && !added;
    alignas(64) float sums[block_side * block_side];
    const int left_tiles = 2 * m + 1 < left.row_tiles() ? 2 : 1;
    bool first_term = true;
    int64_t begin = 0;  // of a term, in the depth of all
    for (const Term& term : terms) {
      const int64_t end = begin + term.left.depth_tiles();
      const int64_t first = std::max(from, begin), last = std::min(to, end);
      if (first < last) {
        const int64_t k = first - begin;
        const uint32_t* const lefts[] = {term.left.at(2 * m, k), term.left.at(2 * m + 1, k)};
        const uint32_t* const rights[] = {term.right.at(2 * n, k), term.right.at(2 * n + 1, k)};
        kernel(lefts, rights, left_tiles, last - first, whole ? place : sums,
               whole ? result.row_stride : block_side, !first_term);
        first_term = false;
      }
      begin = end;
    }
    for (int64_t r = 0; r < (whole ? 0 : height); ++r) {
      if (added)
        add_row(place + r * result.row_stride, sums + r * block_side, width);
      else
        std::copy_n(sums + r * block_side, width, place + r * result.row_stride);
    }
  };
  for_row_ranges(outer, inner * depth * block_side, [&](int64_t begin, int64_t end) {
    const FlushSubnormals flush;
    with_block_kernel(isa, [&](BlockKernel kernel) {
      for (int64_t from = 0; from < depth; from += at_once)
        for (int64_t i = begin; i < end; ++i)
          for (int64_t j = 0; j < inner; ++j)
            multiply_block(kernel, by_right ? j : i, by_right ? i : j, from,
                           std::min(from + at_once, depth));
    });
  });
}

}  // namespace aligndraw::cpu
