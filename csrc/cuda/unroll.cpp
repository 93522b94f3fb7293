// The loop on a GPU: 8 launches a step forward and 9 back, of which 4 and 4 are products. Every
// consumer of a state is in one product (Consumers), and no product waits for what it does not need.
#include "unroll.h"

#include "../unroll_arrays.h"
#include "work.h"

namespace aligndraw::cuda {
namespace {

// What both directions need of the arguments, in the form that the products take it.
template <class T>
struct Weights {
  using Part = typename Consumers<T>::Part;

  Weights(Work<T>& work, const UnrollArguments<T>& in, bool forward)
      : of_decoder(work, in.sizes.decoder,
                   {Part{in.heads, in.sizes.heads(), in.sizes.decoder},
                    Part{in.encoder_ih + in.sizes.glimpse(), 4 * in.sizes.encoder,
                         in.sizes.encoder_in()},
                    Part{in.decoder_hh, 4 * in.sizes.decoder, in.sizes.decoder}},
                   // Priors, posteriors, windows and patches are never made of rounded factors.
                   forward ? in.sizes.units : 0, forward ? in.sizes.heads() : 0),
        of_encoder(work, in.sizes.encoder,
                   {Part{in.posterior, 2 * in.sizes.latents, in.sizes.encoder},
                    Part{in.encoder_hh, 4 * in.sizes.encoder, in.sizes.encoder}},
                   0, forward ? 2 * in.sizes.latents : 0) {
    const auto& s = in.sizes;
    const auto factor = [&](const T* data, int64_t rows, int64_t columns, int64_t pitch) {
      T* const room = work.rounds() ? work.room(rows * columns) : nullptr;
      return work.rounded(Matrix<const T>{data, rows, columns, pitch}, room);
    };
    of_glimpse = factor(in.encoder_ih, 4 * s.encoder, s.glimpse(), s.encoder_in());
    of_latent = factor(in.decoder_ih, 4 * s.decoder, s.latents, s.decoder_in());
    of_context = factor(in.decoder_ih + s.latents, 4 * s.decoder, s.word_size, s.decoder_in());
    const auto words = factor(in.words, s.batch * s.words, s.word_size, s.word_size);
    pushes = work.room(s.batch * s.words * 4 * s.decoder);
    work.multiply(matrix(pushes, s.batch * s.words, 4 * s.decoder), words, of_context.transposed());
  }

  // h_dec says the heads, and adds to the gates of both LSTMs; h_enc makes the posterior, and adds to
  // its own gates.
  Consumers<T> of_decoder, of_encoder;
  Matrix<const T> of_glimpse, of_latent, of_context;
  T* pushes;  // what each word adds to the decoder's gates, [B, N, 4n]
};

// Room for the largest factor that a step rounds.
template <class T>
T* rounding_room(Work<T>& work, const UnrollSizes& s, int64_t rows) {
  const int64_t columns = std::max({s.heads() + 4 * s.encoder + 4 * s.decoder, s.encoder_in(),
                                    2 * s.latents + 4 * s.encoder, s.decoder_in()});
  return work.rounds() ? work.room(rows * columns) : nullptr;
}

template <class T>
Captions<T> captions_of(const UnrollArguments<T>& in, const T* pushes) {
  return {in.words, in.keys, in.score, pushes, in.lengths};
}

template <class T>
void run_forward(const UnrollArguments<T>& in, const UnrollTape<T*>& out, T* last, Work<T>& work) {
  const auto& s = in.sizes;
  const int64_t B = s.batch, volume = s.volume(), heads = s.heads();
  const int64_t encoder_gates = 4 * s.encoder, decoder_gates = 4 * s.decoder;
  const Weights<T> weights(work, in, true);
  const int64_t spoken_size = weights.of_decoder.columns(), moved_size = weights.of_encoder.columns();
  T *const spoken = work.room(B * spoken_size), *const moved = work.room(B * moved_size);
  T *const seen = work.room(B * encoder_gates), *const drawn = work.room(B * decoder_gates);
  T *const push = work.room(B * decoder_gates), *const room = rounding_room(work, s, B);

  work.copy({in.encoder_h0, 0}, {out.encoder_h, s.encoder}, B, s.encoder);
  work.copy({in.decoder_h0, 0}, {out.decoder_h, s.decoder}, B, s.decoder);
  work.zero(out.encoder_c, B * s.encoder);
  work.zero(out.decoder_c, B * s.decoder);
  weights.of_decoder.forward(spoken, out.decoder_h, B, room);
  weights.of_encoder.forward(moved, out.encoder_h, B, room);
  const auto look_at = [&](int64_t t) {
    const int64_t row = t * B;
    Look<T> look{};
    look.spoken = {spoken, spoken_size};
    look.heads_bias = in.heads_bias;
    look.image = in.image;
    look.before = t ? Rows<const T>{out.canvases + (row - B) * volume, volume}
                    : Rows<const T>{in.canvas, 0};
    look.draws = t > 0;
    look.said = out.said + row * heads;
    look.canvas = t < s.steps ? out.canvases + row * volume : last;
    look.windows = t ? out.windows + (row - B) * 5 : nullptr;
    if (t == s.steps) return look;
    look.decoder_h = out.decoder_h + row * s.decoder;
    look.captions = captions_of(in, weights.pushes);
    look.encoder_in = out.encoder_in + row * s.encoder_in();
    look.weights = out.weights + row * s.words;
    look.context = {out.decoder_in + row * s.decoder_in() + s.latents, s.decoder_in()};
    look.push = push;
    return look;
  };
  for (int64_t t = 0; t < s.steps; ++t) {
    const int64_t row = t * B;
    work.check(launch_look(look_at(t), s, work.stream()));
    work.multiply(matrix(seen, B, encoder_gates),
                  work.rounded({out.encoder_in + row * s.encoder_in(), B, s.glimpse(),
                                s.encoder_in()}, room),
                  weights.of_glimpse.transposed());
    work.check(launch_lstm_step(
        LstmStep<T>{{{seen, encoder_gates}, {spoken + heads, spoken_size},
                     {moved + 2 * s.latents, moved_size}},
                    in.encoder_bias,
                    out.encoder_c + row * s.encoder,
                    out.encoder_gates + row * encoder_gates,
                    out.encoder_h + (row + B) * s.encoder,
                    out.encoder_c + (row + B) * s.encoder},
        B, s.encoder, work.stream()));
    weights.of_encoder.forward(moved, out.encoder_h + (row + B) * s.encoder, B, room);
    T* const z = out.decoder_in + row * s.decoder_in();
    work.check(launch_infer(
        Infer<T>{{moved, moved_size},
                 in.posterior_bias,
                 {out.said + row * heads + s.prior_at(), heads},
                 {in.noise + t * s.latents, s.steps * s.latents},
                 out.posteriors + row * 2 * s.latents,
                 {z, s.decoder_in()},
                 out.kl + row,
                 out.log_ratio + row},
        s, work.stream()));
    work.multiply(matrix(drawn, B, decoder_gates),
                  work.rounded({z, B, s.latents, s.decoder_in()}, room),
                  weights.of_latent.transposed());
    work.check(launch_lstm_step(
        LstmStep<T>{{{drawn, decoder_gates}, {spoken + heads + encoder_gates, spoken_size},
                     {in.keys ? push : weights.pushes, decoder_gates}},
                    in.decoder_bias,
                    out.decoder_c + row * s.decoder,
                    out.decoder_gates + row * decoder_gates,
                    out.decoder_h + (row + B) * s.decoder,
                    out.decoder_c + (row + B) * s.decoder},
        B, s.decoder, work.stream()));
    weights.of_decoder.forward(spoken, out.decoder_h + (row + B) * s.decoder, B, room);
  }
  work.check(launch_last_write(look_at(s.steps), s, work.stream()));
}

template <class T>
void run_backward(const UnrollArguments<T>& in, const UnrollTape<const T*>& tape,
                  const UnrollGiven<T>& given, const UnrollGradPointers<T>& out, Work<T>& work) {
  const auto& s = in.sizes;
  const int64_t B = s.batch, steps = s.steps, volume = s.volume(), heads = s.heads();
  const int64_t encoder_gates = 4 * s.encoder, decoder_gates = 4 * s.decoder, rows = steps * B;
  const Weights<T> weights(work, in, false);
  const int64_t of_decoder = weights.of_decoder.columns(), of_encoder = weights.of_encoder.columns();
  const int64_t decoder_at = heads + encoder_gates;  // the decoder's gates among its columns
  // The gradients of all that came of each state, [T + 1, B, columns].
  T *const d_decoder = work.room((rows + B) * of_decoder);
  T *const d_encoder = work.room((rows + B) * of_encoder);
  T *const d_h_dec = work.room(B * s.decoder), *const d_c_dec = work.room(B * s.decoder);
  T *const d_h_enc = work.room(B * s.encoder), *const d_c_enc = work.room(B * s.encoder);
  T *const d_canvas = work.room(B * volume), *const d_glimpse = work.room(B * s.glimpse());
  T *const d_z = work.room(B * s.latents), *const d_score = work.room(B * s.units);
  T *const energies = work.room(B * s.words), *const room = rounding_room(work, s, rows + B);

  work.copy({given.canvas, volume}, {d_canvas, volume}, B, volume);
  work.zero(d_c_dec, B * s.decoder);
  work.zero(d_c_enc, B * s.encoder);
  work.zero(d_score, B * s.units);
  if (out.keys) work.zero(out.keys, B * s.words * s.units);
  if (out.image) work.zero(out.image, B * volume);
  // The last states have no step after them, and the first no write and no posterior before.
  for (const int64_t row : {int64_t(0), rows}) {
    work.zero(d_decoder + row * of_decoder, B * of_decoder);
    work.zero(d_encoder + row * of_encoder, B * of_encoder);
  }
  const auto look_backward = [&](int64_t t) {
    const int64_t row = t * B;
    work.check(launch_look_backward(
        LookBackward<T>{in.image,
                        tape.canvases + row * volume,
                        {tape.said + row * heads + s.read_window_at(), heads},
                        d_glimpse,
                        d_canvas,
                        out.image,
                        {d_decoder + row * of_decoder + s.read_window_at(), of_decoder}},
        s, work.stream()));
  };
  for (int64_t t = steps - 1; t >= 0; --t) {
    const int64_t row = t * B, next = row + B;
    T *const d_now = d_decoder + row * of_decoder, *const d_next = d_decoder + next * of_decoder;
    const T* const said = tape.said + next * heads;
    if (t + 1 < steps) look_backward(t + 1);
    work.check(launch_draw_backward(
        DrawBackward<T>{d_canvas,
                        given.windows + row * 5,
                        {said + s.patch_at(), heads},
                        {said + s.write_window_at(), heads},
                        {d_next + s.patch_at(), of_decoder},
                        {d_next + s.write_window_at(), of_decoder}},
        s, work.stream()));
    weights.of_decoder.backward(d_h_dec, d_next, B, room);
    work.check(launch_lstm_step_backward(
        LstmStepBackward<T>{{d_h_dec, s.decoder},
                            d_c_dec,
                            tape.decoder_gates + row * decoder_gates,
                            tape.decoder_c + row * s.decoder,
                            {{d_now + decoder_at, of_decoder}, {}}},
        B, s.decoder, work.stream()));
    work.multiply(matrix(d_z, B, s.latents),
                  work.rounded({d_now + decoder_at, B, decoder_gates, of_decoder}, room),
                  weights.of_latent);
    work.check(launch_recall_backward(
        RecallBackward<T>{captions_of(in, weights.pushes),
                          {tape.said + row * heads, heads},
                          tape.weights + row * s.words,
                          given.weights + row * s.words,
                          {d_now + decoder_at, of_decoder},
                          {d_z, s.latents},
                          given.kl + row,
                          given.log_ratio + row,
                          tape.posteriors + row * 2 * s.latents,
                          {in.noise + t * s.latents, steps * s.latents},
                          energies,
                          out.keys,
                          d_score,
                          {d_now, of_decoder},
                          {d_encoder + next * of_encoder, of_encoder},
                          {out.noise + t * s.latents, steps * s.latents},
                          t > 0},
        s, work.stream()));
    weights.of_encoder.backward(d_h_enc, d_encoder + next * of_encoder, B, room);
    T* const d_gates = d_encoder + row * of_encoder + 2 * s.latents;
    work.check(launch_lstm_step_backward(
        LstmStepBackward<T>{{d_h_enc, s.encoder},
                            d_c_enc,
                            tape.encoder_gates + row * encoder_gates,
                            tape.encoder_c + row * s.encoder,
                            {{d_gates, of_encoder}, {d_now + heads, of_decoder}}},
        B, s.encoder, work.stream()));
    work.multiply(matrix(d_glimpse, B, s.glimpse()),
                  work.rounded({d_gates, B, encoder_gates, of_encoder}, room), weights.of_glimpse);
  }
  look_backward(0);
  weights.of_decoder.backward(d_h_dec, d_decoder, B, room);
  weights.of_encoder.backward(d_h_enc, d_encoder, B, room);

  work.sum_rows(d_canvas, volume, B, volume, out.canvas);
  work.sum_rows(d_h_enc, s.encoder, B, s.encoder, out.encoder_h0);
  work.sum_rows(d_h_dec, s.decoder, B, s.decoder, out.decoder_h0);
  work.sum_rows(d_decoder, of_decoder, rows + B, heads, out.heads_bias);
  work.sum_rows(d_decoder + heads, of_decoder, rows, encoder_gates, out.encoder_bias);
  work.sum_rows(d_decoder + decoder_at, of_decoder, rows, decoder_gates, out.decoder_bias);
  work.sum_rows(d_encoder + B * of_encoder, of_encoder, rows, 2 * s.latents, out.posterior_bias);
  if (out.score) work.sum_rows(d_score, s.units, B, s.units, out.score);

  // The gradient of each weight is one product over all steps.
  const auto of_all = work.rounded(matrix<const T>(d_decoder, rows + B, of_decoder), room);
  const auto columns = [&](int64_t from, int64_t count, int64_t depth) {
    return Matrix<const T>{of_all.data + from, depth, count, of_all.row};
  };
  T* const inputs_room = rounding_room(work, s, rows + B);
  const auto weight_grad = [&](T* grad, Matrix<const T> d, const T* inputs, int64_t width) {
    work.multiply(matrix(grad, d.columns, width), d.transposed(),
                  work.rounded(matrix(inputs, d.rows, width), inputs_room));
  };
  weight_grad(out.heads, columns(0, heads, rows + B), tape.decoder_h, s.decoder);
  weight_grad(out.encoder_ih, columns(heads, encoder_gates, rows), tape.encoder_in, s.encoder_in());
  weight_grad(out.encoder_hh, columns(heads, encoder_gates, rows), tape.encoder_h, s.encoder);
  weight_grad(out.decoder_ih, columns(decoder_at, decoder_gates, rows), tape.decoder_in,
              s.decoder_in());
  weight_grad(out.decoder_hh, columns(decoder_at, decoder_gates, rows), tape.decoder_h, s.decoder);

  // The words', from those of the contexts of all steps.
  const int64_t d = s.word_size;
  T* const contexts = work.room(rows * d);
  work.multiply(matrix(contexts, rows, d), columns(decoder_at, decoder_gates, rows),
                weights.of_context);
  if (in.keys)
    work.multiply(Matrices<T>{matrix(out.words, s.words, d), B, s.words * d},
                  {{tape.weights, s.words, steps, 1, B * s.words}, B, s.words},
                  {{contexts, steps, d, B * d}, B, d});
  else
    work.sum_rows(contexts, B * d, steps, B * d, out.words);

  const auto posteriors = work.rounded(
      {d_encoder + B * of_encoder, rows, 2 * s.latents, of_encoder}, room);
  weight_grad(out.posterior, posteriors, tape.encoder_h + B * s.encoder, s.encoder);
}

}  // namespace

UnrollResults unroll(ALIGNDRAW_UNROLL_PARAMETERS) {
  const UnrollInputs in{ALIGNDRAW_UNROLL_ARGUMENTS};
  check_unroll("unroll", in);
  const auto make = [&](std::initializer_list<int64_t> shape) {
    return torch::stable::new_empty(in.image, {shape.begin(), shape.size()});
  };
  const auto run = [&]<class T>(T) {
    return unroll_results<T>(in, make, [&](const UnrollTape<T*>& tape, T* last) {
      Work<T> work("unroll", in.image, in.bf16);
      run_forward(UnrollArguments<T>(in), tape, last, work);
    });
  };
  return is_double(in.image) ? run(double()) : run(float());
}

UnrollGrads unroll_backward(ALIGNDRAW_UNROLL_GRAD_PARAMETERS) {
  const UnrollInputs in{ALIGNDRAW_UNROLL_ARGUMENTS};
  check_unroll("unroll_backward", in);
  const std::array<Tensor, 5> grads{grad_canvas, grad_kl, grad_log_ratio, grad_windows, grad_weights};
  const std::array<Tensor, 12> tape{ALIGNDRAW_UNROLL_TAPE};
  check_unroll_backward(in, grads, tape);
  const auto run = [&]<class T>(T) {
    return unroll_grads<T>(in, grads, tape, image_grad,
                           [&](const auto& tape, const auto& given, const auto& out) {
                             Work<T> work("unroll_backward", in.image, in.bf16);
                             run_backward(UnrollArguments<T>(in), tape, given, out, work);
                           });
  };
  return is_double(in.image) ? run(double()) : run(float());
}

}  // namespace aligndraw::cuda
