// The first stage of a step of sampling on the device. The launches per step and the clusters share
// it.
#pragma once
#include "../math/lstm.h"
#include "attention.h"
#include "heads.h"
#include "unroll_prior.h"

namespace aligndraw::cuda::stages {

using attention::threads;

// mu + sigma noise for column j of the latent; the first prior is N(0, I).
template <class T>
__device__ __forceinline__ T latent(T mu, T log_sigma, T noise, bool is_first) {
  return is_first ? noise : math::tanh(mu) + math::exp(math::tanh(log_sigma)) * noise;
}

// Keeps column j of the head outputs after `steps` steps, counted from the patch on.
template <class T>
__device__ __forceinline__ void keep_write(const UnrollPriorOutputs<T>& out, const UnrollSizes& s,
                                           int steps, int b, int j, T x) {
  const int64_t row = (steps - 1) * s.batch + b;
  const int patch = int(s.patch());
  if (j < patch)
    out.patches[row * patch + j] = x;
  else
    out.windows[row * 5 + j - patch] = x;
}

// Caption b in step t, by a block.
template <class T>
__device__ __forceinline__ void prior_attend(const PriorAttend<T>& stage, int t, int b) {
  const UnrollPriorPointers<T>& in = stage.loop.in;
  const UnrollPriorOutputs<T>& out = stage.loop.out;
  const T* const word_gates = stage.loop.word_gates;
  const UnrollSizes& s = in.sizes;
  const int words = int(s.words), units = int(s.units), gates = int(4 * s.decoder);
  const int latents = int(s.latents), written = int(s.patch() + 5);
  const int prior_at = int(s.prior_at()), patch_at = int(s.patch_at());
  const HeadOutputs<T> outputs{stage.head_products, in.heads_bias};
  if (t > 0) {
#pragma unroll 1
    for (int j = threadIdx.x; j < written; j += threads)
      keep_write(out, s, t, b, j, outputs(b, patch_at + j));
  }
  if (t == s.steps) return;
  T* const z = stage.z + int64_t(b) * latents;
  const T* const noise = in.noise + (b * s.steps + t) * latents;
#pragma unroll 1
  for (int j = threadIdx.x; j < latents; j += threads)
    z[j] = latent(outputs(b, prior_at + j), outputs(b, prior_at + latents + j), noise[j], t == 0);
  if (!in.keys) return;
  const T* const keys = in.keys + int64_t(b) * words * units;
  const T* const gates_of_words = word_gates + int64_t(b) * words * gates;
  T* const context_gates = stage.context_gates + int64_t(b) * gates;
  attention::forward<T>(
      attention::clamped_length(in.lengths, b, words), words, units, gates,
      [&](int j) { return outputs(b, j); }, [&](int k, int j) { return keys[k * units + j]; },
      [&](int j) { return in.score[j]; },
      [&](int k, int j) { return gates_of_words[k * gates + j]; },
      out.weights + (t * s.batch + b) * words, [&](int j, T sum) { context_gates[j] = sum; });
}

}  // namespace aligndraw::cuda::stages
