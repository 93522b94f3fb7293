#include "lstm.h"

#include <algorithm>

#include "../math/lstm.h"
#include "launch.h"
#include "number.h"

namespace aligndraw::cuda {
namespace {

constexpr int threads = 128;

// One thread per unit. blockIdx.y goes over the batch, in strides where the batch has more rows
// than the grid (65,535). T is the type of gates and h, S that of the cell state.
template <class T, class S>
__global__ void __launch_bounds__(threads)
    forward(const T* __restrict__ gates, const S* __restrict__ c, T* __restrict__ h,
            S* __restrict__ c_next, int64_t B, int64_t n) {
  const int64_t j = int64_t(blockIdx.x) * threads + threadIdx.x;
  if (j >= n) return;
  for (int64_t b = blockIdx.y; b < B; b += gridDim.y) {
    const T* gate = gates + 4 * b * n + j;
    const auto next = math::lstm_gates(widen(gate[0]), widen(gate[n]), widen(gate[2 * n]),
                                       widen(gate[3 * n]), widen(c[b * n + j]));
    store(h + b * n + j, next.h);
    store(c_next + b * n + j, next.c);
  }
}

template <class T, class S>
__global__ void __launch_bounds__(threads)
    backward(const T* __restrict__ grad_h, const S* __restrict__ grad_c,
             const T* __restrict__ gates, const S* __restrict__ c, T* __restrict__ grad_gates,
             S* __restrict__ grad_c_prev, int64_t B, int64_t n) {
  const int64_t j = int64_t(blockIdx.x) * threads + threadIdx.x;
  if (j >= n) return;
  for (int64_t b = blockIdx.y; b < B; b += gridDim.y) {
    const T* gate = gates + 4 * b * n + j;
    const auto grad = math::lstm_gates_backward(widen(grad_h[b * n + j]), widen(grad_c[b * n + j]),
                                                widen(gate[0]), widen(gate[n]), widen(gate[2 * n]),
                                                widen(gate[3 * n]), widen(c[b * n + j]));
    T* grad_gate = grad_gates + 4 * b * n + j;
    store(grad_gate, grad.i);
    store(grad_gate + n, grad.f);
    store(grad_gate + 2 * n, grad.g);
    store(grad_gate + 3 * n, grad.o);
    store(grad_c_prev + b * n + j, grad.c);
  }
}

dim3 blocks(int64_t B, int64_t n) {
  return dim3(unsigned((n + threads - 1) / threads), unsigned(std::min<int64_t>(B, 65535)));
}

}  // namespace

const char* launch_lstm_gates(InputArray gates, InputArray c, void* h, void* c_next, int64_t B,
                              int64_t n, CUstream_st* stream) {
  if (B * n == 0) return nullptr;
  return with_types(gates.type, c.type, [&]<class T, class S>() {
    return report(launch(forward<T, S>, blocks(B, n), threads, 0, stream, false,
                         static_cast<const T*>(gates.data), static_cast<const S*>(c.data),
                         static_cast<T*>(h), static_cast<S*>(c_next), B, n));
  });
}

const char* launch_lstm_gates_backward(const void* grad_h, const void* grad_c, InputArray gates,
                                       InputArray c, void* grad_gates, void* grad_c_prev, int64_t B,
                                       int64_t n, CUstream_st* stream) {
  if (B * n == 0) return nullptr;
  return with_types(gates.type, c.type, [&]<class T, class S>() {
    return report(launch(backward<T, S>, blocks(B, n), threads, 0, stream, false,
                         static_cast<const T*>(grad_h), static_cast<const S*>(grad_c),
                         static_cast<const T*>(gates.data), static_cast<const S*>(c.data),
                         static_cast<T*>(grad_gates), static_cast<S*>(grad_c_prev), B, n));
  });
}

}  // namespace aligndraw::cuda
