#include "factor.h"

namespace aligndraw::cpu {
namespace {

template <class T>
Tensor product(const Tensor& left, const Tensor& right, bool bf16, Isa isa, int64_t times) {
  const auto view = [](const Tensor& tensor) {
    return Matrix<const T>{tensor.const_data_ptr<T>(), tensor.size(0), tensor.size(1),
                           tensor.stride(0), tensor.stride(1)};
  };
  const Tensor result = pooled({left.size(0), right.size(0)}, left.scalar_type());
  const Right<T> packed(view(right), bf16, isa);
  for (int64_t i = 0; i < times; ++i)
    multiply<T>({{matrix(result.mutable_data_ptr<T>(), left.size(0), right.size(0)),
                  Left<T>(view(left), bf16, isa), packed}},
                thread_count());
  return result;
}

}  // namespace

Tensor product_of(Tensor left, Tensor right, bool bf16, int64_t isa_number, int64_t times) {
  check_shape("product", "left", left, "[m, k]", {any, any});
  check_shape("product", "right", right, "[n, k]", {any, left.size(1)});
  const ScalarType type = left.scalar_type();
  if (type != ScalarType::Float && (bf16 || type != ScalarType::Double))
    fail("product: left must be float32", bf16 ? "" : " or float64", ", got ", dtype_text(type));
  check_dtype("product", {"right", right}, {"left", left});
  check_sizes("product", "the product", {left.size(0), right.size(0)});
  const Isa isa = checked_isa("product", isa_number);
  if (times < 1) fail("product: times must be at least 1, got ", times);
  return is_double(left) ? product<double>(left, right, bf16, isa, times)
                         : product<float>(left, right, bf16, isa, times);
}

}  // namespace aligndraw::cpu
