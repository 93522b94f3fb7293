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

// So few rows wait for the panel, which comes from far: it is fetched 16 k ahead. While more rows
// are multiplied, the next panel comes into the cache, a line per k.
constexpr int few_rows = 4, ahead = 16, line = 64;

// Rows `first` ... `first` + rows - 1, block number `block`.
template <class Ops, int rows, int strips>
ALIGNDRAW_GEMM_TARGET_INLINE void multiply_tile(const PanelProduct<typename Ops::Number>& p,
                                                int64_t first, int64_t block) {
  constexpr int vectors = strips * strip / Ops::lanes;
  // The results lie far apart, often in memory that was not touched before.
  constexpr int numbers = line / sizeof(*p.result);
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r)
#pragma GCC unroll 8
    for (int j = 0; j < strips * strip; j += numbers)
      __builtin_prefetch(p.result + (first + r) * p.result_stride + j, 1);
  typename Ops::Sums sums[rows][vectors];
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) sums[r][v] = Ops::zero();
  const auto* left = p.left + first * p.row_stride;
  const auto* right = p.panel;
  const int64_t row_stride = p.row_stride, col_stride = p.col_stride;
  const int64_t fetched = block * p.depth * line;
  const bool fetches = fetched < int64_t(sizeof(*p.next)) * (p.next_end - p.next);
  const char* next = fetches ? reinterpret_cast<const char*>(p.next) + fetched
                             : reinterpret_cast<const char*>(left);
  const int64_t next_step = fetches ? line : 0;
  for (int64_t k = 0; k < p.depth; ++k, left += col_stride, right += strips * strip) {
    if constexpr (rows <= few_rows)
#pragma GCC unroll 4
      for (int s = 0; s < strips; ++s)
        __builtin_prefetch(right + ahead * strips * strip + s * strip);
    else
      __builtin_prefetch(next, 0, 2);
    next += next_step;
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
    ((rows == others + 1 ? multiply_tile<Ops, others + 1, strips>(p, first, i) : void()), ...);
  }
}

template <class Ops, int strips>
ALIGNDRAW_GEMM_TARGET void multiply_panel(const PanelProduct<typename Ops::Number>& p) {
  multiply_blocks<Ops, strips>(p,
                               std::make_integer_sequence<int, Ops::template most_rows<strips>>());
}

}  // namespace
}  // namespace aligndraw::cpu
