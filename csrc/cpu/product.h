// Products of small matrices. Vectors run along the rows of the right operand and of the result.
#pragma once
#include <cstdint>

namespace aligndraw::cpu {

// A strided view of the left operand: element (i, k) is data[i * row_stride + k * col_stride].
template <class T>
struct StridedView {
  const T* data;
  int64_t row_stride, col_stride;
};

// Rows of a matrix that start `row_stride` elements apart.
template <class T>
struct Rows {
  T* data;
  int64_t row_stride;
};

// result = start + a b, for a [rows, depth], b [depth, width], start and result [rows, width];
// without a start, result = a b. Start and result have one stride and may be the same array.
void product(const StridedView<float>& a, Rows<const float> b, Rows<float> result, int64_t rows,
             int64_t depth, int64_t width, const float* start = nullptr);
void product(const StridedView<double>& a, Rows<const double> b, Rows<double> result, int64_t rows,
             int64_t depth, int64_t width, const double* start = nullptr);

}  // namespace aligndraw::cpu
