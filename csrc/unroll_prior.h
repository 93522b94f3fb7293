// unroll_prior in C++: its signatures, and its checks. Arguments: aligndraw/ops/unroll_prior.py.
//
//   ->  canvas [B, C, H, W], patches [T, B, C, p, p], windows [T, B, 5], weights [T, B, N]
//
// All floating tensors are float32, or all float64. Strides are free, and B may be 0.
#pragma once
#include <optional>
#include <tuple>

#include "check.h"

namespace aligndraw {

struct UnrollPriorInputs {
  Tensor canvas, words;
  std::optional<Tensor> keys;
  Tensor lengths, noise, decoder_ih, decoder_hh, decoder_bias, decoder_h0, heads, heads_bias;
  std::optional<Tensor> score;
  int64_t write_size;
};

namespace cpu {
std::tuple<Tensor, Tensor, Tensor, Tensor> unroll_prior(
    Tensor canvas, Tensor words, std::optional<Tensor> keys, Tensor lengths, Tensor noise,
    Tensor decoder_ih, Tensor decoder_hh, Tensor decoder_bias, Tensor decoder_h0, Tensor heads,
    Tensor heads_bias, std::optional<Tensor> score, int64_t write_size);
}  // namespace cpu

inline void check_unroll_prior(const UnrollPriorInputs& in) {
  const char* op = "unroll_prior";
  check_shape(op, "canvas", in.canvas, "[C, H, W]", {any, any, any});
  check_shape(op, "noise", in.noise, "[B, T, z]", {any, any, any});
  const int64_t batch = in.noise.size(0), latents = in.noise.size(2);
  if (in.noise.size(1) < 1)
    fail(op, ": noise must have at least one step, got ", shape_text(in.noise));
  check_shape(op, "words", in.words, "[B, N, d]", {batch, any, any});
  if (in.write_size < 1) fail(op, ": write_size must be at least 1, got ", in.write_size);
  if (in.keys.has_value() != in.score.has_value())
    fail(op, ": score must be given where keys are, and nowhere else");
  if (!in.keys && in.words.size(1) != 1)
    fail(op, ": words must be one vector a caption where there are no keys, got ",
         in.words.size(1));
  if (in.score) check_shape(op, "score", *in.score, "[l]", {any});
  const int64_t units = in.score ? in.score->size(0) : 0;
  if (in.keys) {
    if (in.words.size(1) < 1)
      fail(op, ": words must have at least one word, got ", shape_text(in.words));
    check_shape(op, "keys", *in.keys, "[B, N, l]", {batch, in.words.size(1), units});
  }
  check_shape(op, "lengths", in.lengths, "[B]", {batch});
  check_shape(op, "decoder_h0", in.decoder_h0, "[n]", {any});
  const int64_t n = in.decoder_h0.size(0);
  const int64_t rows =
      units + 2 * latents + in.canvas.size(0) * in.write_size * in.write_size + 10;
  check_shape(op, "decoder_ih", in.decoder_ih, "[4n, z + d]", {4 * n, latents + in.words.size(2)});
  check_shape(op, "decoder_hh", in.decoder_hh, "[4n, n]", {4 * n, n});
  check_shape(op, "decoder_bias", in.decoder_bias, "[4n]", {4 * n});
  check_shape(op, "heads", in.heads, "[R, n]", {rows, n});
  check_shape(op, "heads_bias", in.heads_bias, "[R]", {rows});
  if (in.lengths.scalar_type() != ScalarType::Long)
    fail(op, ": lengths must be int64, got ", dtype_text(in.lengths.scalar_type()));
  const Argument canvas{"canvas", in.canvas};
  check_device(op, {"lengths", in.lengths}, canvas);
  const ScalarType type = in.canvas.scalar_type();
  if (type != ScalarType::Float && type != ScalarType::Double)
    fail(op, ": canvas must be float32 or float64, got ", dtype_text(type));
  const auto alike = [&](const Argument& argument) {
    check_device(op, argument, canvas);
    check_dtype(op, argument, canvas);
  };
  alike({"words", in.words});
  if (in.keys) alike({"keys", *in.keys});
  alike({"noise", in.noise});
  alike({"decoder_ih", in.decoder_ih});
  alike({"decoder_hh", in.decoder_hh});
  alike({"decoder_bias", in.decoder_bias});
  alike({"decoder_h0", in.decoder_h0});
  alike({"heads", in.heads});
  alike({"heads_bias", in.heads_bias});
  if (in.score) alike({"score", *in.score});
}

}  // namespace aligndraw
