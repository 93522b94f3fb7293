// A right factor of many products, laid out once as MKL reads it: a product spends a tenth and more
// of its time on that otherwise.
#pragma once
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

class Packed {
 public:
  // Whether it pays for `times` products, each with a left factor of `rows` rows.
  static bool pays(int64_t rows, int64_t times) {
    return cblas_sgemm_pack_get_size && cblas_sgemm_pack && cblas_sgemm_compute && rows >= 4 &&
           times >= 8;
  }

  // right [k, n], its rows or its columns contiguous.
  Packed(int64_t rows, Matrix<const float> right)
      : rows_(rows),
        depth_(right.rows),
        columns_(right.columns),
        pitch_(right.column == 1 ? right.row : right.column),
        data_(cblas_sgemm_pack_get_size(right_factor, rows, columns_, depth_) / sizeof(float)) {
    cblas_sgemm_pack(row_major, right_factor, right.column == 1 ? as_is : transposed, rows,
                     columns_, depth_, 1, right.data, pitch_, data_);
  }

  // result = left right, or with `adds` result += that; rows are contiguous.
  void multiply(Matrix<float> result, Matrix<const float> left, bool adds) const {
    cblas_sgemm_compute(row_major, as_is, packed, rows_, columns_, depth_, left.data, left.row,
                        data_, pitch_, adds ? 1 : 0, result.data, result.row);
  }

 private:
  enum { row_major = 101, as_is = 111, transposed = 112, packed = 151, right_factor = 162 };

  int64_t rows_, depth_, columns_, pitch_;
  Buffer<float> data_;
};

}  // namespace aligndraw::cpu
