// The kernels of gemm_kernels.h for any ISA. The file that includes this defines
// ALIGNDRAW_GEMM_TARGET and ALIGNDRAW_GEMM_TARGET_INLINE, the ISA's attributes of functions, before
// it.
//
// Ops says what a vector is:
//   Number, Vector (of numbers), Sums (a vector of sums), lanes,
//   most_rows<strips>: rows of the result that the registers hold beside one row of the panel,
//   zero(), load(from), broadcast(from), multiply_add(a, b, sums),
//   put(to, sums, accumulate), put_part(to, sums, accumulate, count) of the first `count` lanes.
#include <utility>

#include "gemm_kernels.h"

namespace aligndraw::cpu {
namespace {

// So few rows wait for the panel, which comes from far: it is fetched 16 k ahead.
constexpr int few_rows = 4, ahead = 16;

template <class Ops, int rows, int strips>
ALIGNDRAW_GEMM_TARGET_INLINE void multiply_tile(const PanelProduct<typename Ops::Number>& p,
                                                int64_t first) {
  constexpr int vectors = strips * strip / Ops::lanes;
  typename Ops::Sums sums[rows][vectors];
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) sums[r][v] = Ops::zero();
  const auto* left = p.left + first * p.row_stride;
  const auto* right = p.panel;
  const int64_t row_stride = p.row_stride, col_stride = p.col_stride;
  for (int64_t k = 0; k < p.depth; ++k, left += col_stride, right += strips * strip) {
    if constexpr (rows <= few_rows)
#pragma GCC unroll 4
      for (int s = 0; s < strips; ++s)
        __builtin_prefetch(right + ahead * strips * strip + s * strip);
    typename Ops::Vector of_panel[vectors];
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) of_panel[v] = Ops::load(right + v * Ops::lanes);
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) {
      const auto of_left = Ops::broadcast(left + r * row_stride);
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v)
        sums[r][v] = Ops::multiply_add(of_left, of_panel[v], sums[r][v]);
    }
  }
  constexpr int whole = (strips - 1) * strip / Ops::lanes;  // vectors before the last strip
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r) {
    auto* const to = p.result + (first + r) * p.result_stride;
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) {
      auto* const at = to + v * Ops::lanes;
      const int64_t count = p.columns - v * Ops::lanes;
      if (v < whole || count >= Ops::lanes)
        Ops::put(at, sums[r][v], p.accumulate);
      else if (count > 0)
        Ops::put_part(at, sums[r][v], p.accumulate, count);
    }
  }
}

// All rows, in blocks that differ by one row at most.
template <class Ops, int strips, int... others>
ALIGNDRAW_GEMM_TARGET void multiply_blocks(const PanelProduct<typename Ops::Number>& p,
                                           std::integer_sequence<int, others...>) {
  constexpr int64_t most = sizeof...(others);
  const int64_t blocks = (p.rows + most - 1) / most;
  for (int64_t i = 0; i < blocks; ++i) {
    const int64_t first = p.rows * i / blocks, rows = p.rows * (i + 1) / blocks - first;
    ((rows == others + 1 ? multiply_tile<Ops, others + 1, strips>(p, first) : void()), ...);
  }
}

template <class Ops, int strips>
ALIGNDRAW_GEMM_TARGET void multiply_panel(const PanelProduct<typename Ops::Number>& p) {
  multiply_blocks<Ops, strips>(p,
                               std::make_integer_sequence<int, Ops::template most_rows<strips>>());
}

}  // namespace
}  // namespace aligndraw::cpu
