// The kernels of csrc/cpu/gemm_kernels.h for test_gemm.py: one panel of packed numbers.
#include "cpu/gemm_kernels.h"

using namespace aligndraw::cpu;

#define PANEL(name, Number)                                                                     \
  extern "C" void name(int64_t isa, int64_t strips, const void* left, int64_t row_stride,       \
                       int64_t col_stride, int64_t rows, const void* panel, int64_t depth,      \
                       void* result, int64_t result_stride, int64_t columns, bool accumulate) { \
    gemm_kernels<Number>(Isa(isa)).of_strips[strips](                                           \
        {static_cast<const Number*>(left), row_stride, col_stride, rows,                        \
         static_cast<const Number*>(panel), depth, static_cast<Sum<Number>*>(result),           \
         result_stride, columns, accumulate, nullptr, nullptr});                                \
  }                                                                                             \
  extern "C" int64_t name##_strips(int64_t isa) {                                               \
    return gemm_kernels<Number>(Isa(isa)).max_strips;                                           \
  }

PANEL(panel_float32, float)
PANEL(panel_float64, double)
PANEL(panel_bf16, Bf16Pair)
