// Products of small matrices. Vectors run along the rows of the second factor and of the result.
#pragma once
#include <cstdint>

namespace aligndraw::cpu {

// A first factor: element (i, k) is data[i * row + k * column].
template <class T>
struct Factor {
  const T* data;
  int64_t row, column;
};

// Rows of a matrix that start `pitch` elements apart.
template <class T>
struct Rows {
  T* data;
  int64_t pitch;
};

// result = start + a b, for a [rows, depth], b [depth, width], start and result [rows, width];
// without a start, result = a b. Start and result have one pitch; they may be the same array.
void product(const Factor<float>& a, Rows<const float> b, Rows<float> result, int64_t rows,
             int64_t depth, int64_t width, const float* start = nullptr);
void product(const Factor<double>& a, Rows<const double> b, Rows<double> result, int64_t rows,
             int64_t depth, int64_t width, const double* start = nullptr);

}  // namespace aligndraw::cpu
