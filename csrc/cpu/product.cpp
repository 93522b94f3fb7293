#include "product.h"

#include "cpu.h"
#include "vector.h"
#include "wide_product.h"

namespace aligndraw::cpu {
namespace {

// `rows` rows and `columns` columns of a product, in registers until they are summed.
template <int rows, int columns, class T>
ALIGNDRAW_INLINE void tile(Factor<T> a, Rows<const T> b, Rows<T> result, int64_t depth,
                           const T* start) {
  Vector<T, columns> sums[rows] = {}, row;
  if (start)
#pragma GCC unroll 8
    for (int i = 0; i < rows; ++i) load(sums[i], start + i * result.pitch);
  for (int64_t k = 0; k < depth; ++k) {
    load(row, b.data + k * b.pitch);
#pragma GCC unroll 8
    for (int i = 0; i < rows; ++i) sums[i] += a.data[i * a.row + k * a.column] * row;
  }
#pragma GCC unroll 8
  for (int i = 0; i < rows; ++i) store(result.data + i * result.pitch, sums[i]);
}

// Tiles from left to right. Where the last would not end with the row it is moved back over its
// neighbour, which calculates some columns twice and needs no other code for the rest of a row.
template <int rows, class T>
ALIGNDRAW_INLINE void strip(Factor<T> a, Rows<const T> b, Rows<T> result, int64_t depth,
                            int64_t width, const T* start, bool wide_tiles) {
  constexpr int wide = 64 / sizeof(T), narrow = 8;
  const auto tile_at = [=]<int columns>(int64_t j, std::integral_constant<int, columns>) {
    j = std::min(j, width - columns);
    tile<rows, columns, T>(a, {b.data + j, b.pitch}, {result.data + j, result.pitch}, depth,
                           start ? start + j : nullptr);
    return j + columns;
  };
  for (int64_t j = 0; j < width;) {
    if (wide_tiles && width >= wide && width - j > wide - narrow)
      j = tile_at(j, std::integral_constant<int, wide>());
    else if (width >= narrow)
      j = tile_at(j, std::integral_constant<int, narrow>());
    else
      j = tile_at(j, std::integral_constant<int, 1>());
  }
}

template <class T>
ALIGNDRAW_INLINE void strips(Factor<T> a, Rows<const T> b, Rows<T> result, int64_t rows,
                             int64_t depth, int64_t width, const T* start) {
  constexpr int64_t most = 8;  // as many sums at a time hide the time that an addition takes
  const int64_t count = (rows + most - 1) / most;
  const bool wide_tiles = is_wide();  // whether 64 bytes a row fit into the registers
  for (int64_t s = 0; s < count; ++s) {
    const int64_t first = rows * s / count, end = rows * (s + 1) / count;
    const Factor<T> part{a.data + first * a.row, a.row, a.column};
    const T* const from = start ? start + first * result.pitch : nullptr;
    const Rows<T> to{result.data + first * result.pitch, result.pitch};
    switch (end - first) {
      case 1:
        strip<1>(part, b, to, depth, width, from, wide_tiles);
        break;
      case 2:
        strip<2>(part, b, to, depth, width, from, wide_tiles);
        break;
      case 3:
        strip<3>(part, b, to, depth, width, from, wide_tiles);
        break;
      case 4:
        strip<4>(part, b, to, depth, width, from, wide_tiles);
        break;
      case 5:
        strip<5>(part, b, to, depth, width, from, wide_tiles);
        break;
      case 6:
        strip<6>(part, b, to, depth, width, from, wide_tiles);
        break;
      case 7:
        strip<7>(part, b, to, depth, width, from, wide_tiles);
        break;
      case 8:
        strip<8>(part, b, to, depth, width, from, wide_tiles);
        break;
    }
  }
}

ALIGNDRAW_CLONES void narrow_product(const Factor<float>& a, Rows<const float> b,
                                     Rows<float> result, int64_t rows, int64_t depth, int64_t width,
                                     const float* start) {
  strips(a, b, result, rows, depth, width, start);
}

}  // namespace

void product(const Factor<float>& a, Rows<const float> b, Rows<float> result, int64_t rows,
             int64_t depth, int64_t width, const float* start) {
#ifdef ALIGNDRAW_WIDE
  if (is_wide() && (width > 16 || are_eights(a, b, result, width)))
    return wide_product(a, b, result, rows, depth, width, start);
#endif
  narrow_product(a, b, result, rows, depth, width, start);
}

void product(const Factor<double>& a, Rows<const double> b, Rows<double> result, int64_t rows,
             int64_t depth, int64_t width, const double* start) {
  strips(a, b, result, rows, depth, width, start);
}

}  // namespace aligndraw::cpu
