// The stages of a step of unroll on the device, one item at a time. The launches per step and the
// launch of all steps share them. All threads of a block call a function together, except where its
// comment says "by one thread".
#pragma once
#include "../math/latent.h"
#include "attention.h"
#include "glimpse.h"
#include "launch.h"
#include "heads.h"
#include "operand_rows.h"
#include "unroll.h"

namespace aligndraw::cuda::stages {

using attention::threads;
static_assert(threads == glimpse::threads, "captions and images share a launch");

template <class T>
__device__ __forceinline__ void finish_heads(const ReadAttend<T>& stage, const UnrollSizes& s,
                                             int b) {
  const HeadOutputs<T> outputs{stage.head_products, stage.heads_bias};
  const int heads = int(s.heads()), window = int(s.write_window_at());
  const int prior = int(s.prior_at()), patch = int(s.patch_at());
  T* const head_outputs = stage.head_outputs + int64_t(b) * heads;
#pragma unroll 1
  for (int j = threadIdx.x; j < heads; j += threads) {
    T x = outputs(b, j);
    if (j >= prior && j < patch)
      x = stage.writes ? math::tanh(x) : T(0);  // the first prior is N(0, I)
    head_outputs[j] = x;
    if (stage.writes && j >= window && j < window + 5)
      stage.windows[int64_t(b) * 5 + j - window] = x;
  }
}

template <class T>
__device__ __forceinline__ void attend_caption(const ReadAttend<T>& stage, const UnrollSizes& s,
                                               int b) {
  const Captions<T>& in = stage.captions;
  const int words = int(s.words), units = int(s.units), d = int(s.word_size), n = int(s.decoder);
  const T* const decoder_h = stage.decoder_h + int64_t(b) * n;
  T* const encoder_in = stage.encoder_in.data + b * stage.encoder_in.row_stride + s.glimpse();
#pragma unroll 4
  for (int j = threadIdx.x; j < n; j += threads) encoder_in[j] = decoder_h[j];
  T* const context = stage.context.data + b * stage.context.row_stride;
  const T* const vectors = in.words + int64_t(b) * words * d;
  if (!in.keys) {
#pragma unroll 1
    for (int j = threadIdx.x; j < d; j += threads) context[j] = vectors[j];
    return;
  }
  const HeadOutputs<T> outputs{stage.head_products, stage.heads_bias};
  const T* const keys = in.keys + int64_t(b) * words * units;
  const T* const word_gates = in.word_gates + int64_t(b) * words * 4 * n;
  T* const context_gates = stage.context_gates + int64_t(b) * 4 * n;
  T* const weights = stage.weights + int64_t(b) * words;
  const int length = attention::clamped_length(in.lengths, b, words);
  attention::forward<T>(
      length, words, units, 4 * n, [&](int j) { return outputs(b, j); },
      [&](int k, int j) { return keys[k * units + j]; }, [&](int j) { return in.score[j]; },
      [&](int k, int j) { return word_gates[k * 4 * n + j]; }, weights,
      [&](int j, T sum) { context_gates[j] = sum; });
  attention::weighted_words<T>(
      length, d, weights, [&](int k, int j) { return vectors[k * d + j]; },
      [&](int j, T sum) { context[j] = sum; });
}

// Reads one channel of a glimpse. The first half of the channels is the image, the second half the
// error image; a block of the second half first writes its channel of the canvas.
template <class T>
__device__ __forceinline__ void read_channel(SharedArrays shared, const ReadAttend<T>& stage,
                                             const UnrollSizes& s, int channel) {
  const int channels = int(s.channels), area = int(s.height * s.width);
  const int b = channel / (2 * channels), q = channel % (2 * channels), c = q % channels;
  const int patch_at = int(s.patch_at() + c * (s.write_size * s.write_size));
  const int write_at = int(s.write_window_at()), read_at = int(s.read_window_at());
  const HeadOutputs<T> outputs{stage.head_products, stage.heads_bias};
  const int64_t pixels_at = int64_t(b * channels + c) * area;
  const T* const image = stage.image + pixels_at;
  const T* const before = stage.last_canvas.data + b * stage.last_canvas.row_stride + c * area;
  T* const canvas = stage.canvas + pixels_at;
  const int result_at = q * int(s.read_size * s.read_size);
  const bool of_error = q >= channels, draws = of_error && stage.writes;
  glimpse::Window<T> brush(
      shared, [&](int i) { return outputs(b, write_at + i); }, glimpse_sizes(s, s.write_size));
  glimpse::read<T>(
      shared, [&](int i) { return outputs(b, read_at + i); }, glimpse_sizes(s, s.read_size),
      [&](const glimpse::Window<T>& in_place, T* pixels) {
        if (draws) {  // each thread leaves its pixels for itself
          glimpse::Drawing<T> drawing;
          drawing.add(brush, in_place.y.first_pixel, in_place.x.first_pixel,
                      [&](int n) { return outputs(b, patch_at + n) / brush.grid.gamma; });
          drawing.keep(pixels);
        }
        in_place.for_pixels([&](int n, int at) {
          T pixel = image[n];
          if (of_error) {
            const T now = before[n] + (draws ? pixels[at] : T(0));
            canvas[n] = now;
            pixel -= math::sigmoid(now);
          }
          pixels[at] = pixel;
        });
      },
      [&](const math::Grid<T>& grid, int n, T sum) {
        store(stage.encoder_in, b, result_at + n, grid.gamma * sum);
      });
}

// Item i: the captions come first, then the channels of the glimpses.
template <class T>
__device__ __forceinline__ void read_attend(SharedArrays shared, const ReadAttend<T>& stage,
                                            const UnrollSizes& s, int i) {
  if (i >= s.batch) return read_channel(shared, stage, s, i - int(s.batch));
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
                                           const UnrollSizes& s, int i) {
  if (i < s.batch) return finish_heads(stage, s, i);
  const int channels = int(s.channels), area = int(s.height * s.width);
  const int patch_size = int(s.write_size * s.write_size);
  const int patch_at = int(s.patch_at()), window_at = int(s.write_window_at());
  const HeadOutputs<T> outputs{stage.head_products, stage.heads_bias};
  glimpse::draw<T>(
      shared, unsigned(i - int(s.batch)), [&](int b, int i) { return outputs(b, window_at + i); },
      glimpse_sizes(s, s.write_size),
      [&](int channel, const math::Grid<T>& grid, int n) {
        const int b = channel / channels, c = channel % channels;
        return outputs(b, patch_at + c * patch_size + n) / grid.gamma;
      },
      [&](int channel, int n, T drawn) {
        const int b = channel / channels, c = channel % channels;
        stage.canvas[int64_t(channel) * area + n] =
            stage.last_canvas.data[b * stage.last_canvas.row_stride + c * area + n] + drawn;
      });
}
ALIGNDRAW_INLINE int64_t last_write_blocks(const UnrollSizes& s) {
  return s.batch + glimpse::tiles(glimpse_sizes(s, s.write_size));
}

// Component j of latent b, by one thread. mu and log_sigma lack the posterior's bias.
template <class T>
__device__ __forceinline__ void infer(const Infer<T>& stage, int latents, int b, int j, T mu,
                                      T log_sigma) {
  const T* const prior = stage.prior.data + b * stage.prior.row_stride;
  T* const q = stage.posteriors + int64_t(b) * 2 * latents;
  q[j] = mu += stage.bias[j];
  q[latents + j] = log_sigma += stage.bias[latents + j];
  const T noise = stage.noise.data[b * stage.noise.row_stride + j];
  store(stage.z, b, j, math::latent(mu, log_sigma, prior[j], prior[latents + j], noise).z);
}

// Item i: the images' windows come first, then the tiles of the canvas.
template <class T>
__device__ __forceinline__ void read_backward(SharedArrays shared, const ReadBackward<T>& stage,
                                              const UnrollSizes& s, int i) {
  const int channels = int(s.channels), area = int(s.height * s.width);
  const int glimpse_size = int(s.read_size * s.read_size);
  const GlimpseSizes sizes = glimpse_sizes(s, s.read_size);
  const auto number = [&](int b, int i) {
    return stage.window.data[b * stage.window.row_stride + i];
  };
  const auto grad_of = [&](int channel, int n) {
    return stage.grad_glimpse[int64_t(channel) * glimpse_size + n];
  };
  if (i < s.batch) {
    const int b = i;
    glimpse::window_grads<T>(
        shared, b, [&](int i) { return number(b, i); },
        [&](int i, T grad) { store(stage.grad_window, b, i, grad); }, sizes, 2 * channels, 1,
        [&](int channel, int n) {
          const int q = channel % (2 * channels);
          const int64_t at = int64_t(b * channels + q % channels) * area + n;
          return q < channels ? stage.image[at] : stage.image[at] - math::sigmoid(stage.canvas[at]);
        },
        [&](int channel, const math::Grid<T>& grid, int n) {
          return grid.gamma * grad_of(channel, n);
        },
        [](int, const math::Grid<T>&, int, T) {});
    return;
  }
  // A pixel of the canvas is part of the error image's glimpse, a pixel of the image of both.
#pragma unroll 1
  for (int of_image = 0; of_image <= (stage.grad_image ? 1 : 0); ++of_image)
    glimpse::draw<T>(
        shared, unsigned(i - int(s.batch)), number, sizes,
        [&](int channel, const math::Grid<T>& grid, int n) {
          const int first = channel + channel / channels * channels;
          const T grad = grad_of(first + channels, n);
          return grid.gamma * (of_image ? grad + grad_of(first, n) : grad);
        },
        [&](int channel, int n, T drawn) {
          const int64_t at = int64_t(channel) * area + n;
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
                                               const UnrollSizes& s, int b) {
  const int channels = int(s.channels), area = int(s.height * s.width);
  const int patch_size = int(s.write_size * s.write_size);
  const T* const patch = stage.patch.data + b * stage.patch.row_stride;
  const auto at = [&](int channel, int n) { return channel % channels * patch_size + n; };
  glimpse::window_grads<T>(
      shared, b, [&](int i) { return stage.window.data[b * stage.window.row_stride + i]; },
      [&](int i, T grad) {
        store(stage.grad_window, b, i, grad + stage.grad_windows[5 * int64_t(b) + i]);
      },
      glimpse_sizes(s, s.write_size), channels, -1,
      [&](int channel, int n) { return stage.grad_canvas[int64_t(channel) * area + n]; },
      [&](int channel, const math::Grid<T>& grid, int n) {
        return patch[at(channel, n)] / grid.gamma;
      },
      [&](int channel, const math::Grid<T>& grid, int n, T sum) {
        store(stage.grad_patch, b, at(channel, n), sum / grid.gamma);
      });
}

template <class T>
__device__ __forceinline__ void caption_backward(const AttentionBackward<T>& stage,
                                                 const UnrollSizes& s, int b) {
  const Captions<T>& in = stage.captions;
  const int words = int(s.words), units = int(s.units), gates = int(4 * s.decoder);
  const T* const query = stage.head_outputs.data + b * stage.head_outputs.row_stride;
  const T* const grad_context_gates =
      stage.grad_context_gates.data + b * stage.grad_context_gates.row_stride;
  const T* const keys = in.keys + int64_t(b) * words * units;
  const T* const word_gates = in.word_gates + int64_t(b) * words * gates;
  const T* const weights = stage.weights + int64_t(b) * words;
  const T* const grad_weights = stage.grad_weights + int64_t(b) * words;
  T* const grad_keys = stage.grad_keys + int64_t(b) * words * units;
  T* const grad_score = stage.grad_score + int64_t(b) * units;
  attention::backward<T>(
      attention::clamped_length(in.lengths, b, words), words, units, gates,
      [&](int j) { return grad_context_gates[j]; }, [&](int k) { return grad_weights[k]; },
      [&](int j) { return query[j]; }, [&](int k, int j) { return keys[k * units + j]; },
      [&](int j) { return in.score[j]; }, [&](int k, int j) { return word_gates[k * gates + j]; },
      [&](int k) { return weights[k]; }, stage.energies + int64_t(b) * words,
      [&](int k, int j, T grad) { grad_keys[k * units + j] += grad; },
      [&](int j, T of_query, T of_score) {
        store(stage.grad_heads, b, j, of_query);
        grad_score[j] += of_score;
      });
}

// Component j of latent b, by one thread.
template <class T>
__device__ __forceinline__ void latent_backward(const AttentionBackward<T>& stage, int latents,
                                                int prior_at, int b, int j, T grad_z) {
  const T* const q = stage.posteriors + int64_t(b) * 2 * latents;
  const T* const prior = stage.head_outputs.data + b * stage.head_outputs.row_stride + prior_at;
  const auto grad = math::latent_backward(grad_z, stage.grad_kl[b], stage.grad_log_ratio[b], q[j],
                                          q[latents + j], prior[j], prior[latents + j],
                                          stage.noise.data[b * stage.noise.row_stride + j]);
  store(stage.grad_posteriors, b, j, grad.mu_q);
  store(stage.grad_posteriors, b, latents + j, grad.log_sigma_q);
  stage.grad_noise.data[b * stage.grad_noise.row_stride + j] = grad.noise;
  const T mu = prior[j], log_sigma = prior[latents + j];
  store(stage.grad_heads, b, prior_at + j, stage.has_prior ? grad.mu_p * (1 - mu * mu) : T(0));
  store(stage.grad_heads, b, prior_at + latents + j,
        stage.has_prior ? grad.log_sigma_p * (1 - log_sigma * log_sigma) : T(0));
}

}  // namespace aligndraw::cuda::stages
