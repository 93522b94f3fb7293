// C = A Bᵀ for the loops: in float64, in float32, or of float32 rounded to bfloat16 with sums in
// float32. Left is A; only AMX packs it. Right packs B once: as AMX tiles (tiles.h), as bfloat16
// pairs for VDPBF16PS, or as plain numbers (packed.h).
#pragma once
#include <optional>

#include "packed.h"
#include "tiles.h"

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

  // One whose numbers lie in memory of another object.
  explicit Right(Packed<T> packed)
      : rows(packed.rows()), columns(packed.depth()), numbers(std::move(packed)) {}

  int64_t rows, columns;
  std::optional<Packed<T>> numbers;
  std::optional<Packed<Bf16Pair>> pairs;
  std::optional<Tiles> tiles;
};

// result = left rightᵀ, or with `accumulate` result += left rightᵀ. It refers to its factors: a
// temporary must outlive the call of multiply. Both factors are rounded, or neither is. The columns
// of the result are contiguous.
template <class T>
struct Product {
  Matrix<T> result;
  const Left<T>& left;
  const Right<T>& right;
  bool accumulate = false;
};

// Forms products that have equally many rows each, in their order, with one barrier between the
// threads, behind the last one: a product may add to the result of the one before it.
//
// The bits of a row depend neither on the other rows nor on `threads`.
template <class T>
void multiply(std::initializer_list<Product<T>> products, int64_t threads);

// The op `product`: left rightᵀ of matrices [m, k] and [n, k] by the ISA of a number. It is formed
// `times` times from one packed right factor, for measurements.
Tensor product_of(Tensor left, Tensor right, bool bf16, int64_t isa_number, int64_t times);

}  // namespace aligndraw::cpu
