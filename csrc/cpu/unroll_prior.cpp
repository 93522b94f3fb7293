#include "../unroll_prior.h"

#include "../math/latent.h"
#include "attend.h"
#include "factor.h"
#include "loop.h"
#include "lstm.h"
#include "write.h"

namespace aligndraw::cpu {
// z = mu + exp(log_sigma) noise
ALIGNDRAW_CLONES void draw_row(const float* __restrict mu, const float* __restrict log_sigma,
                               const float* __restrict noise, float* __restrict z, int64_t n) {
  for (int64_t j = 0; j < n; ++j) z[j] = mu[j] + math::exp(log_sigma[j]) * noise[j];
}

void draw_row(const double* mu, const double* log_sigma, const double* noise, double* z,
              int64_t n) {
  for (int64_t j = 0; j < n; ++j) z[j] = mu[j] + math::exp(log_sigma[j]) * noise[j];
}

namespace {

template <class T>
struct Workspace {
  Workspace(int64_t channels, int64_t height, int64_t width, int64_t size, int64_t gates)
      : writer(channels, height, width, size), canvas(channels * height * width), push(gates) {}

  Writer<T> writer;
  Buffer<T> canvas, push;
};

template <class T>
UnrollPriorResults run(const UnrollPriorInputs& in) {
  const int64_t channels = in.canvas.size(0), height = in.canvas.size(1), width = in.canvas.size(2);
  const int64_t batch = in.noise.size(0), steps = in.noise.size(1), latents = in.noise.size(2);
  const int64_t words = in.words.size(1), word_size = in.words.size(2);
  const int64_t n = in.decoder_h0.size(0), units = in.score ? in.score->size(0) : 0;
  const int64_t size = in.write_size, patch = channels * size * size;
  const int64_t volume = channels * height * width;
  const int64_t patch_at = units + 2 * latents, window_at = patch_at + patch;
  const int64_t heads = window_at + 5;  // without the read window

  std::vector<Tensor> kept;
  const auto data = [&](const Tensor& tensor) {
    kept.push_back(as_contiguous(tensor));
    return kept.back().template const_data_ptr<T>();
  };
  const T *first_canvas = data(in.canvas), *values = data(in.words), *noise = data(in.noise);
  const T *keys = in.keys ? data(*in.keys) : nullptr, *score = in.score ? data(*in.score) : nullptr;
  const T *decoder_ih = data(in.decoder_ih), *decoder_bias = data(in.decoder_bias);
  const T *h0 = data(in.decoder_h0), *heads_bias = data(in.heads_bias);
  const Right<T> of_context({decoder_ih + latents, 4 * n, word_size, latents + word_size}, false);
  const Right<T> of_latent({decoder_ih, 4 * n, latents, latents + word_size}, false);
  const Right<T> of_h(matrix(data(in.decoder_hh), 4 * n, n), false);
  const Right<T> said_of_h(matrix(data(in.heads), heads, n), false);
  const Tensor lengths_tensor = as_contiguous(in.lengths);
  const int64_t* const lengths = lengths_tensor.const_data_ptr<int64_t>();

  const auto tensor = [&](std::initializer_list<int64_t> shape) {
    return pooled(shape, in.canvas.scalar_type());
  };
  const Tensor canvas = tensor({batch, channels, height, width});
  const Tensor patches = tensor({steps, batch, channels, size, size});
  const Tensor windows = tensor({steps, batch, 5});
  const Tensor weights = tensor({steps, batch, in.keys ? words : 0});
  T *const canvas_data = canvas.mutable_data_ptr<T>(), *const patch_data =
                                                           patches.mutable_data_ptr<T>();
  T *const window_data = windows.mutable_data_ptr<T>(), *const weight_data =
                                                            weights.mutable_data_ptr<T>();

  // What each word adds to the gates, once a caption: the context is never formed.
  const Buffer<T> pushes(batch * words * 4 * n), said(batch * heads), gates(batch * 4 * n);
  const Buffer<T> z(batch * latents), h(batch * n);
  const Buffer<T> c(batch * n), c_next(batch * n);
  multiply<T>({{matrix(pushes.data(), batch * words, 4 * n),
                Left<T>(matrix(values, batch * words, word_size), false), of_context}},
              torch::stable::get_num_threads());
  const Partition<Workspace<T>> partition(
      batch, [&] { return std::make_unique<Workspace<T>>(channels, height, width, size, 4 * n); });
  partition.each_part([&](const Part<Workspace<T>>& part) {
    const auto left = [&](const T* x, int64_t columns) {
      return Left<T>(part.of(x, columns), false);
    };
    // What h adds to the heads, and to the next step's gates.
    const auto multiply_h = [&] {
      multiply<T>({{part.of(said.data(), heads), left(h, n), said_of_h},
                   {part.of(gates.data(), 4 * n), left(h, n), of_h}},
                  part.threads);
    };
    T *cells = c, *cells_after = c_next;
    part.each([&](Workspace<T>&, int64_t b) {
      std::copy_n(h0, n, h + b * n);
      std::fill_n(cells + b * n, n, T(0));
    });
    multiply_h();
    for (int64_t t = 0; t < (batch ? steps : 0); ++t) {
      part.each([&](Workspace<T>& workspace, int64_t b) {
        T *const of_row = said + b * heads, *const prior = of_row + units;
        add_row(of_row, heads_bias, heads);
        if (t > 0) {
          const int64_t row = (t - 1) * batch + b;
          std::copy_n(of_row + patch_at, patch, patch_data + row * patch);
          std::copy_n(of_row + window_at, 5, window_data + row * 5);
          tanh_row(prior, 2 * latents);
        } else {
          std::fill_n(prior, 2 * latents, T(0));  // the first prior is N(0, I)
        }
        draw_row(prior, prior + latents, noise + (b * steps + t) * latents, z + b * latents,
                 latents);
        T* const gate = gates + b * 4 * n;
        const T* push = pushes + b * words * 4 * n;
        if (keys) {
          forward_row(Caption<T>{of_row, keys + b * words * units, score, push,
                                 std::clamp<int64_t>(lengths[b], 1, words)},
                      {words, units, 4 * n}, workspace.push, weight_data + (t * batch + b) * words);
          push = workspace.push;
        }
        add_row(gate, push, 4 * n);
        add_row(gate, decoder_bias, 4 * n);
      });
      multiply<T>({{part.of(gates.data(), 4 * n), left(z, latents), of_latent, true}},
                  part.threads);
      part.each([&](Workspace<T>&, int64_t b) {
        forward_row(gates + b * 4 * n, cells + b * n, h + b * n, cells_after + b * n, n);
      });
      std::swap(cells, cells_after);
      multiply_h();
    }
    part.each([&](Workspace<T>&, int64_t b) {
      T* const of_row = said + b * heads;
      const int64_t row = (steps - 1) * batch + b;
      add_row(of_row, heads_bias, heads);
      std::copy_n(of_row + patch_at, patch, patch_data + row * patch);
      std::copy_n(of_row + window_at, 5, window_data + row * 5);
    });
    // Nothing reads the canvas on the way: all writes at once.
    part.each([&](Workspace<T>& workspace, int64_t b) {
      T* results[] = {canvas_data + b * volume, workspace.canvas};
      const T* before = first_canvas;
      for (int64_t t = 0; t < steps; ++t) {
        T* const after = results[(steps - 1 - t) % 2];
        const int64_t row = t * batch + b;
        forward_row(workspace.writer, patch_data + row * patch, window_data + row * 5, before,
                    after);
        before = after;
      }
    });
  });
  return {canvas, patches, windows, weights};
}

}  // namespace

UnrollPriorResults unroll_prior(ALIGNDRAW_UNROLL_PRIOR_PARAMETERS) {
  const UnrollPriorInputs in{ALIGNDRAW_UNROLL_PRIOR_ARGUMENTS};
  check_unroll_prior(in);
  return is_double(canvas) ? run<double>(in) : run<float>(in);
}

}  // namespace aligndraw::cpu
