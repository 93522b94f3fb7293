// Products of float matrices: as they are, or of factors rounded to bfloat16 with sums in float,
// which processors with matrix tiles (Intel's AMX) form several times as fast.
#pragma once
#include <optional>

#include "../gemm.h"
#include "cpu.h"
#include "packed.h"

namespace aligndraw::cpu {

// What forms the rounded products. Each computes the same, but for the order of its sums.
enum class Unit { any_processor, amx };

Unit fastest_unit();

// The number of that unit, and left rightᵀ of float matrices [m, k] and [n, k] by the unit of a
// number that is not above it.
int64_t bf16_unit();
Tensor bf16_product(Tensor left, Tensor right, int64_t unit);

// A factor of a product result[i, j] = sum_k left[i, k] right[j, k], rounded, in tiles of 16 rows by
// 32 of depth, padded with zeros. A left tile is 16 rows of 16 pairs of neighbours in depth, a right
// one 16 such pairs of 16 rows.
class Tiles {
 public:
  enum class Side { left, right };

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
void multiply(Matrix<float> result, std::initializer_list<Term> terms, bool adds, Unit unit);

// A factor as it is, or rounded.
template <class T>
struct Left {
  Left(Matrix<const T> matrix, bool rounded) : matrix(matrix) {
    if constexpr (std::is_same_v<T, float>)
      if (rounded) tiles.emplace(Tiles::Side::left, matrix);
  }

  Matrix<const T> matrix;
  std::optional<Tiles> tiles;
};

// Where it serves `times` products with `rows` rows each, all with contiguous
// rows, it may be laid out once for all of them.
template <class T>
struct Right {
  Right(Matrix<const T> matrix, bool rounded, int64_t rows = 0, int64_t times = 1)
      : matrix(matrix) {
    if constexpr (std::is_same_v<T, float>) {
      if (rounded)
        tiles.emplace(Tiles::Side::right, matrix);
      else if (matrix.rows && matrix.columns && Packed::pays(rows, times))
        packed.emplace(rows, matrix.transposed());
    }
  }

  Matrix<const T> matrix;
  std::optional<Tiles> tiles;
  std::optional<Packed> packed;
};

// result = left rightᵀ, or with `adds` result += that. Both are rounded, or neither is.
template <class T>
void multiply(Matrix<T> result, const Left<T>& left, const Right<T>& right, bool adds = false) {
  if constexpr (std::is_same_v<T, float>) {
    if (right.tiles) return multiply(result, {{*left.tiles, *right.tiles}}, adds, fastest_unit());
    if (right.packed) return right.packed->multiply(result, left.matrix, adds);
  }
  multiply(result, left.matrix, right.matrix.transposed(), adds);
}

// result = left rightᵀ + other_left other_rightᵀ
template <class T>
void multiply(Matrix<T> result, const Left<T>& left, const Right<T>& right,
              const Left<T>& other_left, const Right<T>& other_right) {
  if constexpr (std::is_same_v<T, float>)
    if (right.tiles)
      return multiply(result, {{*left.tiles, *right.tiles}, {*other_left.tiles, *other_right.tiles}},
                      false, fastest_unit());
  multiply(result, left, right);
  multiply(result, other_left, other_right, true);
}

}  // namespace aligndraw::cpu
