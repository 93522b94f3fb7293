// One unit of an LSTM's step in the loops' kernels.
#pragma once
#include <cuda_runtime.h>

#include "../math/lstm.h"
#include "loop.h"

namespace aligndraw::cuda {

// `gates` are products beside the terms of the step.
template <class T>
__device__ __forceinline__ void lstm_unit(const LstmStep<T>& step, int64_t n, int64_t b, int64_t j,
                                          T (&gates)[4]) {
#pragma unroll
  for (int g = 0; g < 4; ++g) {
    const int64_t column = g * n + j;
    gates[g] += step.bias[column];
#pragma unroll
    for (const Rows<const T>& term : step.terms)
      if (term.data) gates[g] += term.data[b * term.row_stride + column];
    if (step.gates) step.gates[b * 4 * n + column] = gates[g];
  }
  const auto next = math::lstm_gates(gates[0], gates[1], gates[2], gates[3], step.c[b * n + j]);
  step.h[b * n + j] = next.h;
  step.c_next[b * n + j] = next.c;
}

template <class T>
__device__ __forceinline__ void lstm_unit_backward(const LstmStepBackward<T>& step, int64_t n,
                                                   int64_t b, int64_t j, T grad_h) {
  const T* const gate = step.gates + b * 4 * n + j;
  const auto grad = math::lstm_gates_backward(grad_h, step.grad_c[b * n + j], gate[0], gate[n],
                                              gate[2 * n], gate[3 * n], step.c[b * n + j]);
  for (const Rows<T>& place : step.grad_gates) {
    if (!place.data) continue;
    T* const grad_gate = place.data + b * place.row_stride + j;
    grad_gate[0] = grad.i;
    grad_gate[n] = grad.f;
    grad_gate[2 * n] = grad.g;
    grad_gate[3 * n] = grad.o;
  }
  step.grad_c[b * n + j] = grad.c;
}

}  // namespace aligndraw::cuda
