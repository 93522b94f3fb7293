// A right factor of many products, laid out once as MKL reads it: a product spends a tenth and more
// of its time on that otherwise.
#pragma once
#include <algorithm>
#include <climits>
#include <optional>

#include "../gemm.h"
#include "cpu.h"

// PyTorch's builds with MKL export these; elsewhere they are null.
extern "C" {
__attribute__((weak)) size_t cblas_sgemm_pack_get_size(int identifier, int m, int n, int k);
__attribute__((weak)) void cblas_sgemm_pack(int layout, int identifier, int transposed, int m,
                                            int n, int k, float scale, const float* from, int pitch,
                                            float* to);
__attribute__((weak)) void cblas_sgemm_compute(int layout, int left, int right, int m, int n, int k,
                                               const float* a, int pitch_a, const float* b,
                                               int pitch_b, float adds, float* c, int pitch_c);
}

namespace aligndraw::cpu {

// The distance of a matrix's rows as BLAS takes it, at least the number of columns; 0 where the elements of a
// row do not follow one another. The stride of a dimension of one element says nothing.
inline int64_t row_pitch(Matrix<const float> m) {
  if (m.columns > 1 && m.column != 1) return 0;
  if (m.rows <= 1) return std::max<int64_t>(1, m.columns);
  return m.row >= m.columns ? m.row : 0;
}

class Packed {
 public:
  // Whether it pays for `times` products, each with a left factor of `rows` rows. MKL counts in int.
  static bool pays(int64_t rows, int64_t times, Matrix<const float> right) {
    const auto [least, most] = std::minmax({rows, right.rows, right.columns, right.row, right.column});
    return cblas_sgemm_pack_get_size && cblas_sgemm_pack && cblas_sgemm_compute && rows >= 4 &&
           times >= 8 && right.rows && right.columns && least >= 0 && most <= INT_MAX;
  }

  // right [k, n], its rows or its columns contiguous.
  Packed(int64_t rows, Matrix<const float> right)
      : rows_(rows),
        depth_(right.rows),
        columns_(right.columns),
        by_rows_(row_pitch(right) > 0),
        pitch_(by_rows_ ? row_pitch(right) : checked(row_pitch(right.transposed()))),
        data_(cblas_sgemm_pack_get_size(right_factor, rows, columns_, depth_) / sizeof(float)) {
    cblas_sgemm_pack(row_major, right_factor, by_rows_ ? as_is : transposed, rows, columns_, depth_,
                     1, right.data, pitch_, data_);
  }

  // result = left right, or with `adds` result += that; rows are contiguous.
  void multiply(Matrix<float> result, Matrix<const float> left, bool adds) const {
    cblas_sgemm_compute(row_major, as_is, packed, rows_, columns_, depth_, left.data,
                        checked(row_pitch(left)), data_, pitch_, adds ? 1 : 0, result.data,
                        checked(row_pitch(result.constant())));
  }

 private:
  enum { row_major = 101, as_is = 111, transposed = 112, packed = 151, right_factor = 162 };

  // MKL leaves its result unwritten where it takes a pitch for wrong, and says so on the terminal only.
  static int64_t checked(int64_t pitch) {
    if (pitch < 1 || pitch > INT_MAX) fail("a matrix has no layout that MKL multiplies");
    return pitch;
  }

  int64_t rows_, depth_, columns_;
  bool by_rows_;
  int64_t pitch_;
  Buffer<float> data_;
};

}  // namespace aligndraw::cpu
