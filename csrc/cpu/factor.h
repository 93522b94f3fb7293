// Products of the loops: of float64, of float32, or of float32 rounded to bfloat16 with sums in
// float32, in the form that the ISA is fastest with.
#pragma once
#include <optional>

#include "bfloat16.h"
#include "packed.h"

namespace aligndraw::cpu {

// The left factor as it stands, with its tiles where AMX forms the products.
template <class T>
struct Left {
  Left(Matrix<const T> matrix, bool rounded, Isa isa = cpu::isa()) : matrix(matrix) {
    if constexpr (std::is_same_v<T, float>)
      if (rounded && isa == Isa::amx) tiles.emplace(Tiles::Side::left, matrix);
  }

  Matrix<const T> matrix;
  std::optional<Tiles> tiles;
};

// The right factor [n, k], laid out for any number of products. With `rounded`, of tiles under AMX,
// of pairs under AVX512_BF16, and elsewhere of rounded numbers.
template <class T>
struct Right {
  Right(Matrix<const T> matrix, bool rounded, Isa isa = cpu::isa())
      : rows(matrix.rows), columns(matrix.columns) {
    if constexpr (std::is_same_v<T, float>) {
      if (rounded && isa == Isa::amx) {
        tiles.emplace(Tiles::Side::right, matrix);
        return;
      }
      if (rounded && isa == Isa::avx512_bf16) {
        pairs.emplace(matrix, isa);
        return;
      }
    }
    numbers.emplace(matrix, isa, rounded && std::is_same_v<T, float>);
  }

  int64_t rows, columns;
  std::optional<Packed<T>> numbers;
  std::optional<Packed<Bf16Pair>> pairs;
  std::optional<Tiles> tiles;
};

// result = left rightᵀ, or with `adds` result += that. Both are rounded, or neither is.
template <class T>
void multiply(Matrix<T> result, const Left<T>& left, const Right<T>& right, bool adds,
              int64_t threads) {
  if constexpr (std::is_same_v<T, float>) {
    if (right.tiles) return multiply(result, {{*left.tiles, *right.tiles}}, adds, Isa::amx);
    if (right.pairs) return multiply(result, left.matrix, *right.pairs, adds, threads);
  }
  multiply(result, left.matrix, *right.numbers, adds, threads);
}

// result = left rightᵀ + other_left other_rightᵀ
template <class T>
void multiply(Matrix<T> result, const Left<T>& left, const Right<T>& right,
              const Left<T>& other_left, const Right<T>& other_right, int64_t threads) {
  if constexpr (std::is_same_v<T, float>)
    if (right.tiles)
      return multiply(result, {{*left.tiles, *right.tiles}, {*other_left.tiles, *other_right.tiles}},
                      false, Isa::amx);
  multiply(result, left, right, false, threads);
  multiply(result, other_left, other_right, true, threads);
}

// The op `product`: left rightᵀ of matrices [m, k] and [n, k] by the ISA of a number.
Tensor product_of(Tensor left, Tensor right, bool bf16, int64_t isa_number);

}  // namespace aligndraw::cpu
