// product() of csrc/cpu/product.h in the vectors of one ISA, for test_product.py: SIMD is its
// header.
#include SIMD

#include "cpu/product_tile.h"

#define PRODUCT(name, T)                                                                         \
  extern "C" void name(const T* a, int64_t row_stride, int64_t col_stride, const T* b,           \
                       int64_t b_stride, T* result, int64_t stride, int64_t rows, int64_t depth, \
                       int64_t width, const T* start) {                                          \
    aligndraw::cpu::multiply_plain<T>({a, row_stride, col_stride}, {b, b_stride},                \
                                      {result, stride}, rows, depth, width, start);              \
  }

PRODUCT(product_float32, float)
PRODUCT(product_float64, double)
