#include "../unroll.h"

#include <array>

#include "attend.h"
#include "factor.h"
#include "latent.h"
#include "loop.h"
#include "lstm.h"
#include "read.h"
#include "write.h"

namespace aligndraw::cpu {

namespace {

// The arguments as they were given, and the pointers that the loop works with.
template <class T>
struct Arguments {
  explicit Arguments(const UnrollInputs& in)
      : sizes(in), bf16(in.bf16), lengths_tensor(as_contiguous(in.lengths)) {
    const Tensor* const given[] = {&in.image,          &in.canvas,       &in.words,
                                   &in.noise,          &in.encoder_ih,   &in.encoder_hh,
                                   &in.encoder_bias,   &in.encoder_h0,   &in.posterior,
                                   &in.posterior_bias, &in.decoder_ih,   &in.decoder_hh,
                                   &in.decoder_bias,   &in.decoder_h0,   &in.heads,
                                   &in.heads_bias,     in.keys ? &*in.keys : nullptr,
                                   in.score ? &*in.score : nullptr};
    const T** const wanted[] = {&image,        &canvas,      &words,          &noise,
                                &encoder_ih,   &encoder_hh,  &encoder_bias,   &encoder_h0,
                                &posterior,    &posterior_bias, &decoder_ih,  &decoder_hh,
                                &decoder_bias, &decoder_h0,  &heads,          &heads_bias,
                                &keys,         &score};
    for (size_t i = 0; i < std::size(given); ++i) {
      if (!given[i]) continue;
      kept.push_back(as_contiguous(*given[i]));
      *wanted[i] = kept.back().template const_data_ptr<T>();
    }
    lengths = lengths_tensor.template const_data_ptr<int64_t>();
  }

  const UnrollSizes sizes;
  const bool bf16;
  const T *image, *canvas, *words, *noise, *encoder_ih, *encoder_hh, *encoder_bias, *encoder_h0,
      *posterior, *posterior_bias, *decoder_ih, *decoder_hh, *decoder_bias, *decoder_h0, *heads,
      *heads_bias, *keys = nullptr, *score = nullptr;
  const int64_t* lengths;
  const Tensor lengths_tensor;
  std::vector<Tensor> kept;

  // A matrix [rows, columns] of this op, as a factor.
  Left<T> left(const T* data, int64_t rows, int64_t columns) const {
    return {matrix(data, rows, columns), bf16};
  }
  Right<T> right(Matrix<const T> matrix) const { return {matrix, bf16}; }
  // A right factor that is one of every step's products; priors, posteriors and windows come of
  // `exact` ones, which are never rounded.
  Right<T> of_steps(Matrix<const T> matrix) const {
    return {matrix, bf16, sizes.batch, sizes.steps};
  }
  Right<T> exact_of_steps(Matrix<const T> matrix) const {
    return {matrix, false, sizes.batch, sizes.steps};
  }
};

// The results and the tape, in the order of the op's: time first.
template <class T, class Pointer>
struct Tape {
  Pointer kl, log_ratio, windows, weights, encoder_in, encoder_gates, encoder_h, encoder_c,
      posteriors, decoder_in, decoder_gates, decoder_h, decoder_c, said, canvases;
};

template <class T>
Caption<T> caption_of(const Arguments<T>& in, const T* said, int64_t b) {
  const auto& s = in.sizes;
  return {said, in.keys + b * s.words * s.units, in.score, in.words + b * s.words * s.word_size,
          std::clamp<int64_t>(in.lengths[b], 1, s.words)};
}

// ---- forward ----

template <class T>
struct ForwardWorkshop {
  explicit ForwardWorkshop(const UnrollSizes& s)
      : reader(s.channels, s.height, s.width, s.read_size, true),
        writer(s.channels, s.height, s.width, s.write_size),
        kl_terms(s.latents),
        ratio_terms(s.latents) {}

  Reader<T> reader;
  Writer<T> writer;
  Buffer<T> kl_terms, ratio_terms;
};

template <class T>
void run_forward(const Arguments<T>& in, const Tape<T, T*>& out, T* last) {
  const auto& s = in.sizes;
  const int64_t batch = s.batch, volume = s.volume(), heads = s.heads();
  const auto weight = [&](const T* data, int64_t rows, int64_t columns) {
    return in.of_steps(matrix(data, rows, columns));
  };
  const auto encoder_ih = weight(in.encoder_ih, 4 * s.encoder, s.encoder_in());
  const auto encoder_hh = weight(in.encoder_hh, 4 * s.encoder, s.encoder);
  const auto decoder_ih = weight(in.decoder_ih, 4 * s.decoder, s.decoder_in());
  const auto decoder_hh = weight(in.decoder_hh, 4 * s.decoder, s.decoder);
  const auto of_query = weight(in.heads, s.units, s.decoder);
  const auto exact = [](const T* data, int64_t rows, int64_t columns) {
    return Left<T>(matrix(data, rows, columns), false);
  };
  const auto posterior = in.exact_of_steps(matrix(in.posterior, 2 * s.latents, s.encoder));
  const auto other_heads =
      in.exact_of_steps(matrix(in.heads + s.units * s.decoder, heads - s.units, s.decoder));
  const auto multiply_heads = [&](int64_t t) {
    T* const said = out.said + t * batch * heads;
    const T* const h = out.decoder_h + t * batch * s.decoder;
    multiply(Matrix<T>{said, batch, s.units, heads}, in.left(h, batch, s.decoder), of_query);
    multiply(Matrix<T>{said + s.units, batch, heads - s.units, heads}, exact(h, batch, s.decoder),
             other_heads);
  };
  const Team<ForwardWorkshop<T>> team(
      batch, [&] { return std::make_unique<ForwardWorkshop<T>>(s); });
  // What is said of h_dec after t steps is complete only now: its product has no bias yet.
  const auto finish_heads = [&](int64_t t, int64_t b) {
    T* const said = out.said + (t * batch + b) * heads;
    add_row(said, in.heads_bias, heads);
    if (t == 0)
      std::fill_n(said + s.prior_at(), 2 * s.latents, T(0));  // the first prior is N(0, I)
    else
      tanh_row(said + s.prior_at(), 2 * s.latents);
    if (t > 0) std::copy_n(said + s.write_window_at(), 5, out.windows + ((t - 1) * batch + b) * 5);
    return said;
  };
  const auto draw = [&](ForwardWorkshop<T>& workshop, int64_t t, int64_t b, const T* said) {
    T* const canvas = (t < s.steps ? out.canvases + t * batch * volume : last) + b * volume;
    if (t == 0)
      std::copy_n(in.canvas, volume, canvas);
    else
      forward_row(workshop.writer, said + s.patch_at(), said + s.write_window_at(),
                  out.canvases + ((t - 1) * batch + b) * volume, canvas);
    return canvas;
  };
  team.each([&](ForwardWorkshop<T>&, int64_t b) {
    std::copy_n(in.encoder_h0, s.encoder, out.encoder_h + b * s.encoder);
    std::copy_n(in.decoder_h0, s.decoder, out.decoder_h + b * s.decoder);
    std::fill_n(out.encoder_c + b * s.encoder, s.encoder, T(0));
    std::fill_n(out.decoder_c + b * s.decoder, s.decoder, T(0));
  });
  // The rest of an LSTM's step after its products: h and c before it are followed by those after.
  const auto finish_lstm = [&](T* all_gates, const T* bias, T* h, T* c, int64_t units) {
    team.each([=](ForwardWorkshop<T>&, int64_t b) {
      T* const gates = all_gates + b * 4 * units;
      add_row(gates, bias, 4 * units);
      forward_row(gates, c + b * units, h + (batch + b) * units, c + (batch + b) * units, units);
    });
  };
  multiply_heads(0);
  for (int64_t t = 0; t < s.steps; ++t) {
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
    team.each([&](ForwardWorkshop<T>& workshop, int64_t b) {
      const T* const said = finish_heads(t, b);
      const T* const canvas = draw(workshop, t, b, said);
      T* const input = encoder_in + b * s.encoder_in();
      forward_row(workshop.reader, {in.image + b * volume, canvas, said + s.read_window_at()},
                  input);
      std::copy_n(decoder_h + b * s.decoder, s.decoder, input + s.glimpse());
      T* const context = decoder_in + b * s.decoder_in() + s.latents;
      if (in.keys)
        forward_row(caption_of(in, said, b), {s.words, s.units, s.word_size}, context,
                    out.weights + (row + b) * s.words);
      else
        std::copy_n(in.words + b * s.word_size, s.word_size, context);
    });
    multiply(matrix(encoder_gates, batch, 4 * s.encoder),
             in.left(encoder_in, batch, s.encoder_in()), encoder_ih,
             in.left(encoder_h, batch, s.encoder), encoder_hh);
    finish_lstm(encoder_gates, in.encoder_bias, encoder_h, encoder_c, s.encoder);
    multiply(matrix(posteriors, batch, 2 * s.latents),
             exact(encoder_h + batch * s.encoder, batch, s.encoder), posterior);
    team.each([&](ForwardWorkshop<T>& workshop, int64_t b) {
      T* const q = posteriors + b * 2 * s.latents;
      add_row(q, in.posterior_bias, 2 * s.latents);
      const T* const prior = out.said + (row + b) * heads + s.prior_at();
      forward_row({q, q + s.latents, prior, prior + s.latents,
                   in.noise + (b * s.steps + t) * s.latents},
                  decoder_in + b * s.decoder_in(), workshop.kl_terms, workshop.ratio_terms,
                  s.latents, out.kl + row + b, out.log_ratio + row + b);
    });
    multiply(matrix(decoder_gates, batch, 4 * s.decoder),
             in.left(decoder_in, batch, s.decoder_in()), decoder_ih,
             in.left(decoder_h, batch, s.decoder), decoder_hh);
    finish_lstm(decoder_gates, in.decoder_bias, decoder_h, decoder_c, s.decoder);
    multiply_heads(t + 1);
  }
  team.each([&](ForwardWorkshop<T>& workshop, int64_t b) {
    draw(workshop, s.steps, b, finish_heads(s.steps, b));
  });
}

// ---- backward ----

template <class T>
struct Grads {
  T *image, *canvas, *words, *keys, *noise, *encoder_ih, *encoder_hh, *encoder_bias, *encoder_h0,
      *posterior, *posterior_bias, *decoder_ih, *decoder_hh, *decoder_bias, *decoder_h0, *heads,
      *heads_bias, *score;  // image, keys and score are null where they are not wanted
};

template <class T>
struct BackwardWorkshop {
  explicit BackwardWorkshop(const UnrollSizes& s)
      : reader(s.channels, s.height, s.width, s.read_size, true),
        writer(s.channels, s.height, s.width, s.write_size),
        prior(2 * s.latents),
        energies(s.words) {}

  BackwardReader<T> reader;
  BackwardWriter<T> writer;
  Buffer<T> prior, energies;
};

// result [columns] = the sum of the rows. Sums of 64 rows are summed, for the sake of precision.
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
void run_backward(const Arguments<T>& in, const Tape<T, const T*>& tape, const T* grad_canvas,
                  const T* grad_kl, const T* grad_log_ratio, const T* grad_windows,
                  const T* grad_weights, const Grads<T>& out) {
  const auto& s = in.sizes;
  const int64_t batch = s.batch, steps = s.steps, volume = s.volume(), heads = s.heads();
  const int64_t rows = steps * batch;
  const Buffer<T> d_encoder_gates(rows * 4 * s.encoder), d_posteriors(rows * 2 * s.latents);
  const Buffer<T> d_decoder_gates(rows * 4 * s.decoder), d_decoder_in(rows * s.decoder_in());
  const Buffer<T> d_said((rows + batch) * heads), d_encoder_in(batch * s.encoder_in());
  const Buffer<T> d_canvas(batch * volume), d_score(batch * s.units);
  const Buffer<T> d_h_enc(batch * s.encoder), d_h_dec(batch * s.decoder);
  Buffer<T> d_c_enc(batch * s.encoder), d_c_enc_before(batch * s.encoder);
  Buffer<T> d_c_dec(batch * s.decoder), d_c_dec_before(batch * s.decoder);
  const Team<BackwardWorkshop<T>> team(
      batch, [&] { return std::make_unique<BackwardWorkshop<T>>(s); });

  // result = d w
  const auto weight = [&](const T* data, int64_t rows, int64_t columns) {
    return in.of_steps(matrix(data, rows, columns).transposed());
  };
  const auto encoder_ih = weight(in.encoder_ih, 4 * s.encoder, s.encoder_in());
  const auto encoder_hh = weight(in.encoder_hh, 4 * s.encoder, s.encoder);
  const auto posterior = weight(in.posterior, 2 * s.latents, s.encoder);
  const auto decoder_ih = weight(in.decoder_ih, 4 * s.decoder, s.decoder_in());
  const auto decoder_hh = weight(in.decoder_hh, 4 * s.decoder, s.decoder);
  const auto all_heads = weight(in.heads, heads, s.decoder);

  team.each([&](BackwardWorkshop<T>&, int64_t b) {
    std::copy_n(grad_canvas + b * volume, volume, d_canvas + b * volume);
    std::fill_n(d_h_enc + b * s.encoder, s.encoder, T(0));
    std::fill_n(d_c_enc + b * s.encoder, s.encoder, T(0));
    std::fill_n(d_h_dec + b * s.decoder, s.decoder, T(0));
    std::fill_n(d_c_dec + b * s.decoder, s.decoder, T(0));
    std::fill_n(d_score + b * s.units, s.units, T(0));
    // The last heads speak to no further step, and h0's draw nothing.
    std::fill_n(d_said + b * heads, heads, T(0));
    std::fill_n(d_said + (rows + b) * heads, heads, T(0));
    if (out.keys) std::fill_n(out.keys + b * s.words * s.units, s.words * s.units, T(0));
    if (out.image) std::fill_n(out.image + b * volume, volume, T(0));
  });
  const auto write_backward_at = [&](BackwardWorkshop<T>& workshop, int64_t t, int64_t b) {
    const T* const said = tape.said + ((t + 1) * batch + b) * heads;
    T* const d = d_said + ((t + 1) * batch + b) * heads;
    backward_row(workshop.writer, d_canvas + b * volume, said + s.patch_at(),
                 said + s.write_window_at(), d + s.patch_at(), d + s.write_window_at());
    add_row(d + s.write_window_at(), grad_windows + (t * batch + b) * 5, 5);
  };
  const auto read_backward_at = [&](BackwardWorkshop<T>& workshop, int64_t t, int64_t b) {
    const T* const input = d_encoder_in + b * s.encoder_in();
    const int64_t at = (t * batch + b) * heads + s.read_window_at();
    backward_row(workshop.reader,
                 {in.image + b * volume, tape.canvases + (t * batch + b) * volume, tape.said + at},
                 input,
                 {out.image ? out.image + b * volume : nullptr, d_said + at, d_canvas + b * volume,
                  true});
    add_row(d_h_dec + b * s.decoder, input + s.glimpse(), s.decoder);
  };
  const auto lstm_backward = [&](const Buffer<T>& d_h, Buffer<T>& d_c, Buffer<T>& d_c_before,
                                 const T* gates, const T* c, int64_t row, T* d_gates,
                                 int64_t units) {
    team.each([&](BackwardWorkshop<T>&, int64_t b) {
      backward_row(d_h + b * units, d_c + b * units, gates + (row + b) * 4 * units,
                   c + (row + b) * units, d_gates + b * 4 * units, d_c_before + b * units, units);
    });
    std::swap(d_c, d_c_before);
  };
  for (int64_t t = steps - 1; t >= 0; --t) {
    const int64_t row = t * batch;
    T *const encoder_gates = d_encoder_gates + row * 4 * s.encoder,
             *const posteriors = d_posteriors + row * 2 * s.latents,
             *const decoder_in = d_decoder_in + row * s.decoder_in(),
             *const decoder_gates = d_decoder_gates + row * 4 * s.decoder;
    team.each([&](BackwardWorkshop<T>& workshop, int64_t b) {
      if (t + 1 < steps) read_backward_at(workshop, t + 1, b);
      write_backward_at(workshop, t, b);
    });
    const auto d_h = matrix(d_h_dec.data(), batch, s.decoder);
    multiply(d_h, in.left(d_said + (row + batch) * heads, batch, heads), all_heads, true);
    lstm_backward(d_h_dec, d_c_dec, d_c_dec_before, tape.decoder_gates, tape.decoder_c, row,
                  decoder_gates, s.decoder);
    const auto d_dec = in.left(decoder_gates, batch, 4 * s.decoder);
    multiply(matrix(decoder_in, batch, s.decoder_in()), d_dec, decoder_ih);
    multiply(d_h, d_dec, decoder_hh);
    team.each([&](BackwardWorkshop<T>& workshop, int64_t b) {
      const T* const said = tape.said + (row + b) * heads;
      T* const d = d_said + (row + b) * heads;
      const T *const d_z = decoder_in + b * s.decoder_in(), *const prior = said + s.prior_at();
      if (in.keys)
        backward_row(d_z + s.latents, grad_weights + (row + b) * s.words, caption_of(in, said, b),
                     tape.weights + (row + b) * s.words, {s.words, s.units, s.word_size},
                     {d, out.keys + b * s.words * s.units, d_score + b * s.units, nullptr, true},
                     workshop.energies);
      const T* const q = tape.posteriors + (row + b) * 2 * s.latents;
      T* const d_q = posteriors + b * 2 * s.latents;
      T* const d_prior = workshop.prior;
      const int64_t noise = (b * steps + t) * s.latents;
      backward_row(d_z, grad_kl[row + b], grad_log_ratio[row + b],
                   {q, q + s.latents, prior, prior + s.latents, in.noise + noise},
                   {d_q, d_q + s.latents, d_prior, d_prior + s.latents, out.noise + noise},
                   s.latents);
      if (t > 0)
        for (int64_t j = 0; j < 2 * s.latents; ++j)
          d[s.prior_at() + j] = d_prior[j] * (1 - prior[j] * prior[j]);
    });
    const auto d_h_e = matrix(d_h_enc.data(), batch, s.encoder);
    multiply(d_h_e, in.left(posteriors, batch, 2 * s.latents), posterior, true);
    lstm_backward(d_h_enc, d_c_enc, d_c_enc_before, tape.encoder_gates, tape.encoder_c, row,
                  encoder_gates, s.encoder);
    const auto d_enc = in.left(encoder_gates, batch, 4 * s.encoder);
    multiply(matrix(d_encoder_in.data(), batch, s.encoder_in()), d_enc, encoder_ih);
    multiply(d_h_e, d_enc, encoder_hh);
  }
  team.each([&](BackwardWorkshop<T>& workshop, int64_t b) {
    read_backward_at(workshop, 0, b);
    T* const words = out.words + b * s.words * s.word_size;
    const T* const contexts = d_decoder_in + b * s.decoder_in() + s.latents;
    const int64_t pitch = batch * s.decoder_in();
    if (in.keys) {
      product(Factor<T>{tape.weights + b * s.words, 1, batch * s.words},
              Rows<const T>{contexts, pitch}, Rows<T>{words, s.word_size}, s.words, steps,
              s.word_size);
    } else {
      std::fill_n(words, s.word_size, T(0));
      for (int64_t t = 0; t < steps; ++t) add_row(words, contexts + t * pitch, s.word_size);
    }
  });
  multiply(matrix(d_h_dec.data(), batch, s.decoder), in.left(d_said, batch, heads), all_heads, true);

  // The gradient of each weight is one product over all steps.
  const auto over_steps = [&](const T* d, int64_t depth, int64_t count) {
    return Left<T>(matrix(d, depth, count).transposed(), in.bf16);
  };
  const auto weight_grad = [&](T* grad, const Left<T>& d, const T* inputs, int64_t width) {
    const auto [count, depth] = std::pair(d.matrix.rows, d.matrix.columns);
    multiply(matrix(grad, count, width), d, in.right(matrix(inputs, depth, width).transposed()));
  };
  const T *const d_enc = d_encoder_gates, *const d_dec = d_decoder_gates;
  {
    const auto d = over_steps(d_enc, rows, 4 * s.encoder);
    weight_grad(out.encoder_ih, d, tape.encoder_in, s.encoder_in());
    weight_grad(out.encoder_hh, d, tape.encoder_h, s.encoder);
  }
  {
    const auto d = over_steps(d_dec, rows, 4 * s.decoder);
    weight_grad(out.decoder_ih, d, tape.decoder_in, s.decoder_in());
    weight_grad(out.decoder_hh, d, tape.decoder_h, s.decoder);
  }
  weight_grad(out.posterior, over_steps(d_posteriors, rows, 2 * s.latents),
              tape.encoder_h + batch * s.encoder, s.encoder);
  weight_grad(out.heads, over_steps(d_said, rows + batch, heads), tape.decoder_h, s.decoder);
  sum_rows<T>(d_enc, rows, 4 * s.encoder, out.encoder_bias);
  sum_rows<T>(d_dec, rows, 4 * s.decoder, out.decoder_bias);
  sum_rows<T>(d_posteriors, rows, 2 * s.latents, out.posterior_bias);
  sum_rows<T>(d_said, rows + batch, heads, out.heads_bias);
  sum_rows<T>(d_h_enc, batch, s.encoder, out.encoder_h0);
  sum_rows<T>(d_h_dec, batch, s.decoder, out.decoder_h0);
  sum_rows<T>(d_canvas, batch, volume, out.canvas);
  if (out.score) sum_rows<T>(d_score, batch, s.units, out.score);
}

template <class T>
UnrollResults forward(const UnrollInputs& in) {
  const Arguments<T> arguments(in);
  const auto& s = arguments.sizes;
  const auto tensor = [&](std::initializer_list<int64_t> shape) {
    return pooled(shape, in.image.scalar_type());
  };
  const int64_t B = s.batch, steps = s.steps;
  UnrollResults results{tensor({B, s.channels, s.height, s.width}),
                        tensor({steps, B}),
                        tensor({steps, B}),
                        tensor({steps, B, 5}),
                        tensor({steps, B, in.keys ? s.words : 0}),
                        tensor({steps, B, s.encoder_in()}),
                        tensor({steps, B, 4 * s.encoder}),
                        tensor({steps + 1, B, s.encoder}),
                        tensor({steps + 1, B, s.encoder}),
                        tensor({steps, B, 2 * s.latents}),
                        tensor({steps, B, s.decoder_in()}),
                        tensor({steps, B, 4 * s.decoder}),
                        tensor({steps + 1, B, s.decoder}),
                        tensor({steps + 1, B, s.decoder}),
                        tensor({steps + 1, B, s.heads()}),
                        tensor({steps, B, s.channels, s.height, s.width})};
  std::apply(
      [&](const Tensor& last, const auto&... tape) {
        run_forward<T>(arguments, {tape.template mutable_data_ptr<T>()...},
                       last.template mutable_data_ptr<T>());
      },
      results);
  return results;
}

template <class T>
UnrollGrads backward(const std::array<Tensor, 5>& grads, const UnrollInputs& in,
                     const std::array<Tensor, 12>& tape, bool image_grad) {
  const Arguments<T> arguments(in);
  const auto& s = arguments.sizes;
  const auto like = [](const Tensor& tensor) {
    return torch::stable::new_empty(tensor, tensor.sizes());
  };
  const Tensor none = torch::stable::new_empty(in.image, {0});
  UnrollGrads results{image_grad ? like(in.image) : none,
                      like(in.canvas),
                      like(in.words),
                      in.keys ? like(*in.keys) : none,
                      like(in.noise),
                      like(in.encoder_ih),
                      like(in.encoder_hh),
                      like(in.encoder_bias),
                      like(in.encoder_h0),
                      like(in.posterior),
                      like(in.posterior_bias),
                      like(in.decoder_ih),
                      like(in.decoder_hh),
                      like(in.decoder_bias),
                      like(in.decoder_h0),
                      like(in.heads),
                      like(in.heads_bias),
                      in.score ? like(*in.score) : none};
  auto out = std::apply(
      [](const auto&... grad) { return Grads<T>{grad.template mutable_data_ptr<T>()...}; }, results);
  if (!image_grad) out.image = nullptr;
  if (!in.keys) out.keys = nullptr;
  if (!in.score) out.score = nullptr;
  std::vector<Tensor> kept;
  const auto data = [&](const Tensor& tensor) {
    kept.push_back(as_contiguous(tensor));
    return kept.back().template const_data_ptr<T>();
  };
  // Not on the tape of the backward: kl, log_ratio, windows.
  const Tape<T, const T*> pointers{nullptr,       nullptr,       nullptr,       data(tape[0]),
                                   data(tape[1]), data(tape[2]), data(tape[3]), data(tape[4]),
                                   data(tape[5]), data(tape[6]), data(tape[7]), data(tape[8]),
                                   data(tape[9]), data(tape[10]), data(tape[11])};
  run_backward<T>(arguments, pointers, data(grads[0]), data(grads[1]), data(grads[2]),
                  data(grads[3]), data(grads[4]), out);
  return results;
}

}  // namespace

UnrollResults unroll(ALIGNDRAW_UNROLL_PARAMETERS) {
  const UnrollInputs in{ALIGNDRAW_UNROLL_ARGUMENTS};
  check_unroll("unroll", in);
  return is_double(in.image) ? forward<double>(in) : forward<float>(in);
}

UnrollGrads unroll_backward(Tensor grad_canvas, Tensor grad_kl, Tensor grad_log_ratio,
                            Tensor grad_windows, Tensor grad_weights, ALIGNDRAW_UNROLL_PARAMETERS,
                            Tensor weights, Tensor encoder_in, Tensor encoder_gates,
                            Tensor encoder_h, Tensor encoder_c, Tensor posteriors,
                            Tensor decoder_in, Tensor decoder_gates, Tensor decoder_h,
                            Tensor decoder_c, Tensor said, Tensor canvases, bool image_grad) {
  const UnrollInputs in{ALIGNDRAW_UNROLL_ARGUMENTS};
  check_unroll("unroll_backward", in);
  const std::array<Tensor, 5> grads{grad_canvas, grad_kl, grad_log_ratio, grad_windows,
                                    grad_weights};
  const std::array<Tensor, 12> tape{weights,    encoder_in, encoder_gates, encoder_h,
                                    encoder_c,  posteriors, decoder_in,    decoder_gates,
                                    decoder_h,  decoder_c,  said,          canvases};
  check_unroll_backward(in, grads, tape);
  const auto run = is_double(in.image) ? backward<double> : backward<float>;
  return run(grads, in, tape, image_grad);
}

}  // namespace aligndraw::cpu
