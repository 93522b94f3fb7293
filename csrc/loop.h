// What the arguments of unroll and unroll_prior have in common, checked.
#pragma once
#include <optional>

#include "check.h"

namespace aligndraw {

// Shapes. Inputs has words, keys, lengths, noise, the decoder's parameters and write_size.
template <class Inputs>
void check_decoder(const char* op, const Inputs& in, int64_t channels) {
  check_shape(op, "noise", in.noise, "[B, T, z]", {any, any, any});
  const int64_t batch = in.noise.size(0), latents = in.noise.size(2);
  if (in.noise.size(1) < 1)
    fail(op, ": noise must have at least one step, got ", shape_text(in.noise));
  check_shape(op, "words", in.words, "[B, N, d]", {batch, any, any});
  const int64_t words = in.words.size(1);
  if (in.write_size < 1) fail(op, ": write_size must be at least 1, got ", in.write_size);
  check_sizes(op, "the patch", {channels, in.write_size, in.write_size});
  if (in.keys.has_value() != in.score.has_value())
    fail(op, ": score must be given where keys are, and nowhere else");
  if (!in.keys && words != 1)
    fail(op, ": words must be one vector a caption where there are no keys, got ", words);
  int64_t units = 0;
  if (in.keys) {
    if (words < 1) fail(op, ": words must have at least one word, got ", shape_text(in.words));
    check_shape(op, "score", *in.score, "[l]", {any});
    units = in.score->size(0);
    check_shape(op, "keys", *in.keys, "[B, N, l]", {batch, words, units});
  }
  check_shape(op, "lengths", in.lengths, "[B]", {batch});
  check_shape(op, "decoder_h0", in.decoder_h0, "[n]", {any});
  const int64_t n = in.decoder_h0.size(0);
  const int64_t rows = units + 2 * latents + channels * in.write_size * in.write_size + 10;
  check_shape(op, "decoder_ih", in.decoder_ih, "[4n, z + d]", {4 * n, latents + in.words.size(2)});
  check_shape(op, "decoder_hh", in.decoder_hh, "[4n, n]", {4 * n, n});
  check_shape(op, "decoder_bias", in.decoder_bias, "[4n]", {4 * n});
  check_shape(op, "heads", in.heads, "[R, n]", {rows, n});
  check_shape(op, "heads_bias", in.heads_bias, "[R]", {rows});
}

// Lengths int64; the first float32 or float64, and the others like it.
inline void check_loop(const char* op, const Tensor& lengths, const Argument& first,
                       std::initializer_list<Argument> others) {
  if (lengths.scalar_type() != ScalarType::Long)
    fail(op, ": lengths must be int64, got ", dtype_text(lengths.scalar_type()));
  check_device(op, {"lengths", lengths}, first);
  const ScalarType type = first.tensor.scalar_type();
  if (type != ScalarType::Float && type != ScalarType::Double)
    fail(op, ": ", first.name, " must be float32 or float64, got ", dtype_text(type));
  for (const Argument& argument : others) {
    check_device(op, argument, first);
    check_dtype(op, argument, first);
  }
}

// The same of what both have but their first.
template <class Inputs>
void check_decoder_types(const char* op, const Inputs& in, const Argument& first) {
  check_loop(op, in.lengths, first,
             {{"words", in.words},
              {"noise", in.noise},
              {"decoder_ih", in.decoder_ih},
              {"decoder_hh", in.decoder_hh},
              {"decoder_bias", in.decoder_bias},
              {"decoder_h0", in.decoder_h0},
              {"heads", in.heads},
              {"heads_bias", in.heads_bias}});
  if (in.keys) check_loop(op, in.lengths, first, {{"keys", *in.keys}, {"score", *in.score}});
}

}  // namespace aligndraw
