// unroll on a GPU, in one of two forms: 8 launches per step forward and 9 back, four of them
// products each way; or one launch each way for all steps. All weights of a state are stacked for
// one product (StackedWeights).
#include "unroll.h"

#include "../unroll_arrays.h"
#include "work.h"

namespace aligndraw::cuda {
namespace {

// "auto" never trains in one launch: no GPU has shown that form to be faster.
constexpr bool persistent_training = false;

// The decoder's weights of the context, and each word's gates: its product with them.
template <class T>
struct Context {
  Context(Work<T>& work, const UnrollPointers<T>& in) {
    const auto& s = in.sizes;
    const int64_t gates = 4 * s.decoder, rows = s.batch * s.words;
    weights = work.operand({in.decoder_ih + s.latents, gates, s.word_size, s.decoder_in()});
    word_gates = work.allocate(rows * gates);
    work.multiply(matrix(word_gates, rows, gates),
                  work.operand(matrix(in.words, rows, s.word_size)), weights.transposed());
  }

  Operand<T> weights;  // [4n, d]
  T* word_gates;       // [B, N, 4n]
};

// The weights of the steps as operands of PyTorch's products.
template <class T>
struct Weights {
  using WeightSlice = typename StackedWeights<T>::WeightSlice;

  Weights(Work<T>& work, const UnrollPointers<T>& in, bool forward)
      : of_decoder(work, in.sizes.decoder,
                   {WeightSlice{in.heads, in.sizes.heads(), in.sizes.decoder},
                    WeightSlice{in.encoder_ih + in.sizes.glimpse(), 4 * in.sizes.encoder,
                                in.sizes.encoder_in()},
                    WeightSlice{in.decoder_hh, 4 * in.sizes.decoder, in.sizes.decoder}},
                   // The operands of priors, posteriors, windows and patches are never rounded.
                   forward ? in.sizes.units : 0, forward ? in.sizes.heads() : 0),
        of_encoder(work, in.sizes.encoder,
                   {WeightSlice{in.posterior, 2 * in.sizes.latents, in.sizes.encoder},
                    WeightSlice{in.encoder_hh, 4 * in.sizes.encoder, in.sizes.encoder}},
                   0, forward ? 2 * in.sizes.latents : 0),
        of_glimpse(work.operand(
            {in.encoder_ih, 4 * in.sizes.encoder, in.sizes.glimpse(), in.sizes.encoder_in()})),
        of_latent(work.operand(
            {in.decoder_ih, 4 * in.sizes.decoder, in.sizes.latents, in.sizes.decoder_in()})) {}

  StackedWeights<T> of_decoder;  // heads, gates of both LSTMs
  StackedWeights<T> of_encoder;  // posterior, the encoder's own gates
  Operand<T> of_glimpse;         // [4e, G]
  Operand<T> of_latent;          // [4n, z]
};

// Memory for the largest operand that a step rounds.
template <class T>
BFloat16* allocate_rounding(Work<T>& work, const UnrollSizes& s, int64_t rows) {
  const int64_t columns = std::max({s.heads() + 4 * s.encoder + 4 * s.decoder, s.encoder_in(),
                                    2 * s.latents + 4 * s.encoder, s.decoder_in()});
  return work.allocate_rounding(rows * columns);
}

template <class T>
void forward_by_launches(Forward<T>& loop, Work<T>& work) {
  const auto& s = loop.in.sizes;
  const auto& out = loop.out;
  const int64_t B = s.batch, heads = s.heads();
  const int64_t encoder_gates = 4 * s.encoder, decoder_gates = 4 * s.decoder;
  const Weights<T> weights(work, loop.in, true);
  // Products with h_dec, heads | encoder gates | decoder gates, and with h_enc, posterior | encoder
  // gates.
  const int64_t decoder_columns = weights.of_decoder.columns();
  const int64_t encoder_columns = weights.of_encoder.columns();
  T* const decoder_products = work.allocate(B * decoder_columns);
  T* const encoder_products = work.allocate(B * encoder_columns);
  T* const glimpse_gates = work.allocate(B * encoder_gates);
  T* const latent_gates = work.allocate(B * decoder_gates);
  BFloat16* const rounding = allocate_rounding(work, s, B);

  loop.head_products = {decoder_products, decoder_columns};
  weights.of_decoder.forward(decoder_products, out.decoder_h, B, rounding);
  weights.of_encoder.forward(encoder_products, out.encoder_h, B, rounding);
  for (int64_t t = 0; t < (B ? s.steps : 0); ++t) {
    const ReadAttend<T> read_attend = loop.read_attend(t);
    work.check(launch_stage(read_attend, s, work.stream()));
    work.multiply(matrix(glimpse_gates, B, encoder_gates),
                  work.operand({read_attend.encoder_in, B, s.glimpse(), s.encoder_in()}, rounding),
                  weights.of_glimpse.transposed());
    LstmStep<T> encode = loop.encode(t);
    encode.terms[0] = {glimpse_gates, encoder_gates};
    encode.terms[1] = {decoder_products + heads, decoder_columns};
    encode.terms[2] = {encoder_products + 2 * s.latents, encoder_columns};
    work.check(launch_lstm_step(encode, B, s.encoder, work.stream()));
    weights.of_encoder.forward(encoder_products, encode.h, B, rounding);
    const Infer<T> infer = loop.infer(t, {encoder_products, encoder_columns});
    work.check(launch_stage(infer, s, work.stream()));
    work.multiply(matrix(latent_gates, B, decoder_gates),
                  work.operand({infer.z.data, B, s.latents, infer.z.row_stride}, rounding),
                  weights.of_latent.transposed());
    LstmStep<T> decode = loop.decode(t);
    decode.terms[1] = {latent_gates, decoder_gates};
    decode.terms[2] = {decoder_products + heads + encoder_gates, decoder_columns};
    work.check(launch_lstm_step(decode, B, s.decoder, work.stream()));
    weights.of_decoder.forward(decoder_products, decode.h, B, rounding);
  }
}

template <class T>
void run_forward(const UnrollPointers<T>& in, const UnrollOutputs<T>& out, Work<T>& work) {
  const auto& s = in.sizes;
  const int64_t B = s.batch;
  const Context<T> context(work, in);
  Forward<T> loop{.in = in,
                  .out = out,
                  .word_gates = context.word_gates,
                  .head_products = {},
                  .context_gates = work.allocate(B * 4 * s.decoder)};
  work.copy({in.encoder_h0, 0}, {out.encoder_h, s.encoder}, B, s.encoder);
  work.copy({in.decoder_h0, 0}, {out.decoder_h, s.decoder}, B, s.decoder);
  work.zero(out.encoder_c, B * s.encoder);
  work.zero(out.decoder_c, B * s.decoder);
  const auto make_grid = [&] { return forward_grid<T>(s, work.rounds()); };
  if (const auto grid = one_launch("unroll", persistent_training, make_grid)) {
    loop.head_products = {work.allocate(B * s.heads()), s.heads()};
    work.check(launch_forward(loop, work.rounds(), *grid, work.stream()));
  } else {
    forward_by_launches(loop, work);
  }
  work.check(launch_last_write(loop.last_write(), s, work.stream()));
  work.check(launch_divergences(loop, work.stream()));
}

template <class T>
void backward_by_launches(const Backward<T>& loop, Work<T>& work) {
  const auto& s = loop.in.sizes;
  const int64_t B = s.batch;
  const Weights<T> weights(work, loop.in, false);
  T* const d_z = work.allocate(B * s.latents);
  BFloat16* const rounding = allocate_rounding(work, s, B);
  for (int64_t t = B ? s.steps - 1 : -1; t >= 0; --t) {
    if (t + 1 < s.steps) work.check(launch_stage(loop.read(t + 1), s, work.stream()));
    work.check(launch_stage(loop.write(t), s, work.stream()));
    weights.of_decoder.backward(loop.h_dec, loop.decoder(t + 1).data, B, rounding);
    work.check(launch_lstm_step_backward(loop.decode(t), B, s.decoder, work.stream()));
    const Rows<T> of_decoder = loop.decoder_gates(t), of_encoder = loop.encoder_gates(t);
    work.multiply(
        matrix(d_z, B, s.latents),
        work.operand({of_decoder.data, B, 4 * s.decoder, of_decoder.row_stride}, rounding),
        weights.of_latent);
    work.check(launch_stage(loop.attention(t, {d_z, s.latents}), s, work.stream()));
    weights.of_encoder.backward(loop.h_enc, loop.encoder(t + 1).data, B, rounding);
    work.check(launch_lstm_step_backward(loop.encode(t), B, s.encoder, work.stream()));
    work.multiply(
        matrix(loop.glimpse, B, s.glimpse()),
        work.operand({of_encoder.data, B, 4 * s.encoder, of_encoder.row_stride}, rounding),
        weights.of_glimpse);
  }
  work.check(launch_stage(loop.read(0), s, work.stream()));
  weights.of_decoder.backward(loop.h_dec, loop.decoder(0).data, B, rounding);
  weights.of_encoder.backward(loop.h_enc, loop.encoder(0).data, B, rounding);
}

template <class T>
void run_backward(const UnrollPointers<T>& in, const UnrollTape<T>& tape,
                  const UnrollResultGrads<T>& given, const UnrollGrads<T>& out, Work<T>& work) {
  const auto& s = in.sizes;
  const int64_t B = s.batch, steps = s.steps, volume = s.volume(), heads = s.heads();
  const int64_t encoder_gates = 4 * s.encoder, decoder_gates = 4 * s.decoder, rows = steps * B;
  const Context<T> context(work, in);
  Backward<T> loop{};
  loop.in = in, loop.tape = tape, loop.given = given, loop.out = out;
  loop.word_gates = context.word_gates;
  const int64_t of_decoder = loop.decoder_columns(), of_encoder = loop.encoder_columns();
  const int64_t decoder_at = heads + encoder_gates;  // the decoder's gates among its columns
  T* const d_decoder = loop.of_decoder = work.allocate((rows + B) * of_decoder);
  T* const d_encoder = loop.of_encoder = work.allocate((rows + B) * of_encoder);
  loop.h_dec = work.allocate(B * s.decoder), loop.c_dec = work.allocate(B * s.decoder);
  loop.h_enc = work.allocate(B * s.encoder), loop.c_enc = work.allocate(B * s.encoder);
  loop.canvas = work.allocate(B * volume), loop.glimpse = work.allocate(B * s.glimpse());
  loop.score = work.allocate(B * s.units), loop.energies = work.allocate(B * s.words);

  work.copy({given.canvas, volume}, {loop.canvas, volume}, B, volume);
  work.zero(loop.c_dec, B * s.decoder);
  work.zero(loop.c_enc, B * s.encoder);
  work.zero(loop.score, B * s.units);
  if (out.keys) work.zero(out.keys, B * s.words * s.units);
  if (out.image) work.zero(out.image, B * volume);
  // No step follows the last states. No write and no posterior comes before the first ones.
  for (const int64_t t : {int64_t(0), steps}) {
    work.zero(loop.decoder(t).data, B * of_decoder);
    work.zero(loop.encoder(t).data, B * of_encoder);
  }
  const auto make_grid = [&] { return backward_grid<T>(s, work.rounds()); };
  if (const auto grid = one_launch("unroll_backward", persistent_training, make_grid))
    work.check(launch_backward(loop, work.rounds(), *grid, work.stream()));
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
  const Operand<T> of_all = work.operand(matrix<const T>(d_decoder, rows + B, of_decoder));
  const auto columns = [&](int64_t from, int64_t count, int64_t depth) {
    return of_all.rows_from(0, depth).columns_from(from, count);
  };
  BFloat16* const inputs_rounding = allocate_rounding(work, s, rows + B);
  const auto weight_grad = [&](T* grad, const Operand<T>& d, const T* inputs, int64_t width) {
    work.multiply(matrix(grad, d.columns(), width), d.transposed(),
                  work.operand(matrix(inputs, d.rows(), width), inputs_rounding));
  };
  weight_grad(out.heads, columns(0, heads, rows + B), tape.decoder_h, s.decoder);
  weight_grad(out.encoder_ih, columns(heads, encoder_gates, rows), tape.encoder_in, s.encoder_in());
  weight_grad(out.encoder_hh, columns(heads, encoder_gates, rows), tape.encoder_h, s.encoder);
  weight_grad(out.decoder_ih, columns(decoder_at, decoder_gates, rows), tape.decoder_in,
              s.decoder_in());
  weight_grad(out.decoder_hh, columns(decoder_at, decoder_gates, rows), tape.decoder_h, s.decoder);

  // The gradient of the words, from those of the contexts of all steps.
  const int64_t d = s.word_size;
  T* const contexts = work.allocate(rows * d);
  work.multiply(matrix(contexts, rows, d), columns(decoder_at, decoder_gates, rows),
                context.weights);
  if (in.keys)
    work.multiply(Matrices<T>{matrix(out.words, s.words, d), B, s.words * d},
                  {{tape.weights, s.words, steps, 1, B * s.words}, B, s.words},
                  {{contexts, steps, d, B * d}, B, d});
  else
    work.sum_rows(contexts, B * d, steps, B * d, out.words);

  const Operand<T> posteriors =
      work.operand({d_encoder + B * of_encoder, rows, 2 * s.latents, of_encoder});
  weight_grad(out.posterior, posteriors, tape.encoder_h + B * s.encoder, s.encoder);
}

}  // namespace

UnrollResultTuple unroll(ALIGNDRAW_UNROLL_PARAMETERS) {
  const UnrollInputs in = ALIGNDRAW_UNROLL_ARGUMENTS;
  check_unroll("unroll", in);
  const auto make = [&](std::initializer_list<int64_t> shape) {
    return torch::stable::new_empty(in.image, {shape.begin(), shape.size()});
  };
  const auto run = [&]<class T>(T) {
    return unroll_results<T>(in, make, [&](const UnrollOutputs<T>& out) {
      Work<T> work("unroll", in.image, in.bf16);
      run_forward(UnrollArguments<T>(in), out, work);
    });
  };
  return is_double(in.image) ? run(double()) : run(float());
}

UnrollGradTuple unroll_backward(ALIGNDRAW_UNROLL_BACKWARD_PARAMETERS) {
  const UnrollBackwardInputs backward = ALIGNDRAW_UNROLL_BACKWARD_ARGUMENTS;
  check_unroll_backward(backward);
  const UnrollInputs& in = backward.in;
  const auto run = [&]<class T>(T) {
    return unroll_grads<T>(backward,
                           [&](const UnrollTape<T>& tape, const UnrollResultGrads<T>& given,
                               const UnrollGrads<T>& out) {
                             Work<T> work("unroll_backward", in.image, in.bf16);
                             run_backward(UnrollArguments<T>(in), tape, given, out, work);
                           });
  };
  return is_double(in.image) ? run(double()) : run(float());
}

}  // namespace aligndraw::cuda
