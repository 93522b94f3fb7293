#include "../unroll_arrays.h"

#include "attend.h"
#include "cover.h"
#include "factor.h"
#include "latent.h"
#include "loop.h"
#include "lstm.h"
#include "read.h"
#include "tint.h"
#include "write.h"

namespace aligndraw::cpu {

namespace {

// The arguments, with their matrices as operands of products.
template <class T>
struct Arguments : UnrollArguments<T> {
  using UnrollArguments<T>::UnrollArguments, UnrollArguments<T>::bf16, UnrollArguments<T>::sizes;

  Left<T> left(Matrix<const T> matrix) const { return {matrix, bf16}; }
  Right<T> right(Matrix<const T> matrix) const { return {matrix, bf16}; }
  // The operands of priors, posteriors and windows are never rounded.
  static Left<T> unrounded_left(Matrix<const T> matrix) { return {matrix, false}; }
  static Right<T> unrounded_right(Matrix<const T> matrix) { return {matrix, false}; }
};

template <class T>
Caption<T> caption_of(const Arguments<T>& in, const T* outputs, int64_t b) {
  const auto& s = in.sizes;
  return {outputs, in.keys + b * s.words * s.units, in.score, in.words + b * s.words * s.word_size,
          std::clamp<int64_t>(in.lengths[b], 1, s.words)};
}

// Returns the patch of a row's head outputs. With tints or an opacity it stands in `patch`.
template <class T>
const T* drawn_patch(const UnrollSizes& s, const T* outputs, const Buffer<T>& patch) {
  if (!s.tints && !s.opacity) return outputs + s.patch_at();
  tint_row(Tints(s), outputs + s.patch_at(), patch);
  std::copy(outputs + s.opacity_at(), outputs + s.write_window_at(), patch + s.patch());
  return patch;
}

int64_t patch_size(const UnrollSizes& s) { return s.tints || s.opacity ? s.drawn_patch() : 0; }

// ---- forward ----

template <class T>
struct ForwardWorkspace {
  explicit ForwardWorkspace(const UnrollSizes& s)
      : read(s.channels, s.height, s.width, s.read_size, true),
        write(s.channels, s.height, s.width, s.write_size),
        patch(patch_size(s)),
        kl_terms(s.latents),
        ratio_terms(s.latents) {
    if (s.opacity) cover.emplace(s);
  }

  ReadWorkspace<T> read;
  WriteWorkspace<T> write;
  std::optional<CoverWorkspace<T>> cover;
  Buffer<T> patch, kl_terms, ratio_terms;
};

template <class T>
void run_forward(const Arguments<T>& in, const UnrollOutputs<T>& out) {
  const auto& s = in.sizes;
  const int64_t batch = s.batch, volume = s.volume(), heads = s.heads();
  const auto weight = [&](const T* data, int64_t rows, int64_t columns) {
    return in.right(matrix(data, rows, columns));
  };
  const auto encoder_ih = weight(in.encoder_ih, 4 * s.encoder, s.encoder_in());
  const auto encoder_hh = weight(in.encoder_hh, 4 * s.encoder, s.encoder);
  const auto decoder_ih = weight(in.decoder_ih, 4 * s.decoder, s.decoder_in());
  const auto decoder_hh = weight(in.decoder_hh, 4 * s.decoder, s.decoder);
  const auto of_query = weight(in.heads, s.units, s.decoder);
  const auto posterior = in.unrounded_right(matrix(in.posterior, 2 * s.latents, s.encoder));
  const auto other_heads =
      in.unrounded_right(matrix(in.heads + s.units * s.decoder, heads - s.units, s.decoder));
  const Partition<ForwardWorkspace<T>> partition(
      batch, [&] { return std::make_unique<ForwardWorkspace<T>>(s); });
  // Until here the head outputs of h_dec after t steps are a product without its bias.
  const auto finish_heads = [&](int64_t t, int64_t b) {
    T* const outputs = out.head_outputs + (t * batch + b) * heads;
    add_row(outputs, in.heads_bias, heads);
    if (t == 0)
      std::fill_n(outputs + s.prior_at(), 2 * s.latents, T(0));  // the first prior is N(0, I)
    else
      tanh_row(outputs + s.prior_at(), 2 * s.latents);
    sigmoid_row(outputs + s.opacity_at(), s.write_window_at() - s.opacity_at());
    if (t > 0)
      std::copy_n(outputs + s.write_window_at(), 5, out.windows + ((t - 1) * batch + b) * 5);
    return outputs;
  };
  const auto write_canvas = [&](ForwardWorkspace<T>& workspace, int64_t t, int64_t b,
                                const T* outputs) {
    T* const canvas = (t < s.steps ? out.canvases + t * batch * volume : out.canvas) + b * volume;
    const T* const before = out.canvases + ((t - 1) * batch + b) * volume;
    const T* const window = outputs + s.write_window_at();
    if (t == 0)
      std::copy_n(in.canvas, volume, canvas);
    else if (const T* const patch = drawn_patch(s, outputs, workspace.patch); s.opacity)
      cover_row(*workspace.cover, patch, window, before, canvas);
    else
      forward_row(workspace.write, patch, window, before, canvas);
    return canvas;
  };
  partition.each_part([&](const BatchPart<ForwardWorkspace<T>>& part) {
    const auto left = [&](const T* data, int64_t columns) {
      return in.left(part.of(data, columns));
    };
    const auto unrounded = [&](const T* data, int64_t columns) {
      return in.unrounded_left(part.of(data, columns));
    };
    const auto multiply_heads = [&](int64_t t) {
      const auto outputs = part.of(out.head_outputs + t * batch * heads, heads);
      const T* const h = out.decoder_h + t * batch * s.decoder;
      multiply<T>(
          {{outputs.columns_from(0, s.units), left(h, s.decoder), of_query},
           {outputs.columns_from(s.units, heads - s.units), unrounded(h, s.decoder), other_heads}},
          part.threads);
    };
    part.each([&](ForwardWorkspace<T>&, int64_t b) {
      std::copy_n(in.encoder_h0, s.encoder, out.encoder_h + b * s.encoder);
      std::copy_n(in.decoder_h0, s.decoder, out.decoder_h + b * s.decoder);
      std::fill_n(out.encoder_c + b * s.encoder, s.encoder, T(0));
      std::fill_n(out.decoder_c + b * s.decoder, s.decoder, T(0));
    });
    // Finishes an LSTM's step after its products. h and c of the step lie behind those before it.
    const auto finish_lstm = [&](T* all_gates, const T* bias, T* h, T* c, int64_t units) {
      part.each([=](ForwardWorkspace<T>&, int64_t b) {
        T* const gates = all_gates + b * 4 * units;
        add_row(gates, bias, 4 * units);
        forward_row(gates, c + b * units, h + (batch + b) * units, c + (batch + b) * units, units);
      });
    };
    multiply_heads(0);
    for (int64_t t = 0; t < (batch ? s.steps : 0); ++t) {
      const int64_t row = t * batch;
      T *const encoder_in = out.encoder_in + row * s.encoder_in(),
               *const encoder_gates = out.encoder_gates + row * 4 * s.encoder,
               *const posteriors = out.posteriors + row * 2 * s.latents,
               *const decoder_in = out.decoder_in + row * s.decoder_in(),
               *const decoder_gates = out.decoder_gates + row * 4 * s.decoder;
      T *const encoder_h = out.encoder_h + row * s.encoder,
               *const encoder_c = out.encoder_c + row * s.encoder,
               *const decoder_h = out.decoder_h + row * s.decoder,
               *const decoder_c = out.decoder_c + row * s.decoder;
      part.each([&](ForwardWorkspace<T>& workspace, int64_t b) {
        const T* const outputs = finish_heads(t, b);
        // The next row's pictures, which come from far.
        fetch_row(in.image + (b + 1) * volume, volume);
        for (int64_t i = std::max<int64_t>(0, t - 1); i <= t; ++i)
          fetch_row(out.canvases + (i * batch + b + 1) * volume, volume);
        const T* const canvas = write_canvas(workspace, t, b, outputs);
        T* const input = encoder_in + b * s.encoder_in();
        forward_row(workspace.read, {in.image + b * volume, canvas, outputs + s.read_window_at()},
                    input);
        std::copy_n(decoder_h + b * s.decoder, s.decoder, input + s.glimpse());
        T* const context = decoder_in + b * s.decoder_in() + s.latents;
        if (in.keys)
          forward_row(caption_of(in, outputs, b), {s.words, s.units, s.word_size}, context,
                      out.weights + (row + b) * s.words);
        else
          std::copy_n(in.words + b * s.word_size, s.word_size, context);
      });
      const auto of_encoder = part.of(encoder_gates, 4 * s.encoder);
      multiply<T>({{of_encoder, left(encoder_in, s.encoder_in()), encoder_ih},
                   {of_encoder, left(encoder_h, s.encoder), encoder_hh, true}},
                  part.threads);
      finish_lstm(encoder_gates, in.encoder_bias, encoder_h, encoder_c, s.encoder);
      multiply<T>({{part.of(posteriors, 2 * s.latents),
                    unrounded(encoder_h + batch * s.encoder, s.encoder), posterior}},
                  part.threads);
      part.each([&](ForwardWorkspace<T>& workspace, int64_t b) {
        T* const q = posteriors + b * 2 * s.latents;
        add_row(q, in.posterior_bias, 2 * s.latents);
        const T* const prior = out.head_outputs + (row + b) * heads + s.prior_at();
        forward_row(
            {q, q + s.latents, prior, prior + s.latents, in.noise + (b * s.steps + t) * s.latents},
            decoder_in + b * s.decoder_in(), workspace.kl_terms, workspace.ratio_terms, s.latents,
            out.kl + row + b, out.log_ratio + row + b);
      });
      const auto of_decoder = part.of(decoder_gates, 4 * s.decoder);
      multiply<T>({{of_decoder, left(decoder_in, s.decoder_in()), decoder_ih},
                   {of_decoder, left(decoder_h, s.decoder), decoder_hh, true}},
                  part.threads);
      finish_lstm(decoder_gates, in.decoder_bias, decoder_h, decoder_c, s.decoder);
      multiply_heads(t + 1);
    }
    part.each([&](ForwardWorkspace<T>& workspace, int64_t b) {
      write_canvas(workspace, s.steps, b, finish_heads(s.steps, b));
    });
  });
}

// ---- backward ----

template <class T>
struct BackwardWorkspace {
  explicit BackwardWorkspace(const UnrollSizes& s)
      : read(s.channels, s.height, s.width, s.read_size, true),
        write(s.channels, s.height, s.width, s.write_size),
        patch(patch_size(s)),
        d_patch(s.opacity ? s.drawn_patch() : 0),
        prior(2 * s.latents),
        energies(s.words) {
    if (s.opacity) cover.emplace(s);
  }

  ReadBackwardWorkspace<T> read;
  WriteBackwardWorkspace<T> write;
  std::optional<CoverBackwardWorkspace<T>> cover;
  Buffer<T> patch, d_patch, prior, energies;
};

// result [columns] = the sum of the rows. It sums the sums of 64 rows, for precision.
template <class T>
void sum_rows(const T* data, int64_t rows, int64_t columns, T* result) {
  for_row_ranges(columns, rows, [=](int64_t begin, int64_t end) {
    const int64_t count = end - begin;
    const Buffer<T> part(count);
    std::fill_n(result + begin, count, T(0));
    for (int64_t first = 0; first < rows; first += 64) {
      std::fill_n(part.data(), count, T(0));
      for (int64_t r = first; r < std::min(first + 64, rows); ++r)
        add_row(part, data + r * columns + begin, count);
      add_row(result + begin, part, count);
    }
  });
}

template <class T>
void run_backward(const Arguments<T>& in, const UnrollTape<T>& tape,
                  const UnrollResultGrads<T>& given, const UnrollGrads<T>& out) {
  const auto& s = in.sizes;
  const int64_t batch = s.batch, steps = s.steps, volume = s.volume(), heads = s.heads();
  const int64_t rows = steps * batch;
  const Buffer<T> d_encoder_gates(rows * 4 * s.encoder), d_posteriors(rows * 2 * s.latents);
  const Buffer<T> d_decoder_gates(rows * 4 * s.decoder), d_decoder_in(rows * s.decoder_in());
  const Buffer<T> d_heads((rows + batch) * heads), d_encoder_in(batch * s.encoder_in());
  const Buffer<T> d_canvas(batch * volume), d_score(batch * s.units);
  const Buffer<T> d_h_enc(batch * s.encoder), d_h_dec(batch * s.decoder);
  const Buffer<T> d_c_enc(batch * s.encoder), d_c_enc_next(batch * s.encoder);
  const Buffer<T> d_c_dec(batch * s.decoder), d_c_dec_next(batch * s.decoder);
  const Partition<BackwardWorkspace<T>> partition(
      batch, [&] { return std::make_unique<BackwardWorkspace<T>>(s); });

  // result = d w
  const auto weight = [&](const T* data, int64_t rows, int64_t columns) {
    return in.right(matrix(data, rows, columns).transposed());
  };
  const auto encoder_ih = weight(in.encoder_ih, 4 * s.encoder, s.encoder_in());
  const auto encoder_hh = weight(in.encoder_hh, 4 * s.encoder, s.encoder);
  const auto posterior = weight(in.posterior, 2 * s.latents, s.encoder);
  const auto decoder_ih = weight(in.decoder_ih, 4 * s.decoder, s.decoder_in());
  const auto decoder_hh = weight(in.decoder_hh, 4 * s.decoder, s.decoder);
  const auto all_heads = weight(in.heads, heads, s.decoder);

  partition.each_part([&](const BatchPart<BackwardWorkspace<T>>& part) {
    const auto left = [&](const T* data, int64_t columns) {
      return in.left(part.of(data, columns));
    };
    part.each([&](BackwardWorkspace<T>&, int64_t b) {
      std::copy_n(given.canvas + b * volume, volume, d_canvas + b * volume);
      std::fill_n(d_h_enc + b * s.encoder, s.encoder, T(0));
      std::fill_n(d_c_enc + b * s.encoder, s.encoder, T(0));
      std::fill_n(d_h_dec + b * s.decoder, s.decoder, T(0));
      std::fill_n(d_c_dec + b * s.decoder, s.decoder, T(0));
      std::fill_n(d_score + b * s.units, s.units, T(0));
      // No step follows the last heads, and those of h0 draw nothing.
      std::fill_n(d_heads + b * heads, heads, T(0));
      std::fill_n(d_heads + (rows + b) * heads, heads, T(0));
      if (out.keys) std::fill_n(out.keys + b * s.words * s.units, s.words * s.units, T(0));
      if (out.image) std::fill_n(out.image + b * volume, volume, T(0));
    });
    const auto write_backward_at = [&](BackwardWorkspace<T>& workspace, int64_t t, int64_t b) {
      const T* const outputs = tape.head_outputs + ((t + 1) * batch + b) * heads;
      T* const d = d_heads + ((t + 1) * batch + b) * heads;
      const T* const patch = drawn_patch(s, outputs, workspace.patch);
      const T* const window = outputs + s.write_window_at();
      if (s.opacity) {
        const T *const opacity = outputs + s.opacity_at(), *const d_patch = workspace.d_patch;
        cover_backward_row(*workspace.cover, d_canvas + b * volume, patch, window,
                           tape.canvases + (t * batch + b) * volume, workspace.d_patch.data(),
                           d + s.write_window_at());
        std::copy_n(d_patch, s.patch(), d + s.patch_at());
        for (int64_t i = 0; i < s.drawn_patch() - s.patch(); ++i)
          d[s.opacity_at() + i] = d_patch[s.patch() + i] * opacity[i] * (1 - opacity[i]);
      } else {
        backward_row(workspace.write, d_canvas + b * volume, patch, window, d + s.patch_at(),
                     d + s.write_window_at());
      }
      if (s.tints) tint_backward_row(Tints(s), outputs + s.patch_at(), d + s.patch_at());
      add_row(d + s.write_window_at(), given.windows + (t * batch + b) * 5, 5);
    };
    const auto read_backward_at = [&](BackwardWorkspace<T>& workspace, int64_t t, int64_t b) {
      const T* const input = d_encoder_in + b * s.encoder_in();
      const int64_t at = (t * batch + b) * heads + s.read_window_at();
      backward_row(
          workspace.read,
          {in.image + b * volume, tape.canvases + (t * batch + b) * volume, tape.head_outputs + at},
          input,
          {out.image ? out.image + b * volume : nullptr, d_heads + at, d_canvas + b * volume,
           true});
      add_row(d_h_dec + b * s.decoder, input + s.glimpse(), s.decoder);
    };
    // The gradient of the cell states, and the array for the step before.
    struct Cells {
      T *d_c, *d_c_before;
    };
    Cells encoder_cells{d_c_enc, d_c_enc_next}, decoder_cells{d_c_dec, d_c_dec_next};
    const auto lstm_backward = [&](const T* d_h, Cells& cells, const T* gates, const T* c,
                                   int64_t row, T* d_gates, int64_t units) {
      part.each([&](BackwardWorkspace<T>&, int64_t b) {
        backward_row(d_h + b * units, cells.d_c + b * units, gates + (row + b) * 4 * units,
                     c + (row + b) * units, d_gates + b * 4 * units, cells.d_c_before + b * units,
                     units);
      });
      std::swap(cells.d_c, cells.d_c_before);
    };
    for (int64_t t = batch ? steps - 1 : -1; t >= 0; --t) {
      const int64_t row = t * batch;
      T *const encoder_gates = d_encoder_gates + row * 4 * s.encoder,
               *const posteriors = d_posteriors + row * 2 * s.latents,
               *const decoder_in = d_decoder_in + row * s.decoder_in(),
               *const decoder_gates = d_decoder_gates + row * 4 * s.decoder;
      part.each([&](BackwardWorkspace<T>& workspace, int64_t b) {
        if (t + 1 < steps) {
          // The next row's pictures, which come from far.
          fetch_row(in.image + (b + 1) * volume, volume);
          fetch_row(tape.canvases + ((t + 1) * batch + b + 1) * volume, volume);
          read_backward_at(workspace, t + 1, b);
        }
        write_backward_at(workspace, t, b);
      });
      const auto d_h = part.of(d_h_dec.data(), s.decoder);
      multiply<T>({{d_h, left(d_heads + (row + batch) * heads, heads), all_heads, true}},
                  part.threads);
      lstm_backward(d_h_dec, decoder_cells, tape.decoder_gates, tape.decoder_c, row, decoder_gates,
                    s.decoder);
      const auto d_dec = left(decoder_gates, 4 * s.decoder);
      multiply<T>(
          {{part.of(decoder_in, s.decoder_in()), d_dec, decoder_ih}, {d_h, d_dec, decoder_hh}},
          part.threads);
      part.each([&](BackwardWorkspace<T>& workspace, int64_t b) {
        const T* const outputs = tape.head_outputs + (row + b) * heads;
        T* const d = d_heads + (row + b) * heads;
        const T *const d_z = decoder_in + b * s.decoder_in(), *const prior = outputs + s.prior_at();
        if (in.keys)
          backward_row(d_z + s.latents, given.weights + (row + b) * s.words,
                       caption_of(in, outputs, b), tape.weights + (row + b) * s.words,
                       {s.words, s.units, s.word_size},
                       {d, out.keys + b * s.words * s.units, d_score + b * s.units, nullptr, true},
                       workspace.energies);
        const T* const q = tape.posteriors + (row + b) * 2 * s.latents;
        T* const d_q = posteriors + b * 2 * s.latents;
        T* const d_prior = workspace.prior;
        const int64_t noise = (b * steps + t) * s.latents;
        backward_row(d_z, given.kl[row + b], given.log_ratio[row + b],
                     {q, q + s.latents, prior, prior + s.latents, in.noise + noise},
                     {d_q, d_q + s.latents, d_prior, d_prior + s.latents, out.noise + noise},
                     s.latents);
        if (t > 0)
          for (int64_t j = 0; j < 2 * s.latents; ++j)
            d[s.prior_at() + j] = d_prior[j] * (1 - prior[j] * prior[j]);
      });
      const auto d_h_e = part.of(d_h_enc.data(), s.encoder);
      multiply<T>({{d_h_e, left(posteriors, 2 * s.latents), posterior, true}}, part.threads);
      lstm_backward(d_h_enc, encoder_cells, tape.encoder_gates, tape.encoder_c, row, encoder_gates,
                    s.encoder);
      const auto d_enc = left(encoder_gates, 4 * s.encoder);
      multiply<T>({{part.of(d_encoder_in.data(), s.encoder_in()), d_enc, encoder_ih},
                   {d_h_e, d_enc, encoder_hh}},
                  part.threads);
    }
    part.each([&](BackwardWorkspace<T>& workspace, int64_t b) {
      read_backward_at(workspace, 0, b);
      T* const words = out.words + b * s.words * s.word_size;
      const T* const contexts = d_decoder_in + b * s.decoder_in() + s.latents;
      const int64_t row_stride = batch * s.decoder_in();
      if (in.keys) {
        product(StridedView<T>{tape.weights + b * s.words, 1, batch * s.words},
                Rows<const T>{contexts, row_stride}, Rows<T>{words, s.word_size}, s.words, steps,
                s.word_size);
      } else {
        std::fill_n(words, s.word_size, T(0));
        for (int64_t t = 0; t < steps; ++t) add_row(words, contexts + t * row_stride, s.word_size);
      }
    });
    multiply<T>(
        {{part.of(d_h_dec.data(), s.decoder), left(d_heads.data(), heads), all_heads, true}},
        part.threads);
  });

  // The gradient of each weight is one product over all steps.
  const int64_t threads = thread_count();
  const auto over_steps = [&](const T* d, int64_t depth, int64_t count) {
    return Left<T>(matrix(d, depth, count).transposed(), in.bf16);
  };
  const auto right = [&](const T* inputs, int64_t depth, int64_t width) {
    return in.right(matrix(inputs, depth, width).transposed());
  };
  const auto weight_grad = [&](T* grad, const Left<T>& d, const T* inputs, int64_t width) {
    const auto [count, depth] = std::pair(d.matrix.rows, d.matrix.columns);
    multiply<T>({{matrix(grad, count, width), d, right(inputs, depth, width)}}, threads);
  };
  // Both weights of an LSTM: their products share the left factor.
  const auto lstm_grads = [&](T* grad_ih, T* grad_hh, const T* d_gates, int64_t units,
                              const T* inputs, int64_t width, const T* states) {
    const auto d = over_steps(d_gates, rows, 4 * units);
    multiply<T>({{matrix(grad_ih, 4 * units, width), d, right(inputs, rows, width)},
                 {matrix(grad_hh, 4 * units, units), d, right(states, rows, units)}},
                threads);
  };
  const T *const d_enc = d_encoder_gates, *const d_dec = d_decoder_gates;
  lstm_grads(out.encoder_ih, out.encoder_hh, d_enc, s.encoder, tape.encoder_in, s.encoder_in(),
             tape.encoder_h);
  lstm_grads(out.decoder_ih, out.decoder_hh, d_dec, s.decoder, tape.decoder_in, s.decoder_in(),
             tape.decoder_h);
  weight_grad(out.posterior, over_steps(d_posteriors, rows, 2 * s.latents),
              tape.encoder_h + batch * s.encoder, s.encoder);
  weight_grad(out.heads, over_steps(d_heads, rows + batch, heads), tape.decoder_h, s.decoder);
  sum_rows<T>(d_enc, rows, 4 * s.encoder, out.encoder_bias);
  sum_rows<T>(d_dec, rows, 4 * s.decoder, out.decoder_bias);
  sum_rows<T>(d_posteriors, rows, 2 * s.latents, out.posterior_bias);
  sum_rows<T>(d_heads, rows + batch, heads, out.heads_bias);
  sum_rows<T>(d_h_enc, batch, s.encoder, out.encoder_h0);
  sum_rows<T>(d_h_dec, batch, s.decoder, out.decoder_h0);
  sum_rows<T>(d_canvas, batch, volume, out.canvas);
  if (out.score) sum_rows<T>(d_score, batch, s.units, out.score);
}

}  // namespace

UnrollResultTuple unroll(ALIGNDRAW_UNROLL_PARAMETERS) {
  const UnrollInputs in = ALIGNDRAW_UNROLL_ARGUMENTS;
  check_unroll("unroll", in);
  const auto make = [&](std::initializer_list<int64_t> shape) {
    return pooled(shape, in.image.scalar_type());
  };
  const auto run = [&]<class T>(T) {
    return unroll_results<T>(
        in, make, [&](const UnrollOutputs<T>& out) { run_forward(Arguments<T>(in), out); });
  };
  return is_double(in.image) ? run(double()) : run(float());
}

UnrollGradTuple unroll_backward(ALIGNDRAW_UNROLL_BACKWARD_PARAMETERS) {
  const UnrollBackwardInputs backward = ALIGNDRAW_UNROLL_BACKWARD_ARGUMENTS;
  check_unroll_backward(backward);
  const auto run = [&]<class T>(T) {
    return unroll_grads<T>(backward,
                           [&](const UnrollTape<T>& tape, const UnrollResultGrads<T>& given,
                               const UnrollGrads<T>& out) {
                             run_backward(Arguments<T>(backward.in), tape, given, out);
                           });
  };
  return is_double(backward.in.image) ? run(double()) : run(float());
}

}  // namespace aligndraw::cpu
