// Attention to one caption by one block, for attend and the loops. All threads of the block call
// each function. `words` is the length of the caption without padding.
#pragma once
#include <cmath>

#include "../math/attend.h"
#include "sum.h"

namespace aligndraw::cuda::attention {

constexpr int threads = 256, warps = threads / warp_threads;

__device__ __forceinline__ int64_t clamped_length(const int64_t* lengths, int64_t b,
                                                  int64_t words) {
  const int64_t length = lengths[b];
  return length < 1 ? 1 : length > words ? words : length;
}

// Computes weights [padded], and calls sum(j, x) for the `width` elements x = sum over k of
// weights[k] value(k, j). Before the softmax `weights` holds the energies, so that captions of any
// length fit.
template <class T, class Query, class Key, class Score, class Value, class Sum>
__device__ __forceinline__ void forward(int64_t words, int64_t padded, int64_t units, int64_t width,
                                        const Query& query, const Key& key, const Score& score,
                                        const Value& value, T* weights, const Sum& sum) {
  const int thread = threadIdx.x, warp = thread / warp_threads, lane = thread % warp_threads;
  for (int64_t k = warp; k < words; k += warps) {  // one warp per word
    T energy = 0;
    for (int64_t j = lane; j < units; j += warp_threads)
      energy += math::energy(query(j), key(k, j), score(j));
    energy = warp_sum(energy);
    if (lane == 0) weights[k] = energy;
  }
  __syncthreads();

  // Every warp sums for itself: that costs less than waiting for one warp.
  T largest = -INFINITY, total = 0;
  for (int64_t k = lane; k < words; k += warp_threads)
    largest = weights[k] > largest ? weights[k] : largest;
  largest = warp_max(largest);
  for (int64_t k = lane; k < words; k += warp_threads) total += math::exp(weights[k] - largest);
  total = warp_sum(total);
  __syncthreads();

  for (int64_t k = thread; k < padded; k += threads)
    weights[k] = k < words ? math::exp(weights[k] - largest) / total : T(0);
  __syncthreads();

  for (int64_t j = thread; j < width; j += threads)
    sum(j, sum_of<T>(int(words), [&](int k) { return weights[k] * value(k, j); }));
}

// Back from grad_weight(k) and the gradients grad_sum(j) of the sums. For each unit j it calls
// key_grad(k, j, x) for all padded words, and unit_grads(j, gradient of the query, of the score).
// `energies` [words] is workspace.
template <class T, class GradSum, class GradWeight, class Query, class Key, class Score,
          class Value, class Weight, class KeyGrad, class UnitGrads>
__device__ __forceinline__ void backward(int64_t words, int64_t padded, int64_t units,
                                         int64_t width, const GradSum& grad_sum,
                                         const GradWeight& grad_weight, const Query& query,
                                         const Key& key, const Score& score, const Value& value,
                                         const Weight& weight, T* energies, const KeyGrad& key_grad,
                                         const UnitGrads& unit_grads) {
  const int thread = threadIdx.x, warp = thread / warp_threads, lane = thread % warp_threads;
  for (int64_t k = warp; k < words; k += warps) {  // one warp per word
    T grad = 0;
    for (int64_t j = lane; j < width; j += warp_threads) grad += grad_sum(j) * value(k, j);
    grad = warp_sum(grad);
    if (lane == 0) energies[k] = grad_weight(k) + grad;
  }
  __syncthreads();

  T mean = 0;
  for (int64_t k = lane; k < words; k += warp_threads) mean += weight(k) * energies[k];
  mean = warp_sum(mean);

  for (int64_t j = thread; j < units; j += threads) {
    const T of_query = query(j), of_score = score(j);
    T grad_query = 0, grad_score = 0;
    for (int64_t k = 0; k < padded; ++k) {
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
