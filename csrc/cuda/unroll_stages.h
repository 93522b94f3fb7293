// The stages of a step of unroll on the device, one item at a time. The launches per step and the
// launch of all steps share them. All threads of a block call a function together, except where its
// comment says "by one thread".
#pragma once
#include "../math/latent.h"
#include "attention.h"
#include "glimpse.h"
#include "launch.h"
#include "heads.h"
#include "unroll.h"

namespace aligndraw::cuda::stages {

using attention::threads;
static_assert(threads == glimpse::threads, "captions and images share a launch");

template <class T>
__device__ __forceinline__ void finish_heads(const ReadAttend<T>& stage, const UnrollSizes& s,
                                             int64_t b) {
  const HeadOutputs<T> outputs{stage.head_products, stage.heads_bias};
  const int64_t heads = s.heads(), window = s.write_window_at();
  for (int64_t j = threadIdx.x; j < heads; j += threads) {
    T x = outputs(b, j);
    if (j >= s.prior_at() && j < s.patch_at())
      x = stage.writes ? math::tanh(x) : T(0);  // the first prior is N(0, I)
    stage.head_outputs[b * heads + j] = x;
    if (stage.writes && j >= window && j < window + 5) stage.windows[b * 5 + j - window] = x;
  }
}

template <class T>
__device__ __forceinline__ void attend_caption(const ReadAttend<T>& stage, const UnrollSizes& s,
                                               int64_t b) {
  const Captions<T>& in = stage.captions;
  const int64_t words = s.words, units = s.units, gates = 4 * s.decoder, d = s.word_size;
  for (int64_t j = threadIdx.x; j < s.decoder; j += threads)
    stage.encoder_in[b * s.encoder_in() + s.glimpse() + j] = stage.decoder_h[b * s.decoder + j];
  T* const context = stage.context.data + b * stage.context.row_stride;
  if (!in.keys) {
    for (int64_t j = threadIdx.x; j < d; j += threads) context[j] = in.words[b * d + j];
    return;
  }
  const HeadOutputs<T> outputs{stage.head_products, stage.heads_bias};
  const int64_t length = attention::clamped_length(in.lengths, b, words);
  T* const weights = stage.weights + b * words;
  attention::forward<T>(
      length, words, units, gates, [&](int64_t j) { return outputs(b, j); },
      [&](int64_t k, int64_t j) { return in.keys[(b * words + k) * units + j]; },
      [&](int64_t j) { return in.score[j]; },
      [&](int64_t k, int64_t j) { return in.word_gates[(b * words + k) * gates + j]; }, weights,
      [&](int64_t j, T sum) { stage.context_gates[b * gates + j] = sum; });
  for (int64_t j = threadIdx.x; j < d; j += threads)
    context[j] = sum_of<T>(int(length),
                           [&](int k) { return weights[k] * in.words[(b * words + k) * d + j]; });
}

// Reads one channel of a glimpse. The first half of the channels is the image, the second half the
// error image; a block of the second half first writes its channel of the canvas.
template <class T>
__device__ __forceinline__ void read_channel(SharedArrays shared, const ReadAttend<T>& stage,
                                             const UnrollSizes& s, int64_t channel) {
  const int64_t channels = s.channels, area = s.height * s.width;
  const int64_t b = channel / (2 * channels), q = channel % (2 * channels), c = q % channels;
  const int64_t patch_size = s.write_size * s.write_size, glimpse_size = s.read_size * s.read_size;
  const HeadOutputs<T> outputs{stage.head_products, stage.heads_bias};
  const T* const image = stage.image + (b * channels + c) * area;
  const T* const before = stage.last_canvas.data + b * stage.last_canvas.row_stride + c * area;
  T* const canvas = stage.canvas + (b * channels + c) * area;
  T* const result = stage.encoder_in + b * s.encoder_in() + q * glimpse_size;
  glimpse::Window<T> brush(
      shared, [&](int i) { return outputs(b, s.write_window_at() + i); },
      glimpse_sizes(s, s.write_size));
  glimpse::read<T>(
      shared, [&](int i) { return outputs(b, s.read_window_at() + i); },
      glimpse_sizes(s, s.read_size),
      [&](const glimpse::Window<T>& in_place, T* pixels) {
        const auto write_pixel = [&](int64_t n, T drawn) {
          const T now = before[n] + drawn;
          canvas[n] = now;
          return image[n] - math::sigmoid(now);
        };
        if (q < channels || !stage.writes)
          return in_place.load_pixels(
              pixels, [&](int64_t n) { return q < channels ? image[n] : write_pixel(n, 0); });
        glimpse::Drawing<T> drawing;
        drawing.add(brush, s.write_size, in_place.y.first_pixel, in_place.x.first_pixel,
                    [&](const math::Grid<T>& grid, int64_t n) {
                      return outputs(b, s.patch_at() + c * patch_size + n) / grid.gamma;
                    });
        drawing.for_pixels(brush,
                           [&](int64_t n, int at, T drawn) { pixels[at] = write_pixel(n, drawn); });
      },
      [&](const math::Grid<T>& grid, int64_t n, T sum) { result[n] = grid.gamma * sum; });
}

// Item i: the captions come first, then the channels of the glimpses.
template <class T>
__device__ __forceinline__ void read_attend(SharedArrays shared, const ReadAttend<T>& stage,
                                            const UnrollSizes& s, int64_t i) {
  if (i >= s.batch) return read_channel(shared, stage, s, i - s.batch);
  finish_heads(stage, s, i);
  attend_caption(stage, s, i);
}
ALIGNDRAW_INLINE int64_t read_attend_blocks(const UnrollSizes& s) {
  return s.batch * (1 + 2 * s.channels);
}
template <class T>
size_t read_attend_bytes() {
  return glimpse::Window<T>::bytes() + glimpse::read_bytes<T>();
}

// After the last step. Item i: the captions come first, then the tiles of the canvas.
template <class T>
__device__ __forceinline__ void last_write(SharedArrays shared, const ReadAttend<T>& stage,
                                           const UnrollSizes& s, int64_t i) {
  if (i < s.batch) return finish_heads(stage, s, i);
  const int64_t area = s.height * s.width, patch_size = s.write_size * s.write_size;
  const HeadOutputs<T> outputs{stage.head_products, stage.heads_bias};
  glimpse::draw<T>(
      shared, i - s.batch, [&](int64_t b, int i) { return outputs(b, s.write_window_at() + i); },
      glimpse_sizes(s, s.write_size),
      [&](int64_t channel, const math::Grid<T>& grid, int64_t n) {
        const int64_t b = channel / s.channels, c = channel % s.channels;
        return outputs(b, s.patch_at() + c * patch_size + n) / grid.gamma;
      },
      [&](int64_t channel, int64_t n, T drawn) {
        const int64_t b = channel / s.channels, c = channel % s.channels;
        stage.canvas[channel * area + n] =
            stage.last_canvas.data[b * stage.last_canvas.row_stride + c * area + n] + drawn;
      });
}
ALIGNDRAW_INLINE int64_t last_write_blocks(const UnrollSizes& s) {
  return s.batch + glimpse::tiles(glimpse_sizes(s, s.write_size));
}

// Component j of latent b, by one thread. mu and log_sigma lack the posterior's bias.
template <class T>
__device__ __forceinline__ void infer(const Infer<T>& stage, int64_t latents, int64_t b, int64_t j,
                                      T mu, T log_sigma) {
  const T* const prior = stage.prior.data + b * stage.prior.row_stride;
  T* const q = stage.posteriors + b * 2 * latents;
  q[j] = mu += stage.bias[j];
  q[latents + j] = log_sigma += stage.bias[latents + j];
  stage.z.data[b * stage.z.row_stride + j] =
      math::latent(mu, log_sigma, prior[j], prior[latents + j],
                   stage.noise.data[b * stage.noise.row_stride + j])
          .z;
}

// Item i: the images' windows come first, then the tiles of the canvas.
template <class T>
__device__ __forceinline__ void read_backward(SharedArrays shared, const ReadBackward<T>& stage,
                                              const UnrollSizes& s, int64_t i) {
  const int64_t channels = s.channels, area = s.height * s.width;
  const int64_t glimpse_size = s.read_size * s.read_size;
  const GlimpseSizes sizes = glimpse_sizes(s, s.read_size);
  const auto number = [&](int64_t b, int i) {
    return stage.window.data[b * stage.window.row_stride + i];
  };
  if (i < s.batch) {
    const int64_t b = i;
    glimpse::window_grads<T>(
        shared, b, [&](int i) { return number(b, i); },
        [&](int i, T grad) { stage.grad_window.data[b * stage.grad_window.row_stride + i] = grad; },
        sizes, 2 * channels, 1,
        [&](int64_t channel, int64_t n) {
          const int64_t q = channel % (2 * channels), at = (b * channels + q % channels) * area + n;
          return q < channels ? stage.image[at] : stage.image[at] - math::sigmoid(stage.canvas[at]);
        },
        [&](int64_t channel, const math::Grid<T>& grid, int64_t n) {
          return grid.gamma * stage.grad_glimpse[channel * glimpse_size + n];
        },
        [](int64_t, const math::Grid<T>&, int64_t, T) {});
    return;
  }
  // A pixel of the canvas is part of the error image's glimpse, a pixel of the image of both.
  for (int of_image = 0; of_image <= (stage.grad_image ? 1 : 0); ++of_image)
    glimpse::draw<T>(
        shared, i - s.batch, number, sizes,
        [&](int64_t channel, const math::Grid<T>& grid, int64_t n) {
          const int64_t first = channel + channel / channels * channels;
          const T grad = stage.grad_glimpse[(first + channels) * glimpse_size + n];
          return grid.gamma *
                 (of_image ? grad + stage.grad_glimpse[first * glimpse_size + n] : grad);
        },
        [&](int64_t channel, int64_t n, T drawn) {
          const int64_t at = channel * area + n;
          if (of_image) {
            stage.grad_image[at] += drawn;
          } else {
            const T shown = math::sigmoid(stage.canvas[at]);
            stage.grad_canvas[at] += drawn * shown * (shown - 1);
          }
        });
}
ALIGNDRAW_INLINE int64_t read_backward_blocks(const UnrollSizes& s) {
  return s.batch + glimpse::tiles(glimpse_sizes(s, s.read_size));
}

// Image b.
template <class T>
__device__ __forceinline__ void write_backward(SharedArrays shared, const WriteBackward<T>& stage,
                                               const UnrollSizes& s, int64_t b) {
  const int64_t channels = s.channels, area = s.height * s.width;
  const int64_t patch_size = s.write_size * s.write_size;
  const T* const patch = stage.patch.data + b * stage.patch.row_stride;
  T* const grad_patch = stage.grad_patch.data + b * stage.grad_patch.row_stride;
  const auto at = [&](int64_t channel, int64_t n) { return channel % channels * patch_size + n; };
  glimpse::window_grads<T>(
      shared, b, [&](int i) { return stage.window.data[b * stage.window.row_stride + i]; },
      [&](int i, T grad) {
        stage.grad_window.data[b * stage.grad_window.row_stride + i] =
            grad + stage.grad_windows[5 * b + i];
      },
      glimpse_sizes(s, s.write_size), channels, -1,
      [&](int64_t channel, int64_t n) { return stage.grad_canvas[channel * area + n]; },
      [&](int64_t channel, const math::Grid<T>& grid, int64_t n) {
        return patch[at(channel, n)] / grid.gamma;
      },
      [&](int64_t channel, const math::Grid<T>& grid, int64_t n, T sum) {
        grad_patch[at(channel, n)] = sum / grid.gamma;
      });
}

template <class T>
__device__ __forceinline__ void caption_backward(const AttentionBackward<T>& stage,
                                                 const UnrollSizes& s, int64_t b) {
  const Captions<T>& in = stage.captions;
  const int64_t words = s.words, units = s.units, gates = 4 * s.decoder;
  const T* const query = stage.head_outputs.data + b * stage.head_outputs.row_stride;
  const T* const grad_context_gates =
      stage.grad_context_gates.data + b * stage.grad_context_gates.row_stride;
  T* const grad_query = stage.grad_heads.data + b * stage.grad_heads.row_stride;
  attention::backward<T>(
      attention::clamped_length(in.lengths, b, words), words, units, gates,
      [&](int64_t j) { return grad_context_gates[j]; },
      [&](int64_t k) { return stage.grad_weights[b * words + k]; },
      [&](int64_t j) { return query[j]; },
      [&](int64_t k, int64_t j) { return in.keys[(b * words + k) * units + j]; },
      [&](int64_t j) { return in.score[j]; },
      [&](int64_t k, int64_t j) { return in.word_gates[(b * words + k) * gates + j]; },
      [&](int64_t k) { return stage.weights[b * words + k]; }, stage.energies + b * words,
      [&](int64_t k, int64_t j, T grad) { stage.grad_keys[(b * words + k) * units + j] += grad; },
      [&](int64_t j, T of_query, T of_score) {
        grad_query[j] = of_query;
        stage.grad_score[b * units + j] += of_score;
      });
}

// Component j of latent b, by one thread.
template <class T>
__device__ __forceinline__ void latent_backward(const AttentionBackward<T>& stage, int64_t latents,
                                                int64_t prior_at, int64_t b, int64_t j, T grad_z) {
  const T* const q = stage.posteriors + b * 2 * latents;
  const T* const prior = stage.head_outputs.data + b * stage.head_outputs.row_stride + prior_at;
  T* const grad_q = stage.grad_posteriors.data + b * stage.grad_posteriors.row_stride;
  T* const grad_prior = stage.grad_heads.data + b * stage.grad_heads.row_stride + prior_at;
  const auto grad = math::latent_backward(grad_z, stage.grad_kl[b], stage.grad_log_ratio[b], q[j],
                                          q[latents + j], prior[j], prior[latents + j],
                                          stage.noise.data[b * stage.noise.row_stride + j]);
  grad_q[j] = grad.mu_q;
  grad_q[latents + j] = grad.log_sigma_q;
  stage.grad_noise.data[b * stage.grad_noise.row_stride + j] = grad.noise;
  const T mu = prior[j], log_sigma = prior[latents + j];
  grad_prior[j] = stage.has_prior ? grad.mu_p * (1 - mu * mu) : T(0);
  grad_prior[latents + j] = stage.has_prior ? grad.log_sigma_p * (1 - log_sigma * log_sigma) : T(0);
}

}  // namespace aligndraw::cuda::stages
