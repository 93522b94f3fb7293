#include "unroll.h"

#include "../math/latent.h"
#include "attention.h"
#include "glimpse.h"
#include "launch.h"
#include "spoken.h"

namespace aligndraw::cuda {
namespace {

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
    context[j] = sum_of<T>(
        int(length), [&](int k) { return weights[k] * in.words[(b * words + k) * d + j]; });
}

// The glimpse of one plane: those of an image are its channels, then those of the error image, whose
// blocks draw the canvas first.
template <class T>
__device__ __forceinline__ void look_at_plane(const Look<T>& step, const UnrollSizes& s,
                                              int64_t plane) {
  const int64_t channels = s.channels, area = s.height * s.width;
  const int64_t b = plane / (2 * channels), q = plane % (2 * channels), c = q % channels;
  const int64_t patch_size = s.write_size * s.write_size, glimpse_size = s.read_size * s.read_size;
  const Spoken<T> spoken{step.spoken, step.heads_bias};
  const T* const image = step.image + (b * channels + c) * area;
  const T* const before = step.before.data + b * step.before.pitch + c * area;
  T* const canvas = step.canvas + (b * channels + c) * area;
  T* const result = step.encoder_in + b * s.encoder_in() + q * glimpse_size;
  SharedArrays shared;
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
        drawing.for_pixels(brush,
                           [&](int64_t n, int at, T drawn) { pixels[at] = see(n, drawn); });
      },
      [&](const math::Grid<T>& grid, int64_t n, T sum) { result[n] = grid.gamma * sum; });
}

template <class T>
__global__ void __launch_bounds__(threads, 1) look(Look<T> step, UnrollSizes s) {
  if (blockIdx.x >= s.batch) return look_at_plane(step, s, blockIdx.x - s.batch);
  keep_said(step, s, blockIdx.x);
  read_caption(step, s, blockIdx.x);
}

template <class T>
__global__ void __launch_bounds__(threads, glimpse::blocks_at_once<Exact<T>>)
    last_write(Look<T> step, UnrollSizes s) {
  if (blockIdx.x < s.batch) return keep_said(step, s, blockIdx.x);
  const int64_t area = s.height * s.width, patch_size = s.write_size * s.write_size;
  const Spoken<T> spoken{step.spoken, step.heads_bias};
  glimpse::draw<T>(
      blockIdx.x - s.batch,
      [&](int64_t b, int i) { return spoken(b, s.write_window_at() + i); },
      glimpse_sizes(s, s.write_size),
      [&](int64_t plane, const math::Grid<T>& grid, int64_t n) {
        const int64_t b = plane / s.channels, c = plane % s.channels;
        return spoken(b, s.patch_at() + c * patch_size + n) / grid.gamma;
      },
      [&](int64_t plane, int64_t n, T drawn) {
        const int64_t b = plane / s.channels, c = plane % s.channels;
        step.canvas[plane * area + n] = step.before.data[b * step.before.pitch + c * area + n] + drawn;
      });
}

// A block a latent.
template <class T>
__global__ void __launch_bounds__(threads, 1) infer(Infer<T> step, int64_t latents) {
  const int64_t b = blockIdx.x;
  const T* const product = step.product.data + b * step.product.pitch;
  const T* const prior = step.prior.data + b * step.prior.pitch;
  T* const q = step.posteriors + b * 2 * latents;
  T sums[2] = {};
  for (int64_t j = threadIdx.x; j < latents; j += threads) {
    q[j] = product[j] + step.bias[j];
    q[latents + j] = product[latents + j] + step.bias[latents + j];
    const auto latent = math::latent(q[j], q[latents + j], prior[j], prior[latents + j],
                                     step.noise.data[b * step.noise.pitch + j]);
    step.z.data[b * step.z.pitch + j] = latent.z;
    sums[0] += latent.kl;
    sums[1] += latent.log_ratio;
  }
  SharedArrays shared;
  block_sum(sums, shared.take<T>(2 * threads / warp_threads));
  if (threadIdx.x > 0) return;
  step.kl[b] = sums[0];
  step.log_ratio[b] = sums[1];
}

// A block an image for the window, then a block a tile of the canvas.
template <class T>
__global__ void __launch_bounds__(threads, glimpse::blocks_at_once<Exact<T>>)
    look_backward(LookBackward<T> step, UnrollSizes s) {
  const int64_t channels = s.channels, area = s.height * s.width;
  const int64_t glimpse_size = s.read_size * s.read_size;
  const GlimpseSizes sizes = glimpse_sizes(s, s.read_size);
  const auto number = [&](int64_t b, int i) { return step.window.data[b * step.window.pitch + i]; };
  if (blockIdx.x < s.batch) {
    const int64_t b = blockIdx.x;
    glimpse::window_grads<T>(
        b, [&](int i) { return number(b, i); },
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
  const int64_t block = blockIdx.x - s.batch;
  // Each pixel of the canvas shows in the error image's glimpse, each of the image in both.
  for (int of_image = 0; of_image <= (step.grad_image ? 1 : 0); ++of_image)
    glimpse::draw<T>(
        block, number, sizes,
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

// A block an image.
template <class T>
__global__ void __launch_bounds__(threads, 1) draw_backward(DrawBackward<T> step, UnrollSizes s) {
  const int64_t b = blockIdx.x, channels = s.channels, area = s.height * s.width;
  const int64_t patch_size = s.write_size * s.write_size;
  const T* const patch = step.patch.data + b * step.patch.pitch;
  T* const grad_patch = step.grad_patch.data + b * step.grad_patch.pitch;
  const auto at = [&](int64_t plane, int64_t n) { return plane % channels * patch_size + n; };
  glimpse::window_grads<T>(
      b, [&](int i) { return step.window.data[b * step.window.pitch + i]; },
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

template <class T>
__device__ __forceinline__ void latent_backward(const RecallBackward<T>& step, const UnrollSizes& s,
                                                int64_t b) {
  const int64_t latents = s.latents;
  const T* const q = step.posteriors + b * 2 * latents;
  const T* const prior = step.said.data + b * step.said.pitch + s.prior_at();
  T* const grad_q = step.grad_posteriors.data + b * step.grad_posteriors.pitch;
  T* const grad_prior = step.grad_said.data + b * step.grad_said.pitch + s.prior_at();
  for (int64_t j = threadIdx.x; j < latents; j += threads) {
    const auto grad = math::latent_backward(
        step.grad_z.data[b * step.grad_z.pitch + j], step.grad_kl[b], step.grad_log_ratio[b], q[j],
        q[latents + j], prior[j], prior[latents + j], step.noise.data[b * step.noise.pitch + j]);
    grad_q[j] = grad.mu_q;
    grad_q[latents + j] = grad.log_sigma_q;
    step.grad_noise.data[b * step.grad_noise.pitch + j] = grad.noise;
    const T mu = prior[j], log_sigma = prior[latents + j];
    grad_prior[j] = step.prior_is_said ? grad.mu_p * (1 - mu * mu) : T(0);
    grad_prior[latents + j] =
        step.prior_is_said ? grad.log_sigma_p * (1 - log_sigma * log_sigma) : T(0);
  }
}

template <class T>
__global__ void __launch_bounds__(threads, 1)
    recall_backward(RecallBackward<T> step, UnrollSizes s) {
  if (blockIdx.x < s.batch) return latent_backward(step, s, blockIdx.x);
  caption_backward(step, s, blockIdx.x - s.batch);
}

}  // namespace

template <class T>
const char* launch_look(const Look<T>& step, const UnrollSizes& s, CUstream_st* stream) {
  if (s.batch == 0) return nullptr;
  const size_t shared = glimpse::Window<T>::bytes() + glimpse::looking_bytes<T>();
  return report(launch(look<T>, row_of(s.batch * (1 + 2 * s.channels)), dim3(threads), shared, stream,
                       false, step, s));
}

template <class T>
const char* launch_last_write(const Look<T>& step, const UnrollSizes& s, CUstream_st* stream) {
  if (s.batch == 0) return nullptr;
  const int64_t tiles = glimpse::drawing_blocks(glimpse_sizes(s, s.write_size)).x;
  return report(launch(last_write<T>, row_of(s.batch + tiles), dim3(threads),
                       glimpse::Window<T>::bytes(), stream, false, step, s));
}

template <class T>
const char* launch_infer(const Infer<T>& step, const UnrollSizes& s, CUstream_st* stream) {
  if (s.batch == 0) return nullptr;
  return report(launch(infer<T>, row_of(s.batch), dim3(threads),
                       shared_bytes<T>(2 * threads / warp_threads), stream, false, step, s.latents));
}

template <class T>
const char* launch_look_backward(const LookBackward<T>& step, const UnrollSizes& s,
                                 CUstream_st* stream) {
  if (s.batch == 0) return nullptr;
  const int64_t tiles = glimpse::drawing_blocks(glimpse_sizes(s, s.read_size)).x;
  return report(launch(look_backward<T>, row_of(s.batch + tiles), dim3(threads),
                       glimpse::window_grads_bytes<T>(), stream, false, step, s));
}

template <class T>
const char* launch_draw_backward(const DrawBackward<T>& step, const UnrollSizes& s,
                                 CUstream_st* stream) {
  if (s.batch == 0) return nullptr;
  return report(launch(draw_backward<T>, row_of(s.batch), dim3(threads),
                       glimpse::window_grads_bytes<T>(), stream, false, step, s));
}

template <class T>
const char* launch_recall_backward(const RecallBackward<T>& step, const UnrollSizes& s,
                                   CUstream_st* stream) {
  if (s.batch == 0) return nullptr;
  return report(launch(recall_backward<T>, row_of(step.captions.keys ? 2 * s.batch : s.batch),
                       dim3(threads), 0, stream, false, step, s));
}

#define FOR(T)                                                                                      \
  template const char* launch_look(const Look<T>&, const UnrollSizes&, CUstream_st*);               \
  template const char* launch_last_write(const Look<T>&, const UnrollSizes&, CUstream_st*);         \
  template const char* launch_infer(const Infer<T>&, const UnrollSizes&, CUstream_st*);             \
  template const char* launch_look_backward(const LookBackward<T>&, const UnrollSizes&,             \
                                            CUstream_st*);                                          \
  template const char* launch_draw_backward(const DrawBackward<T>&, const UnrollSizes&,             \
                                            CUstream_st*);                                          \
  template const char* launch_recall_backward(const RecallBackward<T>&, const UnrollSizes&,         \
                                              CUstream_st*);
FOR(float)
FOR(double)
#undef FOR

}  // namespace aligndraw::cuda
