#include "tint.h"

namespace aligndraw::cpu {
namespace {

template <class T>
ALIGNDRAW_INLINE void forward_loop(const Tints& tints, const T* __restrict outputs,
                                   T* __restrict patch) {
  const int64_t area = tints.area;
  std::copy_n(outputs, tints.channels * area, patch);
  for (int64_t k = 0; k < tints.count; ++k) {
    const T *const mask = outputs + tints.at(k), *const colour = mask + area;
    for (int64_t c = 0; c < tints.channels; ++c)
      for (int64_t i = 0; i < area; ++i) patch[c * area + i] += colour[c] * mask[i];
  }
}

template <class T>
ALIGNDRAW_INLINE T dot(const T* __restrict a, const T* __restrict b, int64_t n) {
  constexpr int64_t lanes = 16;  // sums of their own, for speed and precision
  T sums[lanes] = {};
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes)
    for (int64_t j = 0; j < lanes; ++j) sums[j] += a[i + j] * b[i + j];
  for (int64_t j = 0; i < n; ++i, ++j) sums[j] += a[i] * b[i];
  for (int64_t width = lanes / 2; width; width /= 2)
    for (int64_t j = 0; j < width; ++j) sums[j] += sums[j + width];
  return sums[0];
}

template <class T>
ALIGNDRAW_INLINE void backward_loop(const Tints& tints, const T* __restrict outputs,
                                    T* __restrict grads) {
  const int64_t area = tints.area;
  for (int64_t k = 0; k < tints.count; ++k) {
    const T *const mask = outputs + tints.at(k), *const colour = mask + area;
    T *const grad_mask = grads + tints.at(k), *const grad_colour = grad_mask + area;
    std::fill_n(grad_mask, area, T(0));
    for (int64_t c = 0; c < tints.channels; ++c)
      for (int64_t i = 0; i < area; ++i) grad_mask[i] += colour[c] * grads[c * area + i];
    for (int64_t c = 0; c < tints.channels; ++c) grad_colour[c] = dot(mask, grads + c * area, area);
  }
}

}  // namespace

ALIGNDRAW_CLONES void tint_row(const Tints& tints, const float* outputs, float* patch) {
  forward_loop(tints, outputs, patch);
}

void tint_row(const Tints& tints, const double* outputs, double* patch) {
  forward_loop(tints, outputs, patch);
}

ALIGNDRAW_CLONES void tint_backward_row(const Tints& tints, const float* outputs, float* grads) {
  backward_loop(tints, outputs, grads);
}

void tint_backward_row(const Tints& tints, const double* outputs, double* grads) {
  backward_loop(tints, outputs, grads);
}

}  // namespace aligndraw::cpu
