// The stages of a step of unroll on the device, a thing at a time: what the launches of a step and
// the launch of all steps share. Where nothing else is said, every thread of a block calls each
// function.
#pragma once
#include "../math/latent.h"
#include "attention.h"
#include "glimpse.h"
#include "launch.h"
#include "spoken.h"
#include "unroll.h"

namespace aligndraw::cuda::stages {

using attention::threads;
static_assert(threads == glimpse::threads, "captions and images share a launch");

template <class T>
__device__ __forceinline__ void keep_said(const Look<T>& step, const UnrollSizes& s, int64_t b) {
  const Spoken<T> spoken{step.spoken, step.heads_bias};
  const int64_t heads = s.heads(), window = s.write_window_at();
  for (int64_t j = threadIdx.x; j < heads; j += threads) {
    T x = spoken(b, j);
    if (j >= s.prior_at() && j < s.patch_at())
      x = step.draws ? math::tanh(x) : T(0);  // the first prior is N(0, I)
    step.said[b * heads + j] = x;
    if (step.draws && j >= window && j < window + 5) step.windows[b * 5 + j - window] = x;
  }
}

template <class T>
__device__ __forceinline__ void read_caption(const Look<T>& step, const UnrollSizes& s, int64_t b) {
  const Captions<T>& in = step.captions;
  const int64_t words = s.words, units = s.units, gates = 4 * s.decoder, d = s.word_size;
  for (int64_t j = threadIdx.x; j < s.decoder; j += threads)
    step.encoder_in[b * s.encoder_in() + s.glimpse() + j] = step.decoder_h[b * s.decoder + j];
  T* const context = step.context.data + b * step.context.pitch;
  if (!in.keys) {
    for (int64_t j = threadIdx.x; j < d; j += threads) context[j] = in.words[b * d + j];
    return;
  }
  const Spoken<T> spoken{step.spoken, step.heads_bias};
  const int64_t length = attention::clamped_length(in.lengths, b, words);
  T* const weights = step.weights + b * words;
  attention::forward<T>(
      length, words, units, gates, [&](int64_t j) { return spoken(b, j); },
      [&](int64_t k, int64_t j) { return in.keys[(b * words + k) * units + j]; },
      [&](int64_t j) { return in.score[j]; },
      [&](int64_t k, int64_t j) { return in.pushes[(b * words + k) * gates + j]; }, weights,
      [&](int64_t j, T sum) { step.push[b * gates + j] = sum; });
  for (int64_t j = threadIdx.x; j < d; j += threads)
    context[j] = sum_of<T>(int(length),
                           [&](int k) { return weights[k] * in.words[(b * words + k) * d + j]; });
}

// The glimpse of one plane: those of an image are its channels, then those of the error image,
// whose blocks draw the canvas first.
template <class T>
__device__ __forceinline__ void look_at_plane(SharedArrays shared, const Look<T>& step,
                                              const UnrollSizes& s, int64_t plane) {
  const int64_t channels = s.channels, area = s.height * s.width;
  const int64_t b = plane / (2 * channels), q = plane % (2 * channels), c = q % channels;
  const int64_t patch_size = s.write_size * s.write_size, glimpse_size = s.read_size * s.read_size;
  const Spoken<T> spoken{step.spoken, step.heads_bias};
  const T* const image = step.image + (b * channels + c) * area;
  const T* const before = step.before.data + b * step.before.pitch + c * area;
  T* const canvas = step.canvas + (b * channels + c) * area;
  T* const result = step.encoder_in + b * s.encoder_in() + q * glimpse_size;
  glimpse::Window<T> brush(
      shared, [&](int i) { return spoken(b, s.write_window_at() + i); },
      glimpse_sizes(s, s.write_size));
  glimpse::look<T>(
      shared, [&](int i) { return spoken(b, s.read_window_at() + i); },
      glimpse_sizes(s, s.read_size),
      [&](const glimpse::Window<T>& in_place, T* pixels) {
        const auto see = [&](int64_t n, T drawn) {
          const T now = before[n] + drawn;
          canvas[n] = now;
          return image[n] - math::sigmoid(now);
        };
        if (q < channels || !step.draws)
          return in_place.load_pixels(
              pixels, [&](int64_t n) { return q < channels ? image[n] : see(n, 0); });
        glimpse::Drawing<T> drawing;
        drawing.add(brush, s.write_size, in_place.y.first_pixel, in_place.x.first_pixel,
                    [&](const math::Grid<T>& grid, int64_t n) {
                      return spoken(b, s.patch_at() + c * patch_size + n) / grid.gamma;
                    });
        drawing.for_pixels(brush, [&](int64_t n, int at, T drawn) { pixels[at] = see(n, drawn); });
      },
      [&](const math::Grid<T>& grid, int64_t n, T sum) { result[n] = grid.gamma * sum; });
}

// Each caption, and then each plane of the glimpses.
template <class T>
__device__ __forceinline__ void look(SharedArrays shared, const Look<T>& step, const UnrollSizes& s,
                                     int64_t i) {
  if (i >= s.batch) return look_at_plane(shared, step, s, i - s.batch);
  keep_said(step, s, i);
  read_caption(step, s, i);
}
ALIGNDRAW_INLINE int64_t looks(const UnrollSizes& s) { return s.batch * (1 + 2 * s.channels); }
template <class T>
size_t looking_bytes() {
  return glimpse::Window<T>::bytes() + glimpse::looking_bytes<T>();
}

// After the last step: the same captions, and then each tile of the canvas.
template <class T>
__device__ __forceinline__ void last_write(SharedArrays shared, const Look<T>& step,
                                           const UnrollSizes& s, int64_t i) {
  if (i < s.batch) return keep_said(step, s, i);
  const int64_t area = s.height * s.width, patch_size = s.write_size * s.write_size;
  const Spoken<T> spoken{step.spoken, step.heads_bias};
  glimpse::draw<T>(
      shared, i - s.batch, [&](int64_t b, int i) { return spoken(b, s.write_window_at() + i); },
      glimpse_sizes(s, s.write_size),
      [&](int64_t plane, const math::Grid<T>& grid, int64_t n) {
        const int64_t b = plane / s.channels, c = plane % s.channels;
        return spoken(b, s.patch_at() + c * patch_size + n) / grid.gamma;
      },
      [&](int64_t plane, int64_t n, T drawn) {
        const int64_t b = plane / s.channels, c = plane % s.channels;
        step.canvas[plane * area + n] =
            step.before.data[b * step.before.pitch + c * area + n] + drawn;
      });
}
ALIGNDRAW_INLINE int64_t last_writes(const UnrollSizes& s) {
  return s.batch + glimpse::tiles(glimpse_sizes(s, s.write_size));
}

// Component j of latent b, by one thread, given the posterior without its bias.
template <class T>
__device__ __forceinline__ void infer(const Infer<T>& step, int64_t latents, int64_t b, int64_t j,
                                      T mu, T log_sigma) {
  const T* const prior = step.prior.data + b * step.prior.pitch;
  T* const q = step.posteriors + b * 2 * latents;
  q[j] = mu += step.bias[j];
  q[latents + j] = log_sigma += step.bias[latents + j];
  step.z.data[b * step.z.pitch + j] = math::latent(mu, log_sigma, prior[j], prior[latents + j],
                                                   step.noise.data[b * step.noise.pitch + j])
                                          .z;
}

// Each image for the window, and then each tile of the canvas.
template <class T>
__device__ __forceinline__ void look_backward(SharedArrays shared, const LookBackward<T>& step,
                                              const UnrollSizes& s, int64_t i) {
  const int64_t channels = s.channels, area = s.height * s.width;
  const int64_t glimpse_size = s.read_size * s.read_size;
  const GlimpseSizes sizes = glimpse_sizes(s, s.read_size);
  const auto number = [&](int64_t b, int i) { return step.window.data[b * step.window.pitch + i]; };
  if (i < s.batch) {
    const int64_t b = i;
    glimpse::window_grads<T>(
        shared, b, [&](int i) { return number(b, i); },
        [&](int i, T grad) { step.grad_window.data[b * step.grad_window.pitch + i] = grad; }, sizes,
        2 * channels, 1,
        [&](int64_t plane, int64_t n) {
          const int64_t q = plane % (2 * channels), at = (b * channels + q % channels) * area + n;
          return q < channels ? step.image[at] : step.image[at] - math::sigmoid(step.canvas[at]);
        },
        [&](int64_t plane, const math::Grid<T>& grid, int64_t n) {
          return grid.gamma * step.grad_glimpse[plane * glimpse_size + n];
        },
        [](int64_t, const math::Grid<T>&, int64_t, T) {});
    return;
  }
  // Each pixel of the canvas shows in the error image's glimpse, each of the image in both.
  for (int of_image = 0; of_image <= (step.grad_image ? 1 : 0); ++of_image)
    glimpse::draw<T>(
        shared, i - s.batch, number, sizes,
        [&](int64_t plane, const math::Grid<T>& grid, int64_t n) {
          const int64_t first = plane + plane / channels * channels;
          const T grad = step.grad_glimpse[(first + channels) * glimpse_size + n];
          return grid.gamma *
                 (of_image ? grad + step.grad_glimpse[first * glimpse_size + n] : grad);
        },
        [&](int64_t plane, int64_t n, T drawn) {
          const int64_t at = plane * area + n;
          if (of_image) {
            step.grad_image[at] += drawn;
          } else {
            const T seen = math::sigmoid(step.canvas[at]);
            step.grad_canvas[at] += drawn * seen * (seen - 1);
          }
        });
}
ALIGNDRAW_INLINE int64_t looks_backward(const UnrollSizes& s) {
  return s.batch + glimpse::tiles(glimpse_sizes(s, s.read_size));
}

// Image b.
template <class T>
__device__ __forceinline__ void draw_backward(SharedArrays shared, const DrawBackward<T>& step,
                                              const UnrollSizes& s, int64_t b) {
  const int64_t channels = s.channels, area = s.height * s.width;
  const int64_t patch_size = s.write_size * s.write_size;
  const T* const patch = step.patch.data + b * step.patch.pitch;
  T* const grad_patch = step.grad_patch.data + b * step.grad_patch.pitch;
  const auto at = [&](int64_t plane, int64_t n) { return plane % channels * patch_size + n; };
  glimpse::window_grads<T>(
      shared, b, [&](int i) { return step.window.data[b * step.window.pitch + i]; },
      [&](int i, T grad) {
        step.grad_window.data[b * step.grad_window.pitch + i] = grad + step.grad_windows[5 * b + i];
      },
      glimpse_sizes(s, s.write_size), channels, -1,
      [&](int64_t plane, int64_t n) { return step.grad_canvas[plane * area + n]; },
      [&](int64_t plane, const math::Grid<T>& grid, int64_t n) {
        return patch[at(plane, n)] / grid.gamma;
      },
      [&](int64_t plane, const math::Grid<T>& grid, int64_t n, T sum) {
        grad_patch[at(plane, n)] = sum / grid.gamma;
      });
}

template <class T>
__device__ __forceinline__ void caption_backward(const RecallBackward<T>& step,
                                                 const UnrollSizes& s, int64_t b) {
  const Captions<T>& in = step.captions;
  const int64_t words = s.words, units = s.units, gates = 4 * s.decoder;
  const T* const query = step.said.data + b * step.said.pitch;
  const T* const grad_push = step.grad_push.data + b * step.grad_push.pitch;
  T* const grad_query = step.grad_said.data + b * step.grad_said.pitch;
  attention::backward<T>(
      attention::clamped_length(in.lengths, b, words), words, units, gates,
      [&](int64_t j) { return grad_push[j]; },
      [&](int64_t k) { return step.grad_weights[b * words + k]; },
      [&](int64_t j) { return query[j]; },
      [&](int64_t k, int64_t j) { return in.keys[(b * words + k) * units + j]; },
      [&](int64_t j) { return in.score[j]; },
      [&](int64_t k, int64_t j) { return in.pushes[(b * words + k) * gates + j]; },
      [&](int64_t k) { return step.weights[b * words + k]; }, step.energies + b * words,
      [&](int64_t k, int64_t j, T grad) { step.grad_keys[(b * words + k) * units + j] += grad; },
      [&](int64_t j, T of_query, T of_score) {
        grad_query[j] = of_query;
        step.grad_score[b * units + j] += of_score;
      });
}

// Component j of latent b, by one thread.
template <class T>
__device__ __forceinline__ void latent_backward(const RecallBackward<T>& step, int64_t latents,
                                                int64_t prior_at, int64_t b, int64_t j, T grad_z) {
  const T* const q = step.posteriors + b * 2 * latents;
  const T* const prior = step.said.data + b * step.said.pitch + prior_at;
  T* const grad_q = step.grad_posteriors.data + b * step.grad_posteriors.pitch;
  T* const grad_prior = step.grad_said.data + b * step.grad_said.pitch + prior_at;
  const auto grad = math::latent_backward(grad_z, step.grad_kl[b], step.grad_log_ratio[b], q[j],
                                          q[latents + j], prior[j], prior[latents + j],
                                          step.noise.data[b * step.noise.pitch + j]);
  grad_q[j] = grad.mu_q;
  grad_q[latents + j] = grad.log_sigma_q;
  step.grad_noise.data[b * step.grad_noise.pitch + j] = grad.noise;
  const T mu = prior[j], log_sigma = prior[latents + j];
  grad_prior[j] = step.prior_is_said ? grad.mu_p * (1 - mu * mu) : T(0);
  grad_prior[latents + j] =
      step.prior_is_said ? grad.log_sigma_p * (1 - log_sigma * log_sigma) : T(0);
}

}  // namespace aligndraw::cuda::stages
