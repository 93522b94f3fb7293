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
                                           int64_t steps, int64_t b, int64_t j, T x) {
  const int64_t row = (steps - 1) * s.batch + b, patch = s.patch();
  if (j < patch)
    out.patches[row * patch + j] = x;
  else
    out.windows[row * 5 + j - patch] = x;
}

// Caption b, by a block.
template <class T>
__device__ __forceinline__ void prior_attend(const PriorAttend<T>& stage, int64_t b) {
  const UnrollPriorPointers<T>& in = stage.loop.in;
  const UnrollPriorOutputs<T>& out = stage.loop.out;
  const T* const word_gates = stage.loop.word_gates;
  const UnrollSizes& s = in.sizes;
  const int64_t words = s.words, units = s.units, gates = 4 * s.decoder;
  const int64_t latents = s.latents;
  const HeadOutputs<T> outputs{stage.head_products, in.heads_bias};
  if (stage.t > 0)
    for (int64_t j = threadIdx.x; j < s.patch() + 5; j += threads)
      keep_write(out, s, stage.t, b, j, outputs(b, s.patch_at() + j));
  if (stage.t == s.steps) return;
  for (int64_t j = threadIdx.x; j < latents; j += threads)
    stage.z[b * latents + j] =
        latent(outputs(b, s.prior_at() + j), outputs(b, s.prior_at() + latents + j),
               in.noise[(b * s.steps + stage.t) * latents + j], stage.t == 0);
  if (!in.keys) return;
  attention::forward<T>(
      attention::clamped_length(in.lengths, b, words), words, units, gates,
      [&](int64_t j) { return outputs(b, j); },
      [&](int64_t k, int64_t j) { return in.keys[(b * words + k) * units + j]; },
      [&](int64_t j) { return in.score[j]; },
      [&](int64_t k, int64_t j) { return word_gates[(b * words + k) * gates + j]; },
      out.weights + (stage.t * s.batch + b) * words,
      [&](int64_t j, T sum) { stage.context_gates[b * gates + j] = sum; });
}

}  // namespace aligndraw::cuda::stages
