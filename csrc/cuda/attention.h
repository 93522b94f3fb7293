// Attention to one caption by one block, for attend and the loops. All threads of the block call
// each function. `words` is the length of the caption without padding. Loops whose iterations wait
// for memory are unrolled, so that several loads are under way at once.
#pragma once
#include <cmath>

#include "../math/attend.h"
#include "sum.h"

namespace aligndraw::cuda::attention {

constexpr int threads = 256, warps = threads / warp_threads;

__device__ __forceinline__ int clamped_length(const int64_t* lengths, int b, int words) {
  const int64_t length = lengths[b];
  return length < 1 ? 1 : length > words ? words : int(length);
}

// Iterations of a loop over units that a thread unrolls.
template <class T>
constexpr int at_once = sizeof(T) == 4 ? 4 : 1;

// Calls sum(j, x) for the `width` elements x = sum over k of weights[k] value(k, j). A thread forms
// two sums at once.
template <class T, class Value, class Sum>
__device__ __forceinline__ void weighted_words(int words, int width, const T* weights,
                                               const Value& value, const Sum& sum) {
#pragma unroll 1
  for (int j = threadIdx.x; j < width; j += 2 * threads) {
    const int next = j + threads;
    const bool has_next = next < width;
    T sums[2];
    sums_of(
        words, [&](int k, int q) { return weights[k] * value(k, q && has_next ? next : j); }, sums);
    sum(j, sums[0]);
    if (has_next) sum(next, sums[1]);
  }
}

// Computes weights [padded], and calls sum(j, x) for the `width` elements x = sum over k of
// weights[k] value(k, j). Before the softmax `weights` holds the energies, so that captions of any
// length fit.
template <class T, class Query, class Key, class Score, class Value, class Sum>
__device__ __forceinline__ void forward(int words, int padded, int units, int width,
                                        const Query& query, const Key& key, const Score& score,
                                        const Value& value, T* weights, const Sum& sum) {
  const int thread = threadIdx.x, warp = warp_index(), lane = thread % warp_threads;
#pragma unroll 1
  for (int k = warp; k < words; k += warps) {  // one warp per word
    T energy = 0;
#pragma unroll at_once < T>
    for (int j = lane; j < units; j += warp_threads)
      energy += math::energy(query(j), key(k, j), score(j));
    energy = warp_sum(energy);
    if (lane == 0) weights[k] = energy;
  }
  __syncthreads();

  // Every warp sums for itself: that costs less than waiting for one warp.
  T largest = -INFINITY, total = 0;
#pragma unroll 1
  for (int k = lane; k < words; k += warp_threads)
    largest = weights[k] > largest ? weights[k] : largest;
  largest = warp_max(largest);
#pragma unroll 1
  for (int k = lane; k < words; k += warp_threads) total += math::exp(weights[k] - largest);
  total = warp_sum(total);
  __syncthreads();

#pragma unroll 1
  for (int k = thread; k < padded; k += threads)
    weights[k] = k < words ? math::exp(weights[k] - largest) / total : T(0);
  __syncthreads();

  weighted_words<T>(words, width, weights, value, sum);
}

// Back from grad_weight(k) and the gradients grad_sum(j) of the sums. For each unit j it calls
// key_grad(k, j, x) for all padded words, and unit_grads(j, gradient of the query, of the score).
// `energies` [words] is workspace.
template <class T, class GradSum, class GradWeight, class Query, class Key, class Score,
          class Value, class Weight, class KeyGrad, class UnitGrads>
__device__ __forceinline__ void backward(int words, int padded, int units, int width,
                                         const GradSum& grad_sum, const GradWeight& grad_weight,
                                         const Query& query, const Key& key, const Score& score,
                                         const Value& value, const Weight& weight, T* energies,
                                         const KeyGrad& key_grad, const UnitGrads& unit_grads) {
  const int thread = threadIdx.x, warp = warp_index(), lane = thread % warp_threads;
#pragma unroll 1
  for (int k = warp; k < words; k += warps) {  // one warp per word
    T grad = 0;
#pragma unroll 4
    for (int j = lane; j < width; j += warp_threads) grad += grad_sum(j) * value(k, j);
    grad = warp_sum(grad);
    if (lane == 0) energies[k] = grad_weight(k) + grad;
  }
  __syncthreads();

  T mean = 0;
#pragma unroll 1
  for (int k = lane; k < words; k += warp_threads) mean += weight(k) * energies[k];
  mean = warp_sum(mean);

#pragma unroll 1
  for (int j = thread; j < units; j += threads) {
    const T of_query = query(j), of_score = score(j);
    T grad_query = 0, grad_score = 0;
#pragma unroll at_once < T>
    for (int k = 0; k < padded; ++k) {
      math::EnergyGrads<T> grad{};
      if (k < words)
        grad =
            math::energy_backward(weight(k) * (energies[k] - mean), of_query, key(k, j), of_score);
      key_grad(k, j, grad.key);
      grad_query += grad.key;
      grad_score += grad.score;
    }
    unit_grads(j, grad_query, grad_score);
  }
}

}  // namespace aligndraw::cuda::attention
