// Products of the loops: of matrices as they are, laid out once for many products, or rounded.
#pragma once
#include <optional>

#include "bfloat16.h"
#include "packed.h"

namespace aligndraw::cpu {

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
      else if (Packed::pays(rows, times, matrix.transposed()))
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
