#include "loop.h"

#include "launch.h"
#include "lstm_unit.h"
#include "number.h"
#include "sum.h"

namespace aligndraw::cuda {
namespace {

constexpr int threads = 256, warps = threads / warp_threads;

// One thread per column. blockIdx.y goes over the rows, in strides where there are more rows than
// in the grid (65,535).
dim3 blocks_of(int64_t rows, int64_t columns) {
  return dim3(unsigned((columns + threads - 1) / threads),
              unsigned(std::min<int64_t>(rows, 65535)));
}

template <class T, class To>
__global__ void __launch_bounds__(threads)
    copy(Rows<const T> from, Rows<To> to, int64_t rows, int64_t columns) {
  const int64_t j = int64_t(blockIdx.x) * threads + threadIdx.x;
  if (j >= columns) return;
  for (int64_t r = blockIdx.y; r < rows; r += gridDim.y)
    store(to.data + r * to.row_stride + j, from.data ? from.data[r * from.row_stride + j] : T(0));
}

// One lane per column. Each warp sums every `warps`th row.
template <class T>
__global__ void __launch_bounds__(threads, 1)
    sum_rows(Rows<const T> data, int64_t rows, int64_t columns, T* __restrict__ result) {
  SharedArrays shared;
  T* const parts = shared.allocate<T>(threads);
  const int warp = threadIdx.x / warp_threads, lane = threadIdx.x % warp_threads;
  const int64_t j = int64_t(blockIdx.x) * warp_threads + lane;
  T sum = 0;
  if (j < columns) {
    const int64_t mine = rows > warp ? (rows - warp + warps - 1) / warps : 0;
    sum = sum_of<T>(int(mine), [&](int k) {
      return data.data[(warp + int64_t(k) * warps) * data.row_stride + j];
    });
  }
  parts[threadIdx.x] = sum;
  __syncthreads();
  if (warp > 0 || j >= columns) return;
  sum = 0;
  for (int w = 0; w < warps; ++w) sum += parts[w * warp_threads + lane];
  result[j] = sum;
}

template <class T>
__global__ void __launch_bounds__(threads) lstm_step(LstmStep<T> step, int64_t batch, int64_t n) {
  const int64_t j = int64_t(blockIdx.x) * threads + threadIdx.x;
  if (j >= n) return;
  for (int64_t b = blockIdx.y; b < batch; b += gridDim.y) {
    T gates[4] = {};
    lstm_unit(step, n, b, j, gates);
  }
}

template <class T>
__global__ void __launch_bounds__(threads)
    lstm_step_backward(LstmStepBackward<T> step, int64_t batch, int64_t n) {
  const int64_t j = int64_t(blockIdx.x) * threads + threadIdx.x;
  if (j >= n) return;
  for (int64_t b = blockIdx.y; b < batch; b += gridDim.y)
    lstm_unit_backward(step, n, b, j, step.grad_h.data[b * step.grad_h.row_stride + j]);
}

}  // namespace

template <class T>
const char* launch_copy(Rows<const T> from, Rows<T> to, int64_t rows, int64_t columns,
                        CUstream_st* stream) {
  if (rows * columns == 0) return nullptr;
  return report(launch(copy<T, T>, blocks_of(rows, columns), dim3(threads), 0, stream, false, from,
                       to, rows, columns));
}

const char* launch_round(Rows<const float> from, void* to, int64_t rows, int64_t columns,
                         CUstream_st* stream) {
  if (rows * columns == 0) return nullptr;
  const Rows<__nv_bfloat16> place{static_cast<__nv_bfloat16*>(to), columns};
  return report(launch(copy<float, __nv_bfloat16>, blocks_of(rows, columns), dim3(threads), 0,
                       stream, false, from, place, rows, columns));
}

template <class T>
const char* launch_sum_rows(Rows<const T> data, int64_t rows, int64_t columns, T* result,
                            CUstream_st* stream) {
  if (columns == 0) return nullptr;
  return report(launch(sum_rows<T>, row_of((columns + warp_threads - 1) / warp_threads),
                       dim3(threads), shared_bytes<T>(threads), stream, false, data, rows, columns,
                       result));
}

template <class T>
const char* launch_lstm_step(const LstmStep<T>& step, int64_t batch, int64_t units,
                             CUstream_st* stream) {
  if (batch * units == 0) return nullptr;
  return report(launch(lstm_step<T>, blocks_of(batch, units), dim3(threads), 0, stream, false, step,
                       batch, units));
}

template <class T>
const char* launch_lstm_step_backward(const LstmStepBackward<T>& step, int64_t batch, int64_t units,
                                      CUstream_st* stream) {
  if (batch * units == 0) return nullptr;
  return report(launch(lstm_step_backward<T>, blocks_of(batch, units), dim3(threads), 0, stream,
                       false, step, batch, units));
}

#define FOR(T)                                                                                 \
  template const char* launch_copy(Rows<const T>, Rows<T>, int64_t, int64_t, CUstream_st*);    \
  template const char* launch_sum_rows(Rows<const T>, int64_t, int64_t, T*, CUstream_st*);     \
  template const char* launch_lstm_step(const LstmStep<T>&, int64_t, int64_t, CUstream_st*);   \
  template const char* launch_lstm_step_backward(const LstmStepBackward<T>&, int64_t, int64_t, \
                                                 CUstream_st*);
FOR(float)
FOR(double)
#undef FOR

}  // namespace aligndraw::cuda
