// The loop on a GPU, in one launch each way, or in 8 launches a step forward and 9 back, of which 4
// and 4 are products. Every consumer of a state is in one product (Consumers), and no product waits
// for what it does not need.
#include "unroll.h"

#include "../unroll_arrays.h"
#include "work.h"

namespace aligndraw::cuda {
namespace {

// What training takes by itself where there is room for it: no GPU has shown it to be the faster
// one.
constexpr bool persistent_training = false;

// The weights of the contexts, and what each word adds to the decoder's gates, [B, N, 4n].
template <class T>
struct Context {
  Context(Work<T>& work, const UnrollPointers<T>& in) {
    const auto& s = in.sizes;
    const int64_t gates = 4 * s.decoder, rows = s.batch * s.words;
    weights = work.factor({in.decoder_ih + s.latents, gates, s.word_size, s.decoder_in()});
    pushes = work.room(rows * gates);
    work.multiply(matrix(pushes, rows, gates), work.factor(matrix(in.words, rows, s.word_size)),
                  weights.transposed());
  }

  Factor<T> weights;
  T* pushes;
};

// The weights of the steps, in the form that PyTorch's products take them.
template <class T>
struct Weights {
  using Part = typename Consumers<T>::Part;

  Weights(Work<T>& work, const UnrollPointers<T>& in, bool forward)
      : of_decoder(
            work, in.sizes.decoder,
            {Part{in.heads, in.sizes.heads(), in.sizes.decoder},
             Part{in.encoder_ih + in.sizes.glimpse(), 4 * in.sizes.encoder, in.sizes.encoder_in()},
             Part{in.decoder_hh, 4 * in.sizes.decoder, in.sizes.decoder}},
            // Priors, posteriors, windows and patches are never made of rounded factors.
            forward ? in.sizes.units : 0, forward ? in.sizes.heads() : 0),
        of_encoder(work, in.sizes.encoder,
                   {Part{in.posterior, 2 * in.sizes.latents, in.sizes.encoder},
                    Part{in.encoder_hh, 4 * in.sizes.encoder, in.sizes.encoder}},
                   0, forward ? 2 * in.sizes.latents : 0),
        of_glimpse(work.factor(
            {in.encoder_ih, 4 * in.sizes.encoder, in.sizes.glimpse(), in.sizes.encoder_in()})),
        of_latent(work.factor(
            {in.decoder_ih, 4 * in.sizes.decoder, in.sizes.latents, in.sizes.decoder_in()})) {}

  // h_dec says the heads, and adds to the gates of both LSTMs; h_enc makes the posterior, and adds
  // to its own gates.
  Consumers<T> of_decoder, of_encoder;
  Factor<T> of_glimpse, of_latent;
};

// Room for the largest factor that a step rounds.
template <class T>
BFloat16* rounding_room(Work<T>& work, const UnrollSizes& s, int64_t rows) {
  const int64_t columns = std::max({s.heads() + 4 * s.encoder + 4 * s.decoder, s.encoder_in(),
                                    2 * s.latents + 4 * s.encoder, s.decoder_in()});
  return work.rounding_room(rows * columns);
}

template <class T>
void forward_by_launches(Forward<T>& loop, Work<T>& work) {
  const auto& s = loop.in.sizes;
  const auto& out = loop.out;
  const int64_t B = s.batch, heads = s.heads();
  const int64_t encoder_gates = 4 * s.encoder, decoder_gates = 4 * s.decoder;
  const Weights<T> weights(work, loop.in, true);
  const int64_t spoken_size = weights.of_decoder.columns(),
                moved_size = weights.of_encoder.columns();
  T *const spoken = work.room(B * spoken_size), *const moved = work.room(B * moved_size);
  T *const seen = work.room(B * encoder_gates), *const drawn = work.room(B * decoder_gates);
  BFloat16* const room = rounding_room(work, s, B);

  loop.spoken = {spoken, spoken_size};
  weights.of_decoder.forward(spoken, out.decoder_h, B, room);
  weights.of_encoder.forward(moved, out.encoder_h, B, room);
  for (int64_t t = 0; t < (B ? s.steps : 0); ++t) {
    const Look<T> look = loop.look(t);
    work.check(launch_look(look, s, work.stream()));
    work.multiply(matrix(seen, B, encoder_gates),
                  work.factor({look.encoder_in, B, s.glimpse(), s.encoder_in()}, room),
                  weights.of_glimpse.transposed());
    LstmStep<T> encode = loop.encode(t);
    encode.terms[0] = {seen, encoder_gates};
    encode.terms[1] = {spoken + heads, spoken_size};
    encode.terms[2] = {moved + 2 * s.latents, moved_size};
    work.check(launch_lstm_step(encode, B, s.encoder, work.stream()));
    weights.of_encoder.forward(moved, encode.h, B, room);
    const Infer<T> infer = loop.infer(t, {moved, moved_size});
    work.check(launch_infer(infer, s, work.stream()));
    work.multiply(matrix(drawn, B, decoder_gates),
                  work.factor({infer.z.data, B, s.latents, infer.z.pitch}, room),
                  weights.of_latent.transposed());
    LstmStep<T> decode = loop.decode(t);
    decode.terms[1] = {drawn, decoder_gates};
    decode.terms[2] = {spoken + heads + encoder_gates, spoken_size};
    work.check(launch_lstm_step(decode, B, s.decoder, work.stream()));
    weights.of_decoder.forward(spoken, decode.h, B, room);
  }
}

template <class T>
void run_forward(const UnrollPointers<T>& in, const UnrollTape<T*>& out, T* last, Work<T>& work) {
  const auto& s = in.sizes;
  const int64_t B = s.batch;
  const Context<T> context(work, in);
  Forward<T> loop{in, out, context.pushes, last, {}, work.room(B * 4 * s.decoder)};
  work.copy({in.encoder_h0, 0}, {out.encoder_h, s.encoder}, B, s.encoder);
  work.copy({in.decoder_h0, 0}, {out.decoder_h, s.decoder}, B, s.decoder);
  work.zero(out.encoder_c, B * s.encoder);
  work.zero(out.decoder_c, B * s.decoder);
  const auto make_fit = [&] { return forward_fit<T>(s, work.rounds()); };
  if (const auto fit = one_launch("unroll", persistent_training, make_fit)) {
    loop.spoken = {work.room(B * s.heads()), s.heads()};
    work.check(launch_forward(loop, work.rounds(), *fit, work.stream()));
  } else {
    forward_by_launches(loop, work);
  }
  work.check(launch_last_write(loop.look(s.steps), s, work.stream()));
  work.check(launch_divergences(loop, work.stream()));
}

template <class T>
void backward_by_launches(const Backward<T>& loop, Work<T>& work) {
  const auto& s = loop.in.sizes;
  const int64_t B = s.batch;
  const Weights<T> weights(work, loop.in, false);
  T* const d_z = work.room(B * s.latents);
  BFloat16* const room = rounding_room(work, s, B);
  for (int64_t t = B ? s.steps - 1 : -1; t >= 0; --t) {
    if (t + 1 < s.steps) work.check(launch_look_backward(loop.look(t + 1), s, work.stream()));
    work.check(launch_draw_backward(loop.draw(t), s, work.stream()));
    weights.of_decoder.backward(loop.h_dec, loop.decoder(t + 1).data, B, room);
    work.check(launch_lstm_step_backward(loop.decode(t), B, s.decoder, work.stream()));
    const Rows<T> of_decoder = loop.decoder_gates(t), of_encoder = loop.encoder_gates(t);
    work.multiply(matrix(d_z, B, s.latents),
                  work.factor({of_decoder.data, B, 4 * s.decoder, of_decoder.pitch}, room),
                  weights.of_latent);
    work.check(launch_recall_backward(loop.recall(t, {d_z, s.latents}), s, work.stream()));
    weights.of_encoder.backward(loop.h_enc, loop.encoder(t + 1).data, B, room);
    work.check(launch_lstm_step_backward(loop.encode(t), B, s.encoder, work.stream()));
    work.multiply(matrix(loop.glimpse, B, s.glimpse()),
                  work.factor({of_encoder.data, B, 4 * s.encoder, of_encoder.pitch}, room),
                  weights.of_glimpse);
  }
  work.check(launch_look_backward(loop.look(0), s, work.stream()));
  weights.of_decoder.backward(loop.h_dec, loop.decoder(0).data, B, room);
  weights.of_encoder.backward(loop.h_enc, loop.encoder(0).data, B, room);
}

template <class T>
void run_backward(const UnrollPointers<T>& in, const UnrollTape<const T*>& tape,
                  const UnrollGiven<T>& given, const UnrollGradPointers<T>& out, Work<T>& work) {
  const auto& s = in.sizes;
  const int64_t B = s.batch, steps = s.steps, volume = s.volume(), heads = s.heads();
  const int64_t encoder_gates = 4 * s.encoder, decoder_gates = 4 * s.decoder, rows = steps * B;
  const Context<T> context(work, in);
  Backward<T> loop{};
  loop.in = in, loop.tape = tape, loop.given = given, loop.out = out;
  loop.pushes = context.pushes;
  const int64_t of_decoder = loop.decoder_columns(), of_encoder = loop.encoder_columns();
  const int64_t decoder_at = heads + encoder_gates;  // the decoder's gates among its columns
  T* const d_decoder = loop.of_decoder = work.room((rows + B) * of_decoder);
  T* const d_encoder = loop.of_encoder = work.room((rows + B) * of_encoder);
  loop.h_dec = work.room(B * s.decoder), loop.c_dec = work.room(B * s.decoder);
  loop.h_enc = work.room(B * s.encoder), loop.c_enc = work.room(B * s.encoder);
  loop.canvas = work.room(B * volume), loop.glimpse = work.room(B * s.glimpse());
  loop.score = work.room(B * s.units), loop.energies = work.room(B * s.words);

  work.copy({given.canvas, volume}, {loop.canvas, volume}, B, volume);
  work.zero(loop.c_dec, B * s.decoder);
  work.zero(loop.c_enc, B * s.encoder);
  work.zero(loop.score, B * s.units);
  if (out.keys) work.zero(out.keys, B * s.words * s.units);
  if (out.image) work.zero(out.image, B * volume);
  // The last states have no step after them, and the first no write and no posterior before.
  for (const int64_t t : {int64_t(0), steps}) {
    work.zero(loop.decoder(t).data, B * of_decoder);
    work.zero(loop.encoder(t).data, B * of_encoder);
  }
  const auto make_fit = [&] { return backward_fit<T>(s, work.rounds()); };
  if (const auto fit = one_launch("unroll_backward", persistent_training, make_fit))
    work.check(launch_backward(loop, work.rounds(), *fit, work.stream()));
  else
    backward_by_launches(loop, work);

  work.sum_rows(loop.canvas, volume, B, volume, out.canvas);
  work.sum_rows(loop.h_enc, s.encoder, B, s.encoder, out.encoder_h0);
  work.sum_rows(loop.h_dec, s.decoder, B, s.decoder, out.decoder_h0);
  work.sum_rows(d_decoder, of_decoder, rows + B, heads, out.heads_bias);
  work.sum_rows(d_decoder + heads, of_decoder, rows, encoder_gates, out.encoder_bias);
  work.sum_rows(d_decoder + decoder_at, of_decoder, rows, decoder_gates, out.decoder_bias);
  work.sum_rows(d_encoder + B * of_encoder, of_encoder, rows, 2 * s.latents, out.posterior_bias);
  if (out.score) work.sum_rows(loop.score, s.units, B, s.units, out.score);

  // The gradient of each weight is one product over all steps.
  const Factor<T> of_all = work.factor(matrix<const T>(d_decoder, rows + B, of_decoder));
  const auto columns = [&](int64_t from, int64_t count, int64_t depth) {
    return of_all.rows_from(0, depth).columns_from(from, count);
  };
  BFloat16* const inputs_room = rounding_room(work, s, rows + B);
  const auto weight_grad = [&](T* grad, const Factor<T>& d, const T* inputs, int64_t width) {
    work.multiply(matrix(grad, d.columns(), width), d.transposed(),
                  work.factor(matrix(inputs, d.rows(), width), inputs_room));
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
                context.weights);
  if (in.keys)
    work.multiply(Matrices<T>{matrix(out.words, s.words, d), B, s.words * d},
                  {{tape.weights, s.words, steps, 1, B * s.words}, B, s.words},
                  {{contexts, steps, d, B * d}, B, d});
  else
    work.sum_rows(contexts, B * d, steps, B * d, out.words);

  const Factor<T> posteriors =
      work.factor({d_encoder + B * of_encoder, rows, 2 * s.latents, of_encoder});
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
  const std::array<Tensor, 5> grads{grad_canvas, grad_kl, grad_log_ratio, grad_windows,
                                    grad_weights};
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
