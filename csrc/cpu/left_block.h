// A block of the left factor as the kernels read it.
#pragma once
#include "../gemm.h"
#include "gemm_kernels.h"

namespace aligndraw::cpu {

// Element (i, k) is data[i * row_stride + k * col_stride].
template <class Number>
struct LeftBlock {
  const Number* data;
  int64_t row_stride, col_stride;
};

// Returns `depth` Numbers of each row, from Number k on. Where rows stand so already they are not
// copied; else `workspace` takes rows of `depth` Numbers, rounded up to a multiple of 16. With
// `rounded` the floats are rounded to bfloat16.
LeftBlock<float> left_block(Matrix<const float> left, int64_t k, int64_t depth, bool rounded,
                            float* workspace);
LeftBlock<double> left_block(Matrix<const double> left, int64_t k, int64_t depth, bool rounded,
                             double* workspace);
LeftBlock<Bf16Pair> left_block(Matrix<const float> left, int64_t k, int64_t depth, bool rounded,
                               Bf16Pair* workspace);

}  // namespace aligndraw::cpu
