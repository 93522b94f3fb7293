// Products of float matrices whose factors are rounded to bfloat16, with sums in float: processors
// with matrix tiles (Intel's AMX) form them several times as fast.
#pragma once
#include <functional>

#include "../gemm.h"
#include "cpu.h"
#include "isa.h"
#include "round.h"

namespace aligndraw::cpu {

// result, 32 x 32 with rows `row` apart, = the products of `depth` tiles of two rows of tiles of
// each side (of the left, one will do), or with `adds` += them.
using BlockKernel = void (*)(const uint32_t* const* left, const uint32_t* const* right,
                             int left_tiles, int64_t depth, float* result, int64_t row, bool adds);

// That of AVX512_BF16.
void multiply_block_avx512_bf16(const uint32_t* const* left, const uint32_t* const* right,
                                int left_tiles, int64_t depth, float* result, int64_t row,
                                bool adds);

// Calls run with the ISA's kernel on a thread that is prepared for it.
void with_kernel(Isa isa, const std::function<void(BlockKernel)>& run);

// A factor of a product result[i, j] = sum_k left[i, k] right[j, k], rounded, in tiles of 16 rows
// by 32 of depth, padded with zeros. A left tile is 16 rows of 16 pairs of neighbours in depth, a
// right one 16 such pairs of 16 rows.
class Tiles {
 public:
  enum class Side { left, right };
  static constexpr int64_t block = 32;  // rows and columns of the result that are formed together

  Tiles(Side side, Matrix<const float> matrix);

  // Row tile i from depth tile k on; the next in depth follows at once.
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

// result = the sum of the terms' products, or with `adds` result += that; at most two terms.
void multiply(Matrix<float> result, std::initializer_list<Term> terms, bool adds, Isa isa);

}  // namespace aligndraw::cpu
