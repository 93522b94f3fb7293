// One unit of an LSTM's step in the loops' kernels.
#pragma once
#include <cuda_runtime.h>

#include "../math/lstm.h"
#include "loop.h"
#include "operand_rows.h"

namespace aligndraw::cuda {

// `gates` are products beside the terms of the step.
template <class T>
__device__ __forceinline__ void lstm_unit(const LstmStep<T>& step, int n, int b, int j,
                                          T (&gates)[4]) {
  const int64_t unit = int64_t(b) * n + j, first_gate = int64_t(b) * 4 * n + j;
#pragma unroll
  for (int g = 0; g < 4; ++g) {
    gates[g] += step.bias[g * n + j];
#pragma unroll
    for (const Rows<const T>& term : step.terms)
      if (term.data) gates[g] += term.data[b * term.row_stride + g * n + j];
    if (step.gates) step.gates[first_gate + g * n] = gates[g];
  }
  const auto next = math::lstm_gates(gates[0], gates[1], gates[2], gates[3], step.c[unit]);
  store(step.h, b, j, next.h);
  step.c_next[unit] = next.c;
}

template <class T>
__device__ __forceinline__ void lstm_unit_backward(const LstmStepBackward<T>& step, int n, int b,
                                                   int j, T grad_h) {
  const int64_t unit = int64_t(b) * n + j;
  const T* const gate = step.gates + int64_t(b) * 4 * n + j;
  const auto grad = math::lstm_gates_backward(grad_h, step.grad_c[unit], gate[0], gate[n],
                                              gate[2 * n], gate[3 * n], step.c[unit]);
#pragma unroll
  for (const OperandRows<T>& place : step.grad_gates) {
    if (!place.data) continue;
    store(place, b, j, grad.i);
    store(place, b, n + j, grad.f);
    store(place, b, 2 * n + j, grad.g);
    store(place, b, 3 * n + j, grad.o);
  }
  step.grad_c[unit] = grad.c;
}

}  // namespace aligndraw::cuda
