// unroll in C++: its signatures, and its checks. Arguments, results and tape:
// aligndraw/ops/unroll.py.
//
// All floating tensors are float32, or all float64. Strides are free, and B may be 0.
#pragma once
#include <array>
#include <optional>
#include <tuple>
#include <utility>

#include "loop.h"
#include "unroll_sizes.h"

namespace aligndraw {

// The op's arguments, as parameters and as what stands in a list.
#define ALIGNDRAW_UNROLL_PARAMETERS                                                               \
  Tensor image, Tensor canvas, Tensor words, std::optional<Tensor> keys, Tensor lengths,          \
      Tensor noise, Tensor encoder_ih, Tensor encoder_hh, Tensor encoder_bias, Tensor encoder_h0, \
      Tensor posterior, Tensor posterior_bias, Tensor decoder_ih, Tensor decoder_hh,              \
      Tensor decoder_bias, Tensor decoder_h0, Tensor heads, Tensor heads_bias,                    \
      std::optional<Tensor> score, int64_t read_size, int64_t write_size, bool bf16
#define ALIGNDRAW_UNROLL_ARGUMENTS                                                              \
  image, canvas, words, keys, lengths, noise, encoder_ih, encoder_hh, encoder_bias, encoder_h0, \
      posterior, posterior_bias, decoder_ih, decoder_hh, decoder_bias, decoder_h0, heads,       \
      heads_bias, score, read_size, write_size, bf16

// Tuples of n tensors.
template <size_t n>
using Tensors = decltype([]<size_t... i>(std::index_sequence<i...>) {
  return std::tuple<std::enable_if_t<(i >= 0), Tensor>...>();
}(std::make_index_sequence<n>()));
using UnrollResults = Tensors<16>;
using UnrollGrads = Tensors<18>;

// Those of the backward: the gradients, the arguments again, the tape.
#define ALIGNDRAW_UNROLL_GRAD_PARAMETERS                                                        \
  Tensor grad_canvas, Tensor grad_kl, Tensor grad_log_ratio, Tensor grad_windows,               \
      Tensor grad_weights, ALIGNDRAW_UNROLL_PARAMETERS, Tensor weights, Tensor encoder_in,      \
      Tensor encoder_gates, Tensor encoder_h, Tensor encoder_c, Tensor posteriors,              \
      Tensor decoder_in, Tensor decoder_gates, Tensor decoder_h, Tensor decoder_c, Tensor said, \
      Tensor canvases, bool image_grad
#define ALIGNDRAW_UNROLL_TAPE                                                                      \
  weights, encoder_in, encoder_gates, encoder_h, encoder_c, posteriors, decoder_in, decoder_gates, \
      decoder_h, decoder_c, said, canvases

namespace cpu {
UnrollResults unroll(ALIGNDRAW_UNROLL_PARAMETERS);
UnrollGrads unroll_backward(ALIGNDRAW_UNROLL_GRAD_PARAMETERS);
}  // namespace cpu

namespace cuda {
UnrollResults unroll(ALIGNDRAW_UNROLL_PARAMETERS);
UnrollGrads unroll_backward(ALIGNDRAW_UNROLL_GRAD_PARAMETERS);
}  // namespace cuda

struct UnrollInputs {
  Tensor image, canvas, words;
  std::optional<Tensor> keys;
  Tensor lengths, noise;
  Tensor encoder_ih, encoder_hh, encoder_bias, encoder_h0, posterior, posterior_bias;
  Tensor decoder_ih, decoder_hh, decoder_bias, decoder_h0, heads, heads_bias;
  std::optional<Tensor> score;
  int64_t read_size, write_size;
  bool bf16;  // the large products are of factors rounded to bfloat16
};

inline UnrollSizes sizes_of(const UnrollInputs& in) {
  return {in.image.size(0),      in.image.size(1),
          in.image.size(2),      in.image.size(3),
          in.noise.size(1),      in.words.size(1),
          in.words.size(2),      in.score ? in.score->size(0) : 0,
          in.noise.size(2),      in.encoder_h0.size(0),
          in.decoder_h0.size(0), in.read_size,
          in.write_size};
}

inline void check_unroll(const char* op, const UnrollInputs& in) {
  check_shape(op, "image", in.image, "[B, C, H, W]", {any, any, any, any});
  check_shape(op, "noise", in.noise, "[B, T, z]", {in.image.size(0), any, any});
  if (in.read_size < 1) fail(op, ": read_size must be at least 1, got ", in.read_size);
  check_sizes(op, "the glimpse", {2 * in.image.size(1), in.read_size, in.read_size});
  check_decoder(op, in, in.image.size(1));
  check_shape(op, "encoder_h0", in.encoder_h0, "[e]", {any});
  const UnrollSizes s = sizes_of(in);
  check_shape(op, "canvas", in.canvas, "[C, H, W]", {s.channels, s.height, s.width});
  check_shape(op, "encoder_ih", in.encoder_ih, "[4e, G + n]", {4 * s.encoder, s.encoder_in()});
  check_shape(op, "encoder_hh", in.encoder_hh, "[4e, e]", {4 * s.encoder, s.encoder});
  check_shape(op, "encoder_bias", in.encoder_bias, "[4e]", {4 * s.encoder});
  check_shape(op, "posterior", in.posterior, "[2z, e]", {2 * s.latents, s.encoder});
  check_shape(op, "posterior_bias", in.posterior_bias, "[2z]", {2 * s.latents});
  check_sizes(op, "the tape",
              {s.steps + 1, s.batch,
               s.encoder_in() + 4 * s.encoder + 2 * s.latents + s.decoder_in() + 4 * s.decoder +
                   s.heads() + s.words + s.volume()});
  const Argument image{"image", in.image};
  check_decoder_types(op, in, image);
  check_loop(op, in.lengths, image,
             {{"canvas", in.canvas},
              {"encoder_ih", in.encoder_ih},
              {"encoder_hh", in.encoder_hh},
              {"encoder_bias", in.encoder_bias},
              {"encoder_h0", in.encoder_h0},
              {"posterior", in.posterior},
              {"posterior_bias", in.posterior_bias}});
}

inline void check_unroll_backward(const UnrollInputs& in, const std::array<Tensor, 5>& grads,
                                  const std::array<Tensor, 12>& tape) {
  const UnrollSizes s = sizes_of(in);
  const int64_t words = in.keys ? s.words : 0, batch = s.batch, steps = s.steps;
  const auto check = [&](const char* name, const Tensor& tensor,
                         std::initializer_list<int64_t> shape) {
    const char* letters[] = {"[T, B]", "[T, B, columns]", "[B, C, H, W]", "[T, B, C, H, W]"};
    check_shape("unroll_backward", name, tensor, letters[shape.size() - 2], shape);
    check_device("unroll_backward", {name, tensor}, {"image", in.image});
    check_dtype("unroll_backward", {name, tensor}, {"image", in.image});
  };
  check("grad_canvas", grads[0], {batch, s.channels, s.height, s.width});
  check("grad_kl", grads[1], {steps, batch});
  check("grad_log_ratio", grads[2], {steps, batch});
  check("grad_windows", grads[3], {steps, batch, 5});
  check("grad_weights", grads[4], {steps, batch, words});
  check("weights", tape[0], {steps, batch, words});
  check("encoder_in", tape[1], {steps, batch, s.encoder_in()});
  check("encoder_gates", tape[2], {steps, batch, 4 * s.encoder});
  check("encoder_h", tape[3], {steps + 1, batch, s.encoder});
  check("encoder_c", tape[4], {steps + 1, batch, s.encoder});
  check("posteriors", tape[5], {steps, batch, 2 * s.latents});
  check("decoder_in", tape[6], {steps, batch, s.decoder_in()});
  check("decoder_gates", tape[7], {steps, batch, 4 * s.decoder});
  check("decoder_h", tape[8], {steps + 1, batch, s.decoder});
  check("decoder_c", tape[9], {steps + 1, batch, s.decoder});
  check("said", tape[10], {steps + 1, batch, s.heads()});
  check("canvases", tape[11], {steps, batch, s.channels, s.height, s.width});
}

}  // namespace aligndraw
