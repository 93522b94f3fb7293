// PyTorch's products of matrices of any strides, on a CPU and on a GPU: of float, of double, and of
// bfloat16 with sums and result in float.
#pragma once
#include <torch/csrc/inductor/aoti_torch/generated/c_shim_cpu.h>
#include <torch/headeronly/util/BFloat16.h>

#include <algorithm>
#include <initializer_list>
#include <type_traits>

#include "check.h"

// These are in libtorch_cuda. A CPU build of torch lacks them and never calls them.
extern "C" {
__attribute__((weak)) AOTITorchError aoti_torch_cuda_mm_out(AtenTensorHandle out,
                                                            AtenTensorHandle self,
                                                            AtenTensorHandle mat2);
__attribute__((weak)) AOTITorchError aoti_torch_cuda_mm_dtype_out(AtenTensorHandle out,
                                                                  AtenTensorHandle self,
                                                                  AtenTensorHandle mat2,
                                                                  int32_t out_dtype);
__attribute__((weak)) AOTITorchError aoti_torch_cuda_addmm_out(AtenTensorHandle out,
                                                               AtenTensorHandle self,
                                                               AtenTensorHandle mat1,
                                                               AtenTensorHandle mat2, double beta,
                                                               double alpha);
__attribute__((weak)) AOTITorchError aoti_torch_cuda_bmm_out(AtenTensorHandle out,
                                                             AtenTensorHandle self,
                                                             AtenTensorHandle mat2);
}

// The text of the exception behind the last error code. libtorch_cpu has it, but not that of 2.11.
extern "C" __attribute__((weak)) const char* torch_exception_get_what_without_backtrace();

namespace aligndraw {

using torch::headeronly::BFloat16;
using torch::stable::Device;

// Element (i, j) is data[i * row_stride + j * col_stride].
template <class T>
struct Matrix {
  T* data;
  int64_t rows, columns, row_stride, col_stride = 1;

  Matrix transposed() const { return {data, columns, rows, col_stride, row_stride}; }
  // `count` rows or columns from `first` on.
  Matrix rows_from(int64_t first, int64_t count) const {
    return {data + first * row_stride, count, columns, row_stride, col_stride};
  }
  Matrix columns_from(int64_t first, int64_t count) const {
    return {data + first * col_stride, rows, count, row_stride, col_stride};
  }
  Matrix<const T> constant() const { return {data, rows, columns, row_stride, col_stride}; }
};

template <class T>
Matrix<T> matrix(T* data, int64_t rows, int64_t columns) {
  return {data, rows, columns, columns};
}

// `count` matrices of one shape, `stride` elements apart.
template <class T>
struct Matrices {
  Matrix<T> first;
  int64_t count, stride;
};

// PyTorch looks up the device of every pointer that is not null, even of an empty array. A null
// pointer plus an offset is not null and lies on no device, so an empty array gets null.
template <class T>
Tensor tensor_at(T* data, std::initializer_list<int64_t> sizes,
                 std::initializer_list<int64_t> strides, Device device) {
  if (std::find(sizes.begin(), sizes.end(), 0) != sizes.end()) data = nullptr;
  using Number = std::remove_const_t<T>;
  constexpr auto type = std::is_same_v<Number, double>     ? ScalarType::Double
                        : std::is_same_v<Number, BFloat16> ? ScalarType::BFloat16
                                                           : ScalarType::Float;
  return torch::stable::from_blob(const_cast<Number*>(data), {sizes.begin(), sizes.size()},
                                  {strides.begin(), strides.size()}, device, type);
}

// Raises the cause of an error code; PyTorch 2.11 prints it instead.
inline void check_product(AOTITorchError error) {
  if (error == AOTI_TORCH_SUCCESS) return;
  const bool known = torch_exception_get_what_without_backtrace;
  fail("a product of matrices failed in PyTorch: ",
       known ? torch_exception_get_what_without_backtrace() : "the line above says why");
}

constexpr auto on_cpu = torch::headeronly::DeviceType::CPU;

template <class T>
Tensor tensor_of(Matrix<T> m, Device device) {
  return tensor_at(m.data, {m.rows, m.columns}, {m.row_stride, m.col_stride}, device);
}

// result = a b, or with `accumulate` result += a b; all three are in the device's memory.
template <class T>
void multiply(Matrix<T> result, Matrix<const T> a, Matrix<const T> b, bool accumulate = false,
              Device device = on_cpu) {
  const Tensor out = tensor_of(result, device), left = tensor_of(a, device);
  const Tensor right = tensor_of(b, device);
  const bool here = device.type() == on_cpu;
  const auto mm = here ? aoti_torch_cpu_mm_out : aoti_torch_cuda_mm_out;
  const auto addmm = here ? aoti_torch_cpu_addmm_out : aoti_torch_cuda_addmm_out;
  check_product(accumulate ? addmm(out.get(), out.get(), left.get(), right.get(), 1, 1)
                           : mm(out.get(), left.get(), right.get()));
}

// result = a b of bfloat16, with sums in float. PyTorch has no such product on a CPU: there the
// operands are widened.
inline void multiply(Matrix<float> result, Matrix<const BFloat16> a, Matrix<const BFloat16> b,
                     Device device) {
  const Tensor out = tensor_of(result, device), left = tensor_of(a, device);
  const Tensor right = tensor_of(b, device);
  const auto wide = [](const Tensor& t) { return torch::stable::to(t, ScalarType::Float); };
  check_product(device.type() == on_cpu
                    ? aoti_torch_cpu_mm_out(out.get(), wide(left).get(), wide(right).get())
                    : aoti_torch_cuda_mm_dtype_out(out.get(), left.get(), right.get(),
                                                   aoti_torch_dtype_float32()));
}

// The same of `count` matrices each.
template <class T>
void multiply(Matrices<T> result, Matrices<const T> a, Matrices<const T> b, Device device) {
  const auto tensor = [&](const auto& m) {
    return tensor_at(m.first.data, {m.count, m.first.rows, m.first.columns},
                     {m.stride, m.first.row_stride, m.first.col_stride}, device);
  };
  const Tensor out = tensor(result), left = tensor(a), right = tensor(b);
  const auto bmm = device.type() == on_cpu ? aoti_torch_cpu_bmm_out : aoti_torch_cuda_bmm_out;
  check_product(bmm(out.get(), left.get(), right.get()));
}

}  // namespace aligndraw
