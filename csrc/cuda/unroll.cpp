// unroll on a GPU, in one of three forms: 8 launches per step forward and 9 back, four of them
// products each way, and where products round, two more products forward; or one launch each way
// for all steps, of a grid that waits as a whole or of clusters. All weights of a state are stacked
// for one product (StackedWeights).
#include "unroll.h"

#include "../unroll_arrays.h"
#include "cluster_work.h"
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
                   {WeightSlice{in.decoder_hh, 4 * in.sizes.decoder, in.sizes.decoder},
                    WeightSlice{in.encoder_ih + in.sizes.glimpse(), 4 * in.sizes.encoder,
                                in.sizes.encoder_in()},
                    WeightSlice{in.heads, in.sizes.heads(), in.sizes.decoder}},
                   // The operands of priors, posteriors, windows and patches are never rounded.
                   forward ? in.sizes.heads() - in.sizes.units : 0),
        of_encoder(work, in.sizes.encoder,
                   {WeightSlice{in.encoder_hh, 4 * in.sizes.encoder, in.sizes.encoder},
                    WeightSlice{in.posterior, 2 * in.sizes.latents, in.sizes.encoder}},
                   forward ? 2 * in.sizes.latents : 0),
        of_glimpse(work.operand(
            {in.encoder_ih, 4 * in.sizes.encoder, in.sizes.glimpse(), in.sizes.encoder_in()})),
        of_latent(work.operand(
            {in.decoder_ih, 4 * in.sizes.decoder, in.sizes.latents, in.sizes.decoder_in()})) {}

  StackedWeights<T> of_decoder;  // gates of both LSTMs, heads
  StackedWeights<T> of_encoder;  // the encoder's own gates, posterior
  Operand<T> of_glimpse;         // [4e, G]
  Operand<T> of_latent;          // [4n, z]
};

template <class T>
void forward_by_launches(Forward<T>& loop, Work<T>& work) {
  const auto& s = loop.in.sizes;
  const auto& out = loop.out;
  const int64_t B = s.batch, n = s.decoder, e = s.encoder;
  const Weights<T> weights(work, loop.in, true);
  // Products with h_dec, decoder gates | encoder gates | heads, and with h_enc, encoder gates |
  // posterior.
  const int64_t decoder_columns = weights.of_decoder.row_stride();
  const int64_t encoder_columns = weights.of_encoder.row_stride();
  T* const decoder_products = work.allocate(B * decoder_columns);
  T* const encoder_products = work.allocate(B * encoder_columns);
  T* const glimpse_gates = work.allocate(B * 4 * e);
  T* const latent_gates = work.allocate(B * 4 * n);
  loop.head_products = {decoder_products + 4 * n + 4 * e, decoder_columns};
  loop.rounded_glimpse = work.allocate_rounded(B, s.glimpse());
  loop.rounded_h_enc = work.allocate_rounded(B, e);
  loop.rounded_z = work.allocate_rounded(B, s.latents);
  loop.rounded_h_dec = work.allocate_rounded(B, n);
  work.round({out.encoder_h, e}, loop.rounded_h_enc, B, e);
  work.round({out.decoder_h, n}, loop.rounded_h_dec, B, n);
  const OperandRows<T> first_h_enc{out.encoder_h, e, loop.rounded_h_enc, padded(e)};
  const OperandRows<T> first_h_dec{out.decoder_h, n, loop.rounded_h_dec, padded(n)};
  weights.of_decoder.forward(decoder_products, work.operand(first_h_dec, B, n));
  weights.of_encoder.forward(encoder_products, work.operand(first_h_enc, B, e));
  for (int64_t t = 0; t < (B ? s.steps : 0); ++t) {
    const ReadAttend<T> read_attend = loop.read_attend(t);
    work.check(launch_stage(read_attend, s, work.stream()));
    work.multiply(matrix(glimpse_gates, B, 4 * e),
                  work.operand(read_attend.encoder_in, B, s.glimpse()),
                  weights.of_glimpse.transposed());
    LstmStep<T> encode = loop.encode(t);
    encode.terms[0] = {glimpse_gates, 4 * e};
    encode.terms[1] = {decoder_products + 4 * n, decoder_columns};
    encode.terms[2] = {encoder_products, encoder_columns};
    work.check(launch_lstm_step(encode, B, e, work.stream()));
    weights.of_encoder.forward(encoder_products, work.operand(encode.h, B, e));
    const Infer<T> infer = loop.infer(t, {encoder_products + 4 * e, encoder_columns});
    work.check(launch_stage(infer, s, work.stream()));
    work.multiply(matrix(latent_gates, B, 4 * n), work.operand(infer.z, B, s.latents),
                  weights.of_latent.transposed());
    LstmStep<T> decode = loop.decode(t);
    decode.terms[1] = {latent_gates, 4 * n};
    decode.terms[2] = {decoder_products, decoder_columns};
    work.check(launch_lstm_step(decode, B, n, work.stream()));
    weights.of_decoder.forward(decoder_products, work.operand(decode.h, B, n));
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
  const auto make_clusters = [&] { return cluster_forward_grid<T>(s); };
  if (const auto grid = clusters("unroll", make_clusters)) {
    cluster::forward(loop, *grid, work);
  } else if (const auto grid = one_launch("unroll", persistent_training, make_grid)) {
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
  const auto back_to_decoder = [&](int64_t t) {
    weights.of_decoder.backward(loop.h_dec,
                                work.operand(loop.decoder(t), B, loop.decoder_columns()));
  };
  const auto back_to_encoder = [&](int64_t t) {
    weights.of_encoder.backward(loop.h_enc,
                                work.operand(loop.encoder(t), B, loop.encoder_columns()));
  };
  for (int64_t t = B ? s.steps - 1 : -1; t >= 0; --t) {
    if (t + 1 < s.steps) work.check(launch_stage(loop.read(t + 1), s, work.stream()));
    work.check(launch_stage(loop.write(t), s, work.stream()));
    back_to_decoder(t + 1);
    work.check(launch_lstm_step_backward(loop.decode(t), B, s.decoder, work.stream()));
    work.multiply(matrix(d_z, B, s.latents), work.operand(loop.decoder(t), B, 4 * s.decoder),
                  weights.of_latent);
    work.check(launch_stage(loop.attention(t, {d_z, s.latents}), s, work.stream()));
    back_to_encoder(t + 1);
    work.check(launch_lstm_step_backward(loop.encode(t), B, s.encoder, work.stream()));
    work.multiply(matrix(loop.glimpse, B, s.glimpse()),
                  work.operand(loop.encoder(t), B, 4 * s.encoder), weights.of_glimpse);
  }
  work.check(launch_stage(loop.read(0), s, work.stream()));
  back_to_decoder(0);
  back_to_encoder(0);
}

template <class T>
void run_backward(const UnrollPointers<T>& in, const UnrollTape<T>& tape,
                  const UnrollResultGrads<T>& given, const UnrollGrads<T>& out, Work<T>& work) {
  const auto& s = in.sizes;
  const int64_t B = s.batch, steps = s.steps, volume = s.volume(), rows = steps * B;
  const Context<T> context(work, in);
  Backward<T> loop{};
  loop.in = in, loop.tape = tape, loop.given = given, loop.out = out;
  loop.word_gates = context.word_gates;
  const int64_t decoder_columns = loop.decoder_columns(), encoder_columns = loop.encoder_columns();
  loop.of_decoder = work.allocate_operand(rows + B, decoder_columns);
  loop.of_encoder = work.allocate_operand(rows + B, encoder_columns);
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
  for (const int64_t t : {int64_t(0), steps})
    for (const auto& [place, columns] : {std::pair{loop.decoder(t), decoder_columns},
                                         std::pair{loop.encoder(t), encoder_columns}}) {
      work.copy({}, {place.data, place.row_stride}, B, columns);
      work.round({}, place.rounded, B, columns);
    }
  const auto make_grid = [&] { return backward_grid<T>(s, work.rounds()); };
  const auto make_clusters = [&] { return cluster_backward_grid<T>(s); };
  if (const auto grid = clusters("unroll_backward", make_clusters))
    cluster::backward(loop, *grid, work);
  else if (const auto grid = one_launch("unroll_backward", persistent_training, make_grid))
    work.check(launch_backward(loop, work.rounds(), *grid, work.stream()));
  else
    backward_by_launches(loop, work);

  work.sum_rows(loop.canvas, volume, B, volume, out.canvas);
  work.sum_rows(loop.h_enc, s.encoder, B, s.encoder, out.encoder_h0);
  work.sum_rows(loop.h_dec, s.decoder, B, s.decoder, out.decoder_h0);
  const auto bias_grad = [&](T* grad, const OperandRows<T>& of, int64_t count, int64_t columns) {
    work.sum_rows(of.data, of.row_stride, count, columns, grad);
  };
  bias_grad(out.heads_bias, loop.heads(0), rows + B, s.heads());
  bias_grad(out.encoder_bias, loop.encoder(0), rows, 4 * s.encoder);
  bias_grad(out.decoder_bias, loop.decoder(0), rows, 4 * s.decoder);
  bias_grad(out.posterior_bias, loop.encoder(1).from(0, loop.posterior_at()), rows, 2 * s.latents);
  if (out.score) work.sum_rows(loop.score, s.units, B, s.units, out.score);

  // The gradient of each weight is one product over all steps.
  const auto weight_grad = [&](T* grad, const OperandRows<T>& of, int64_t columns,
                               const Operand<T>& inputs) {
    work.multiply(matrix(grad, columns, inputs.columns()),
                  work.operand(of, inputs.rows(), columns).transposed(), inputs);
  };
  const auto inputs = [&](const T* data, int64_t count, int64_t width) {
    return work.operand(matrix(data, count, width));
  };
  const OperandRows<T> encoder_gates = loop.encoder(0), decoder_gates = loop.decoder(0);
  const Operand<T> decoder_h = inputs(tape.decoder_h, rows + B, s.decoder);
  const Operand<T> encoder_h = inputs(tape.encoder_h, rows + B, s.encoder);
  weight_grad(out.heads, loop.heads(0), s.heads(), decoder_h);
  weight_grad(out.decoder_hh, decoder_gates, 4 * s.decoder, decoder_h.rows_from(0, rows));
  weight_grad(out.decoder_ih, decoder_gates, 4 * s.decoder,
              inputs(tape.decoder_in, rows, s.decoder_in()));
  weight_grad(out.encoder_hh, encoder_gates, 4 * s.encoder, encoder_h.rows_from(0, rows));
  weight_grad(out.encoder_ih, encoder_gates, 4 * s.encoder,
              inputs(tape.encoder_in, rows, s.encoder_in()));
  weight_grad(out.posterior, loop.encoder(1).from(0, loop.posterior_at()), 2 * s.latents,
              encoder_h.rows_from(B, rows));

  // The gradient of the words, from those of the contexts of all steps.
  const int64_t d = s.word_size;
  T* const contexts = work.allocate(rows * d);
  work.multiply(matrix(contexts, rows, d), work.operand(decoder_gates, rows, 4 * s.decoder),
                context.weights);
  if (in.keys)
    work.multiply(Matrices<T>{matrix(out.words, s.words, d), B, s.words * d},
                  {{tape.weights, s.words, steps, 1, B * s.words}, B, s.words},
                  {{contexts, steps, d, B * d}, B, d});
  else
    work.sum_rows(contexts, B * d, steps, B * d, out.words);
}

}  // namespace

UnrollResultTuple unroll(ALIGNDRAW_UNROLL_PARAMETERS) {
  const UnrollInputs in = ALIGNDRAW_UNROLL_ARGUMENTS;
  check_unroll("unroll", in);
  check_counts("unroll", sizes_of(in));
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
  check_counts("unroll_backward", sizes_of(in));
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
