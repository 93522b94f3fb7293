// Products of matrices of any strides: PyTorch's own, for float and double.
#pragma once
#include <torch/csrc/inductor/aoti_torch/generated/c_shim_cpu.h>

#include <type_traits>

#include "check.h"

namespace aligndraw {

// Element (i, j) is data[i * row + j * column].
template <class T>
struct Matrix {
  T* data;
  int64_t rows, columns, row, column = 1;

  Matrix transposed() const { return {data, columns, rows, column, row}; }
  Matrix<const T> constant() const { return {data, rows, columns, row, column}; }
};

template <class T>
Matrix<T> matrix(T* data, int64_t rows, int64_t columns) {
  return {data, rows, columns, columns};
}

// result = a b, or with `adds` result += a b.
template <class T>
void multiply(Matrix<T> result, Matrix<const T> a, Matrix<const T> b, bool adds = false) {
  const auto tensor = []<class U>(const Matrix<U>& m) {
    const int64_t sizes[] = {m.rows, m.columns}, strides[] = {m.row, m.column};
    constexpr auto type = std::is_same_v<T, double> ? ScalarType::Double : ScalarType::Float;
    return torch::stable::from_blob(const_cast<T*>(m.data), {sizes, 2}, {strides, 2},
                                    torch::stable::Device(torch::headeronly::DeviceType::CPU), type);
  };
  const Tensor out = tensor(result), left = tensor(a), right = tensor(b);
  const auto error =
      adds ? aoti_torch_cpu_addmm_out(out.get(), out.get(), left.get(), right.get(), 1, 1)
           : aoti_torch_cpu_mm_out(out.get(), left.get(), right.get());
  if (error) fail("a product of matrices failed in PyTorch");
}

}  // namespace aligndraw
