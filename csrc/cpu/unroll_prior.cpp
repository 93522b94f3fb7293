#include "../math/latent.h"
#include "../unroll_arrays.h"
#include "attend.h"
#include "cover.h"
#include "factor.h"
#include "loop.h"
#include "lstm.h"
#include "packed_decoder.h"
#include "tint.h"
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
typename PackedDecoder<T>::Sizes packed_sizes(const UnrollSizes& s) {
  return {s.decoder, s.latents, s.word_size, s.heads()};
}

template <class T>
struct Workspace {
  explicit Workspace(const UnrollSizes& s)
      : write(s.channels, s.height, s.width, s.write_size),
        canvas(s.volume()),
        context_gates(4 * s.decoder) {
    if (s.opacity) cover.emplace(s);
  }

  WriteWorkspace<T> write;
  std::optional<CoverWorkspace<T>> cover;
  Buffer<T> canvas, context_gates;
};

template <class T>
void run(const UnrollPriorPointers<T>& in, const UnrollPriorOutputs<T>& out, const T* packed) {
  const UnrollSizes& s = in.sizes;
  const int64_t batch = s.batch, steps = s.steps, latents = s.latents, words = s.words;
  const int64_t n = s.decoder, gates_size = 4 * n, patch = s.drawn_patch(), volume = s.volume();
  const int64_t heads = s.read_window_at();  // without the read window
  const auto sizes = packed_sizes<T>(s);
  const Buffer<T> own(packed ? 0 : PackedDecoder<T>::size(sizes));
  const auto weights =
      packed ? PackedDecoder<T>::packed_before(sizes, packed)
             : PackedDecoder<T>::pack(sizes, own.data(), in.decoder_ih, in.decoder_hh, in.heads);

  // Each word's part of the gates is formed once per caption: no step forms a context.
  const Buffer<T> word_gates(batch * words * gates_size), outputs(batch * heads);
  const Buffer<T> gates(batch * gates_size), z(batch * latents), h(batch * n);
  const Buffer<T> c(batch * n), c_next(batch * n);
  multiply<T>({{matrix(word_gates.data(), batch * words, gates_size),
                Left<T>(matrix(in.words, batch * words, s.word_size), false), weights.of_context}},
              thread_count());
  const Partition<Workspace<T>> partition(batch, [&] { return std::make_unique<Workspace<T>>(s); });
  partition.each_part([&](const BatchPart<Workspace<T>>& part) {
    const auto left = [&](const T* x, int64_t columns) {
      return Left<T>(part.of(x, columns), false);
    };
    // The products of h with the heads, and with the weights of the next step's gates.
    const auto multiply_h = [&] {
      multiply<T>({{part.of(outputs.data(), heads), left(h, n), weights.heads_of_h},
                   {part.of(gates.data(), gates_size), left(h, n), weights.of_h}},
                  part.threads);
    };
    // Patch and window of row b's head outputs after `t` steps, to the results.
    const auto keep_write = [&](int64_t t, int64_t b) {
      const T* const of_row = outputs + b * heads;
      const int64_t row = (t - 1) * batch + b;
      T *const drawn = out.patches + row * patch, *const opacity = drawn + s.patch();
      tint_row(Tints(s), of_row + s.patch_at(), drawn);
      std::copy(of_row + s.opacity_at(), of_row + s.write_window_at(), opacity);
      sigmoid_row(opacity, patch - s.patch());
      std::copy_n(of_row + s.write_window_at(), 5, out.windows + row * 5);
    };
    T *cells = c, *cells_after = c_next;
    part.each([&](Workspace<T>&, int64_t b) {
      std::copy_n(in.decoder_h0, n, h + b * n);
      std::fill_n(cells + b * n, n, T(0));
    });
    multiply_h();
    for (int64_t t = 0; t < (batch ? steps : 0); ++t) {
      part.each([&](Workspace<T>& workspace, int64_t b) {
        T *const of_row = outputs + b * heads, *const prior = of_row + s.prior_at();
        add_row(of_row, in.heads_bias, heads);
        if (t > 0) {
          keep_write(t, b);
          tanh_row(prior, 2 * latents);
        } else {
          std::fill_n(prior, 2 * latents, T(0));  // the first prior is N(0, I)
        }
        draw_row(prior, prior + latents, in.noise + (b * steps + t) * latents, z + b * latents,
                 latents);
        T* const gate = gates + b * gates_size;
        const T* context_gates = word_gates + b * words * gates_size;
        if (s.attends) {
          forward_row(Caption<T>{of_row, in.keys + b * words * s.units, in.score, context_gates,
                                 std::clamp<int64_t>(in.lengths[b], 1, words)},
                      {words, s.units, gates_size}, workspace.context_gates,
                      out.weights + (t * batch + b) * words);
          context_gates = workspace.context_gates;
        }
        add_row(gate, context_gates, gates_size);
        add_row(gate, in.decoder_bias, gates_size);
      });
      multiply<T>({{part.of(gates.data(), gates_size), left(z, latents), weights.of_latent, true}},
                  part.threads);
      part.each([&](Workspace<T>&, int64_t b) {
        forward_row(gates + b * gates_size, cells + b * n, h + b * n, cells_after + b * n, n);
      });
      std::swap(cells, cells_after);
      multiply_h();
    }
    part.each([&](Workspace<T>&, int64_t b) {
      add_row(outputs + b * heads, in.heads_bias, heads);
      keep_write(steps, b);
    });
    // No step reads the canvas: all writes follow the loop.
    part.each([&](Workspace<T>& workspace, int64_t b) {
      T* results[] = {out.canvas + b * volume, workspace.canvas};
      const T* before = in.canvas;
      for (int64_t t = 0; t < steps; ++t) {
        T* const after = results[(steps - 1 - t) % 2];
        const int64_t row = t * batch + b;
        const T *const drawn = out.patches + row * patch, *const window = out.windows + row * 5;
        if (s.opacity)
          cover_row(*workspace.cover, drawn, window, before, after);
        else
          forward_row(workspace.write, drawn, window, before, after);
        before = after;
      }
    });
  });
}

// With the weights in memory of pack_decoder, where it is given.
UnrollPriorResultTuple sample(const UnrollPriorInputs& in, const Tensor* packed) {
  check_unroll_prior(in);
  const UnrollSizes s = sizes_of(in);
  const auto make = [&](std::initializer_list<int64_t> shape) {
    return pooled(shape, in.canvas.scalar_type());
  };
  const auto results = make_unroll_prior_results(s, make);
  const auto run_as = [&]<class T>(T) {
    if (packed) {
      check_shape("unroll_prior", "packed", *packed, "[size]",
                  {PackedDecoder<T>::size(packed_sizes<T>(s))});
      check_dtype("unroll_prior", {"packed", *packed}, {"canvas", in.canvas});
    }
    run<T>(UnrollPriorArguments<T>(in), pointers_to<UnrollPriorOutputs<T>, T>(results),
           packed ? packed->const_data_ptr<T>() : nullptr);
  };
  is_double(in.canvas) ? run_as(double()) : run_as(float());
  return results;
}

}  // namespace

UnrollPriorResultTuple unroll_prior(ALIGNDRAW_UNROLL_PRIOR_PARAMETERS) {
  return sample(ALIGNDRAW_UNROLL_PRIOR_ARGUMENTS, nullptr);
}

UnrollPriorResultTuple unroll_prior_packed(ALIGNDRAW_UNROLL_PRIOR_PARAMETERS, Tensor packed) {
  return sample(ALIGNDRAW_UNROLL_PRIOR_ARGUMENTS, &packed);
}

}  // namespace aligndraw::cpu
