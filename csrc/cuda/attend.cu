#include "attend.h"

#include <cmath>

#include "../math/attend.h"
#include "launch.h"
#include "number.h"
#include "sum.h"

namespace aligndraw::cuda {
namespace {

constexpr int threads = 256, warps = threads / warp_threads;

__device__ __forceinline__ int64_t clamped_length(const int64_t* lengths, int64_t b,
                                                  int64_t words) {
  const int64_t length = lengths[b];
  return length < 1 ? 1 : length > words ? words : length;
}

// A block a caption. Between barriers, `weights` holds the energies: captions of any length have
// room there.
template <class F, class T = typename F::Number>
__global__ void __launch_bounds__(threads, 1)
    forward(AttendInputs inputs, Out context, T* weights, AttendSizes sizes) {
  const auto [batch, words, units, width] = sizes;
  const int64_t b = blockIdx.x, length = clamped_length(inputs.lengths, b, words);
  const int thread = threadIdx.x, warp = thread / warp_threads, lane = thread % warp_threads;
  weights += b * words;

  for (int64_t k = warp; k < length; k += warps) {  // a warp a word
    T energy = 0;
    for (int64_t j = lane; j < units; j += warp_threads)
      energy += math::energy(F::load(inputs.query, b * units + j),
                             F::load(inputs.keys, (b * words + k) * units + j),
                             F::load(inputs.score, j));
    energy = warp_sum(energy);
    if (lane == 0) weights[k] = energy;
  }
  __syncthreads();

  // Every warp for itself: that costs less than to wait for one.
  T largest = -INFINITY, total = 0;
  for (int64_t k = lane; k < length; k += warp_threads)
    largest = weights[k] > largest ? weights[k] : largest;
  largest = warp_max(largest);
  for (int64_t k = lane; k < length; k += warp_threads) total += math::exp(weights[k] - largest);
  total = warp_sum(total);
  __syncthreads();

  for (int64_t k = thread; k < words; k += threads)
    weights[k] = k < length ? math::exp(weights[k] - largest) / total : T(0);
  __syncthreads();

  for (int64_t j = thread; j < width; j += threads) {
    const T sum = sum_of<T>(int(length), [&](int k) {
      return weights[k] * F::load(inputs.values, (b * words + k) * width + j);
    });
    F::store(context, b * width + j, sum);
  }
}

// A block a caption. The captions' shares of the gradient of the score go to `score_parts`, [B, l];
// `grad_energies` is [B, N].
template <class F, class T = typename F::Number>
__global__ void __launch_bounds__(threads, 1)
    backward(In grad_context, In grad_weights, AttendInputs inputs, In weights, AttendOutputs grads,
             T* grad_energies, T* score_parts, AttendSizes sizes) {
  const auto [batch, words, units, width] = sizes;
  const int64_t b = blockIdx.x, length = clamped_length(inputs.lengths, b, words);
  const int thread = threadIdx.x, warp = thread / warp_threads, lane = thread % warp_threads;
  grad_energies += b * words;

  for (int64_t k = warp; k < length; k += warps) {  // a warp a word
    T grad = 0;
    for (int64_t j = lane; j < width; j += warp_threads)
      grad += F::load(grad_context, b * width + j) *
              F::load(inputs.values, (b * words + k) * width + j);
    grad = warp_sum(grad);
    if (lane == 0) grad_energies[k] = F::load(grad_weights, b * words + k) + grad;
  }
  __syncthreads();

  T mean = 0;
  for (int64_t k = lane; k < length; k += warp_threads)
    mean += F::load(weights, b * words + k) * grad_energies[k];
  mean = warp_sum(mean);

  for (int64_t j = thread; j < units; j += threads) {
    const T query = F::load(inputs.query, b * units + j), score = F::load(inputs.score, j);
    T grad_query = 0, grad_score = 0;
    for (int64_t k = 0; k < words; ++k) {
      const int64_t n = (b * words + k) * units + j;
      math::EnergyGrads<T> grad{};
      if (k < length)
        grad = math::energy_backward(
            F::load(weights, b * words + k) * (grad_energies[k] - mean), query,
            F::load(inputs.keys, n), score);
      F::store(grads.keys, n, grad.key);
      grad_query += grad.key;
      grad_score += grad.score;
    }
    F::store(grads.query, b * units + j, grad_query);
    score_parts[b * units + j] = grad_score;
  }
  for (int64_t n = thread; n < words * width; n += threads) {
    const int64_t k = n / width;
    T grad = 0;
    if (k < length)
      grad = F::load(weights, b * words + k) * F::load(grad_context, b * width + n % width);
    F::store(grads.values, b * words * width + n, grad);
  }
}

// Adds up the captions' shares, a lane a unit, and a warp every so many captions.
template <class F, class T = typename F::Number>
__global__ void __launch_bounds__(threads, 1)
    add_scores(const T* __restrict__ score_parts, Out grad_score, int64_t B, int64_t units) {
  SharedArrays shared;
  T* const parts = shared.take<T>(threads);
  const int warp = threadIdx.x / warp_threads, lane = threadIdx.x % warp_threads;
  const int64_t j = int64_t(blockIdx.x) * warp_threads + lane;
  T sum = 0;
  if (j < units)
    for (int64_t b = warp; b < B; b += warps) sum += score_parts[b * units + j];
  parts[threadIdx.x] = sum;
  __syncthreads();
  if (warp > 0 || j >= units) return;
  sum = 0;
  for (int w = 0; w < warps; ++w) sum += parts[w * warp_threads + lane];
  F::store(grad_score, j, sum);
}

}  // namespace

const char* launch_attend(const AttendInputs& inputs, Out context, void* weights,
                          const AttendSizes& sizes, CUstream_st* stream) {
  if (sizes.batch == 0) return nullptr;
  return with_access(
      {inputs.query.type, inputs.keys.type, inputs.score.type, inputs.values.type},
      [&]<class F>() {
        using T = typename F::Number;
        return report(launch(forward<F>, row_of(sizes.batch), dim3(threads), 0, stream,
                             false, inputs, context, static_cast<T*>(weights), sizes));
      });
}

const char* launch_attend_backward(In grad_context, In grad_weights, const AttendInputs& inputs,
                                   In weights, const AttendOutputs& grads, void* scratch,
                                   const AttendSizes& sizes, CUstream_st* stream) {
  return with_access(
      {grad_context.type, grad_weights.type, weights.type, inputs.query.type, inputs.keys.type,
       inputs.score.type, inputs.values.type},
      [&]<class F>() -> const char* {
        using T = typename F::Number;
        T* const grad_energies = static_cast<T*>(scratch);
        T* const score_parts = grad_energies + sizes.batch * sizes.words;
        cudaError_t error = cudaSuccess;
        if (sizes.batch > 0)
          error = launch(backward<F>, row_of(sizes.batch), dim3(threads), 0, stream, false,
                         grad_context, grad_weights, inputs, weights, grads, grad_energies,
                         score_parts, sizes);
        if (error == cudaSuccess && sizes.units > 0)
          error = launch(add_scores<F>, row_of((sizes.units + warp_threads - 1) / warp_threads),
                         dim3(threads), shared_bytes<T>(threads), stream, false, score_parts,
                         grads.score, sizes.batch, sizes.units);
        return report(error);
      });
}

}  // namespace aligndraw::cuda
