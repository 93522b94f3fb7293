// Checks that the loops share.
#pragma once
#include <optional>

#include "check.h"
#include "unroll_sizes.h"

namespace aligndraw {

// Checks the arguments that the sizes of unroll and unroll_prior are read from.
template <class Inputs>
void check_decoder_sizes(const char* op, const Inputs& in, int64_t channels) {
  check_shape(op, "noise", in.noise, "[B, T, z]", {any, any, any});
  if (in.noise.size(1) < 1)
    fail(op, ": noise must have at least one step, got ", shape_text(in.noise));
  check_shape(op, "words", in.words, "[B, N, d]", {in.noise.size(0), any, any});
  const int64_t words = in.words.size(1);
  if (in.write_size < 1) fail(op, ": write_size must be at least 1, got ", in.write_size);
  check_sizes(op, "the patch", {channels + in.opacity, in.write_size, in.write_size});
  if (in.tints < 0) fail(op, ": tints must not be negative, got ", in.tints);
  check_sizes(op, "the tints", {in.tints, in.write_size * in.write_size + channels});
  if (in.keys.has_value() != in.score.has_value())
    fail(op, ": score must be given where keys are, and nowhere else");
  if (!in.keys && words != 1)
    fail(op, ": words must be one vector per caption where there are no keys, got ", words);
  if (in.keys) {
    if (words < 1) fail(op, ": words must have at least one word, got ", shape_text(in.words));
    check_shape(op, "score", *in.score, "[l]", {any});
  }
  check_shape(op, "decoder_h0", in.decoder_h0, "[n]", {any});
}

// Their sizes but for height, width, the encoder and the glimpse.
template <class Inputs>
UnrollSizes decoder_sizes(const Inputs& in, int64_t channels) {
  UnrollSizes s{};
  s.batch = in.noise.size(0);
  s.channels = channels;
  s.steps = in.noise.size(1);
  s.words = in.words.size(1);
  s.word_size = in.words.size(2);
  s.units = in.score ? in.score->size(0) : 0;
  s.latents = in.noise.size(2);
  s.decoder = in.decoder_h0.size(0);
  s.write_size = in.write_size;
  s.tints = in.tints;
  s.attends = in.keys.has_value();
  s.opacity = in.opacity;
  // A number of its own, so that no kernel multiplies for it.
  s.behind_patch = s.tints * (s.write_size * s.write_size + channels) + s.drawn_patch() - s.patch();
  return s;
}

// The shape of a field as error messages have it: "4 * e, G + n" is "[4e, G + n]".
inline std::string field_letters(std::string sizes) {
  for (size_t at; (at = sizes.find(" * ")) != std::string::npos;) sizes.erase(at, 3);
  return "[" + sizes + "]";
}

// Checks the types of a loop's arguments: int64 lengths, float32 or float64 in `first`, and the
// same in the others.
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

}  // namespace aligndraw
