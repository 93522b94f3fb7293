// The kernels of the products: some rows of the left factor times one panel of the right factor.
//
// A product is result[i, j] = sum over k of left[i, k] right[j, k]. A panel is up to `max_strips`
// strips of 16 rows j of the right factor, k by k; rows behind the last one are 0:
//
//               strip 0             strip 1
//     k = 0   | j = 0 ... 15      | j = 16 ... 31     | ...
//     k = 1   | j = 0 ... 15      | j = 16 ... 31     | ...
//     ...
//
// The left factor needs no layout: its numbers are broadcast from where they stand. A kernel keeps
// a few rows of the result, as wide as the panel, in registers. Each element is one chain of fused
// multiply-adds from 0 on, in the order of k, so that its bits depend neither on the other rows nor
// on the widths of the panels. (Where the ISA has no fused multiply-add, of products and sums.)
#pragma once
#include <cstdint>

#include "isa.h"

namespace aligndraw::cpu {

constexpr int64_t strip = 16;

// Two neighbours in k, rounded to bfloat16; the first lies in the low bits.
enum class Bf16Pair : uint32_t {};

// The type of the sums.
template <class Number>
struct SumOf {
  using type = Number;
};
template <>
struct SumOf<Bf16Pair> {
  using type = float;
};
template <class Number>
using Sum = typename SumOf<Number>::type;

template <class Number>
struct PanelProduct {
  const Number* left;  // element (i, k) is left[i * row_stride + k * col_stride]
  int64_t row_stride, col_stride, rows;
  const Number* panel;
  int64_t depth;        // of k
  Sum<Number>* result;  // [rows, columns]
  int64_t result_stride;
  int64_t columns;                // may end within the last strip
  bool accumulate;                // to the result; else replaces it
  const Number *next, *next_end;  // the panel that follows, to fetch into the cache; may be empty
};

template <class Number>
struct GemmKernels {
  int64_t max_strips;
  void (*of_strips[5])(const PanelProduct<Number>&);  // of panels of so many strips
};

// Those of an ISA, or of the last ISA before it that has some.
template <class Number>
const GemmKernels<Number>& gemm_kernels(Isa isa);

// What gemm_kernels chooses from; null where the compiler does not know the ISA. NEON is used as
// `portable` on aarch64, where every processor has it.
const GemmKernels<float>* neon_gemm();
const GemmKernels<float>* avx2_gemm();
const GemmKernels<float>* avx512_gemm();
const GemmKernels<Bf16Pair>* avx512_bf16_gemm();

}  // namespace aligndraw::cpu
