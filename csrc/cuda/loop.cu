#include "loop.h"

#include "launch.h"
#include "lstm_unit.h"
#include "number.h"
#include "sum.h"

namespace aligndraw::cuda {
namespace {

constexpr int threads = 256;

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

// A block sums `sum_columns` columns: 32 bytes of a row of floats, the least that memory delivers.
// Each of its threads takes every `sum_rows_apart`-th row of one column.
constexpr int sum_columns = 8, sum_rows_apart = threads / sum_columns;

constexpr int64_t sum_blocks(int64_t columns) { return (columns + sum_columns - 1) / sum_columns; }
static_assert(sum_blocks(1200) >= 132,
              "the gates' biases of MNIST occupy each multiprocessor of a Hopper");

template <class T>
__global__ void __launch_bounds__(threads, 1)
    sum_rows(Rows<const T> data, int64_t rows, int64_t columns, T* __restrict__ result) {
  SharedArrays shared;
  T* const parts = shared.allocate<T>(threads);
  const int first = threadIdx.x / sum_columns, column = threadIdx.x % sum_columns;
  const int64_t j = int64_t(blockIdx.x) * sum_columns + column;
  T sum = 0;
  if (j < columns) {
    const int64_t mine = rows > first ? (rows - first + sum_rows_apart - 1) / sum_rows_apart : 0;
    sum = sum_of<T>(int(mine), [&](int k) {
      return data.data[(first + int64_t(k) * sum_rows_apart) * data.row_stride + j];
    });
  }
  parts[threadIdx.x] = sum;
  __syncthreads();
  if (first > 0 || j >= columns) return;
  sum = 0;
  for (int r = 0; r < sum_rows_apart; ++r) sum += parts[r * sum_columns + column];
  result[j] = sum;
}

template <class T>
__global__ void __launch_bounds__(threads) lstm_step(LstmStep<T> step, int batch, int n) {
  const int j = blockIdx.x * threads + threadIdx.x;
  if (j >= n) return;
#pragma unroll 1
  for (int b = blockIdx.y; b < batch; b += gridDim.y) {
    T gates[4] = {};
    lstm_unit(step, n, b, j, gates);
  }
}

template <class T>
__global__ void __launch_bounds__(threads)
    lstm_step_backward(LstmStepBackward<T> step, int batch, int n) {
  const int j = blockIdx.x * threads + threadIdx.x;
  if (j >= n) return;
#pragma unroll 1
  for (int b = blockIdx.y; b < batch; b += gridDim.y)
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

const char* launch_round(Rows<const float> from, Rows<uint16_t> to, int64_t rows, int64_t columns,
                         CUstream_st* stream) {
  if (rows * columns == 0) return nullptr;
  const Rows<__nv_bfloat16> place{reinterpret_cast<__nv_bfloat16*>(to.data), to.row_stride};
  return report(launch(copy<float, __nv_bfloat16>, blocks_of(rows, columns), dim3(threads), 0,
                       stream, false, from, place, rows, columns));
}

template <class T>
const char* launch_sum_rows(Rows<const T> data, int64_t rows, int64_t columns, T* result,
                            CUstream_st* stream) {
  if (columns == 0) return nullptr;
  return report(launch(sum_rows<T>, row_of(sum_blocks(columns)), dim3(threads),
                       shared_bytes<T>(threads), stream, false, data, rows, columns, result));
}

template <class T>
const char* launch_lstm_step(const LstmStep<T>& step, int64_t batch, int64_t units,
                             CUstream_st* stream) {
  if (batch * units == 0) return nullptr;
  return report(launch(lstm_step<T>, blocks_of(batch, units), dim3(threads), 0, stream, false, step,
                       int(batch), int(units)));
}

template <class T>
const char* launch_lstm_step_backward(const LstmStepBackward<T>& step, int64_t batch, int64_t units,
                                      CUstream_st* stream) {
  if (batch * units == 0) return nullptr;
  return report(launch(lstm_step_backward<T>, blocks_of(batch, units), dim3(threads), 0, stream,
                       false, step, int(batch), int(units)));
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
