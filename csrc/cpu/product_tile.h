// The products of small matrices that read and write consist of, in the vectors of one ISA. To be
// included after <isa>_simd.h.
#pragma once
#include <algorithm>
#include <utility>

#include "product.h"

namespace aligndraw::cpu {
namespace {

// Numbers `stride` apart, reached with few registers: a compiler takes one for each, and keeps in
// vector registers those that do not fit elsewhere.
template <class T>
class Column {
 public:
  ALIGNDRAW_KERNEL_INLINE Column(const T* first, int64_t stride)
      : first_(reinterpret_cast<const char*>(first)), stride_(sizeof(T) * stride) {}

  ALIGNDRAW_KERNEL_INLINE const T& operator[](int i) const {
    const char* const near = first_ + i / 4 * 4 * stride_;
    return *reinterpret_cast<const T*>(near + (i % 4 == 3 ? thrice_ : i % 4 * stride_));
  }
  ALIGNDRAW_KERNEL_INLINE void advance(int64_t numbers) {
    first_ += sizeof(T) * numbers;
    asm("" : "+r"(first_), "+r"(stride_), "+r"(thrice_));
  }

 private:
  const char* first_;
  int64_t stride_, thrice_ = 3 * stride_;
};

// ---- result = a b, vectors along the rows of b ----

// Where sums of a product go, which have the number of their matrix b: result = start + sums,
// without a start result = sums.
template <class T>
struct PlainSums {
  T* result;
  int64_t stride;
  const T* start;

  template <class Access>
  ALIGNDRAW_KERNEL_INLINE void put(int, int64_t row, int64_t column, Simd<T> sums,
                                   const Access& access) const {
    const int64_t at = row * stride + column;
    if (start) {
      Simd<T> before;
      access.load(before, start + at);
      sums += before;
    }
    access.store(result + at, sums);
  }
};

template <class T>
struct WholeVector {
  ALIGNDRAW_KERNEL_INLINE void load(Simd<T>& vector, const T* from) const {
    cpu::load(vector, from);
  }
  ALIGNDRAW_KERNEL_INLINE void store(T* to, const Simd<T>& vector) const { cpu::store(to, vector); }
};

// The matrices b of one product with a. Each of them gives all rows of the result once.
template <class T>
struct OneMatrix : Rows<const T> {
  static constexpr int matrices = 1;

  // values[m][v] = some columns of matrix m
  template <int vectors, class Access>
  ALIGNDRAW_KERNEL_INLINE void load(Simd<T> (&values)[matrices][vectors], int v, int64_t at,
                                    const Access& access) const {
    access.load(values[0][v], this->data + at);
  }
  ALIGNDRAW_KERNEL_INLINE OneMatrix from(int64_t row) const {
    return {this->data + row * this->row_stride, this->row_stride};
  }
};

// The registers hold sums of so many vectors of columns. Few rows take more of them, to hide the
// time that an addition takes.
template <int matrices, int rows>
constexpr int tile_vectors =
    ALIGNDRAW_VECTORS == 32 ? (matrices * rows <= 6 ? 4 : 2) : 2 / matrices;
// And of so many rows, beside a row of each b, and one factor.
template <int matrices>
constexpr int most_tile_rows = ALIGNDRAW_VECTORS == 32 ? 12 / matrices : 6;

// Some rows of a product, from `first_row` on.
template <class T, class B>
struct RowRange {
  StridedView<T> a;
  B b;
  int64_t depth, first_row, width;
};

// The sums of `rows` rows and `vectors` vectors of columns, in registers until they are put away.
// Of the last vector `last` accesses the columns that are there.
template <int rows, int vectors, class T, class B, class Put, class Last>
ALIGNDRAW_KERNEL_INLINE void multiply_tile(const RowRange<T, B>& range, int64_t column,
                                           const Put& put, const Last& last) {
  constexpr int matrices = B::matrices;
  constexpr WholeVector<T> whole;
  const StridedView<T>& a = range.a;
  Simd<T> sums[matrices][rows][vectors];
#pragma GCC unroll 2
  for (int m = 0; m < matrices; ++m)
#pragma GCC unroll 12
    for (int i = 0; i < rows; ++i)
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) sums[m][i][v] = Simd<T>{};
  Column<T> factors(a.data + range.first_row * a.row_stride, a.row_stride);
  int64_t from = column;
  for (int64_t k = 0; k < range.depth;
       ++k, factors.advance(a.col_stride), from += range.b.row_stride) {
    Simd<T> row[matrices][vectors];
#pragma GCC unroll 4
    for (int v = 0; v + 1 < vectors; ++v) range.b.load(row, v, from + v * lanes<T>, whole);
    range.b.load(row, vectors - 1, from + (vectors - 1) * lanes<T>, last);
#pragma GCC unroll 12
    for (int i = 0; i < rows; ++i) {
      const T factor = factors[i];
#pragma GCC unroll 2
      for (int m = 0; m < matrices; ++m)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v) sums[m][i][v] += factor * row[m][v];
    }
  }
#pragma GCC unroll 2
  for (int m = 0; m < matrices; ++m)
#pragma GCC unroll 12
    for (int i = 0; i < rows; ++i) {
      const int64_t to = range.first_row + i;
#pragma GCC unroll 4
      for (int v = 0; v + 1 < vectors; ++v)
        put.put(m, to, column + v * lanes<T>, sums[m][i][v], whole);
      put.put(m, to, column + (vectors - 1) * lanes<T>, sums[m][i][vectors - 1], last);
    }
}

// The columns from `column` on, which are at most `vectors` vectors.
template <int rows, int vectors, class T, class B, class Put>
ALIGNDRAW_KERNEL_INLINE void multiply_last(const RowRange<T, B>& range, int64_t column,
                                           const Put& put) {
  constexpr int64_t before = (vectors - 1) * lanes<T>;
  const int64_t left = range.width - column;
  if (left == before + lanes<T>)
    return multiply_tile<rows, vectors>(range, column, put, WholeVector<T>());
  if (left > before)
    return multiply_tile<rows, vectors>(range, column, put, PartialVector<T>(left - before));
  if constexpr (vectors > 1) multiply_last<rows, vectors - 1>(range, column, put);
}

template <int rows, class T, class B, class Put>
ALIGNDRAW_KERNEL void multiply_range(const RowRange<T, B>& range, const Put& put) {
  constexpr int vectors = tile_vectors<B::matrices, rows>;
  int64_t column = 0;
  for (; column + vectors * lanes<T> < range.width; column += vectors * lanes<T>)
    multiply_tile<rows, vectors>(range, column, put, WholeVector<T>());
  multiply_last<rows, vectors>(range, column, put);
}

template <class T, class B, class Put, int... others>
ALIGNDRAW_KERNEL_INLINE void multiply_rows(const RowRange<T, B>& range, int64_t rows,
                                           const Put& put, std::integer_sequence<int, others...>) {
  (void)((rows == others + 1 && (multiply_range<others + 1>(range, put), true)) || ...);
}

// The ranges of a product differ by one row at most. `depth_of(first_row, rows)` says which part of
// the depth a range needs: [begin, end).
template <class T, class B, class Put, class DepthOf>
ALIGNDRAW_KERNEL void multiply(const StridedView<T>& a, B b, int64_t rows, int64_t width,
                               const Put& put, const DepthOf& depth_of, int64_t most_rows) {
  const int64_t ranges = (rows + most_rows - 1) / most_rows;
  for (int64_t s = 0; s < ranges; ++s) {
    const int64_t first = rows * s / ranges, count = rows * (s + 1) / ranges - first;
    const auto [begin, end] = depth_of(first, count);
    const RowRange<T, B> range{{a.data + begin * a.col_stride, a.row_stride, a.col_stride},
                               b.from(begin),
                               end - begin,
                               first,
                               width};
    multiply_rows(range, count, put,
                  std::make_integer_sequence<int, most_tile_rows<B::matrices>>());
  }
}

struct WholeDepth {
  int64_t depth;
  ALIGNDRAW_KERNEL_INLINE std::pair<int64_t, int64_t> operator()(int64_t, int64_t) const {
    return {0, depth};
  }
};

// product() of product.h
template <class T>
ALIGNDRAW_KERNEL void multiply_plain(const StridedView<T>& a, Rows<const T> b, Rows<T> result,
                                     int64_t rows, int64_t depth, int64_t width, const T* start) {
  multiply(a, OneMatrix<T>{b}, rows, width, PlainSums<T>{result.data, result.row_stride, start},
           WholeDepth{depth}, most_tile_rows<1>);
}

// ---- result = a b^T for eight rows of b ----

// Eight rows of b in pairs of columns: a panel. Its vectors hold 8 rows where those of one column
// have few lanes, and two terms of each sum.
//
//   panel[k / 2][row][k % 2] = b[row][k]
constexpr int panel_rows = 8;

template <class T>
struct PairOf {
  T first, second;
};

// Of 8 rows and 16 columns. It is its own inverse: a matrix of 8 x 8 pairs, transposed.
template <class T>
ALIGNDRAW_KERNEL_INLINE void transpose_pairs(const T* from, int64_t from_stride, T* to,
                                             int64_t to_stride) {
  for (int i = 0; i < panel_rows; ++i)
    for (int j = 0; j < panel_rows; ++j) {
      PairOf<T> pair;
      std::memcpy(&pair, from + i * from_stride + 2 * j, sizeof pair);
      std::memcpy(to + j * to_stride + 2 * i, &pair, sizeof pair);
    }
}

// Two numbers in turn in all lanes.
template <class T>
ALIGNDRAW_KERNEL_INLINE void repeat_pair(Simd<T>& vector, const T* numbers) {
  if constexpr (sizeof(T) == sizeof(float)) {
    uint64_t pair;
    std::memcpy(&pair, numbers, sizeof pair);
    vector = (Simd<T>)(pair + Vector<uint64_t, lanes<T> / 2>{});
  } else {
    static_assert(lanes<T> == 2);
    load(vector, numbers);
  }
}

// result[i, j] = sum over channels c of a_c[i, :] b_c[j, :], for the 8 rows j of b_c
template <class T>
struct PanelProduct {
  const T* const* a;  // the channels, [rows, a_stride]
  int64_t a_stride, rows;
  const T* panels;  // `panel_stride` apart
  int64_t panel_stride, channels, width;
};

constexpr int panel_sums = ALIGNDRAW_VECTORS == 32 ? 16 : 12;  // in registers at a time
template <class T>
constexpr int panel_vectors = 2 * panel_rows / lanes<T>;
template <class T>  // even, so that pairs of rows stay together
constexpr int panel_most_rows = std::max(panel_sums / panel_vectors<T> / 2 * 2, 2);

template <bool odd, class T>
struct EveryOther {
  static constexpr int of(int n) { return 2 * n + odd; }
};

// found[row][8]: the sums of `rows` rows from `row` on.
template <int rows, class T>
ALIGNDRAW_KERNEL_INLINE void panel_tile(const PanelProduct<T>& p, int64_t row, T* found) {
  constexpr int vectors = panel_vectors<T>, even_rows = (rows + 1) / 2 * 2;
  constexpr int count = std::max(2, even_rows * vectors);
  Simd<T> sums[count], factor, terms[vectors];
#pragma GCC unroll 24
  for (int n = 0; n < count; ++n) sums[n] = Simd<T>{};
  for (int64_t c = 0; c < p.channels; ++c) {
    Column<T> factors(p.a[c] + row * p.a_stride, p.a_stride);
    const T* panel = p.panels + c * p.panel_stride;
    int64_t k = 0;
    for (; k + 2 <= p.width; k += 2, panel += 2 * panel_rows, factors.advance(2)) {
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v) load(terms[v], panel + v * lanes<T>);
#pragma GCC unroll 24
      for (int i = 0; i < rows; ++i) {
        repeat_pair(factor, &factors[i]);
#pragma GCC unroll 8
        for (int v = 0; v < vectors; ++v) sums[i * vectors + v] += factor * terms[v];
      }
    }
    if (k < p.width) {
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v) load(terms[v], panel + v * lanes<T>);
#pragma GCC unroll 24
      for (int i = 0; i < rows; ++i) {
        const T last[2] = {factors[i], 0};
        repeat_pair(factor, last);
#pragma GCC unroll 8
        for (int v = 0; v < vectors; ++v) sums[i * vectors + v] += factor * terms[v];
      }
    }
  }
  constexpr std::make_index_sequence<lanes<T>> all;
#pragma GCC unroll 24
  for (int n = 0; n < count / 2; ++n) {
    Simd<T> first, second;
    pick<T, EveryOther<false, T>>(first, sums[2 * n], sums[2 * n + 1], all);
    pick<T, EveryOther<true, T>>(second, sums[2 * n], sums[2 * n + 1], all);
    store(found + n * lanes<T>, first + second);
  }
}

template <class T, int... others>
ALIGNDRAW_KERNEL void panel_rows_from(const PanelProduct<T>& p, int64_t row, int64_t count,
                                      T* found, std::integer_sequence<int, others...>) {
  (void)((count == others + 1 && (panel_tile<others + 1>(p, row, found), true)) || ...);
}

template <class T>
using PanelTiles = std::make_integer_sequence<int, panel_most_rows<T>>;

// Rows of a block: an even number, about the same in each.
template <class T>
ALIGNDRAW_KERNEL_INLINE int64_t panel_block(int64_t rows) {
  constexpr int64_t most = panel_most_rows<T>;
  const int64_t blocks = std::max<int64_t>(1, (rows + most - 1) / most);
  return (rows + 2 * blocks - 1) / (2 * blocks) * 2;
}

// put(row, count, found[count][8]) for blocks of rows.
template <class T, class Put>
ALIGNDRAW_KERNEL_INLINE void multiply_panel(const PanelProduct<T>& p, const Put& put) {
  T found[panel_most_rows<T> * panel_rows];
  const int64_t most = panel_block<T>(p.rows);
  for (int64_t row = 0; row < p.rows; row += most) {
    const int64_t count = std::min(most, p.rows - row);
    panel_rows_from(p, row, count, found, PanelTiles<T>());
    put(row, count, found);
  }
}

// ---- result = a b^T for few rows of b ----

constexpr int dot_sums = ALIGNDRAW_VECTORS / 2;  // in registers at a time

// result[i, j] = scale (sum of a[i, :] b[j, :]). Behind the `width` numbers of a row of b stand
// zeros to the next whole vector, behind those of a row of a any numbers that are finite.
template <class T>
struct Dots {
  const T* a;  // [rows, a_stride]
  int64_t a_stride, rows;
  const T* b;  // [columns, b_stride]
  int64_t b_stride, width;
  T scale;
  T* result;
  int64_t result_stride;
};

// Rows beyond the product repeat its last one, and are not stored.
template <int columns, class T>
ALIGNDRAW_KERNEL void dots(const Dots<T>& d) {
  constexpr int rows = dot_sums / columns;
  for (int64_t row = 0; row < d.rows; row += rows) {
    Simd<T> sums[dot_sums], of_a, of_b[columns];
    const T* a[rows];
#pragma GCC unroll 16
    for (int n = 0; n < dot_sums; ++n) sums[n] = Simd<T>{};
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i) a[i] = d.a + std::min(row + i, d.rows - 1) * d.a_stride;
    for (int64_t k = 0; k < d.width; k += lanes<T>) {
#pragma GCC unroll 2
      for (int j = 0; j < columns; ++j) load(of_b[j], d.b + j * d.b_stride + k);
#pragma GCC unroll 16
      for (int i = 0; i < rows; ++i) {
        load(of_a, a[i] + k);
#pragma GCC unroll 2
        for (int j = 0; j < columns; ++j) sums[i * columns + j] += of_a * of_b[j];
      }
    }
    T found[dot_sums];
#pragma GCC unroll 16
    for (int n = 0; n < dot_sums; n += lanes<T>) {
      sum_lanes<T>(sums + n);
      store(found + n, d.scale * sums[n]);
    }
    const int64_t count = std::min<int64_t>(rows, d.rows - row);
    for (int64_t i = 0; i < count; ++i)
      std::copy_n(found + i * columns, columns, d.result + (row + i) * d.result_stride);
  }
}

}  // namespace
}  // namespace aligndraw::cpu
