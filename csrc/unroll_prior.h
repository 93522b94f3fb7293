// unroll_prior in C++: its signatures and its checks. aligndraw/ops/unroll_prior.py is the
// contract.
//
// All floating tensors are float32, or all float64. Strides are free, and B may be 0.
#pragma once
#include <optional>
#include <tuple>

#include "loop.h"
#include "unroll_fields.h"

namespace aligndraw {

#define ALIGNDRAW_UNROLL_PRIOR_PARAMETERS                                          \
  ALIGNDRAW_UNROLL_PRIOR_INPUTS(ALIGNDRAW_PARAMETER, ALIGNDRAW_OPTIONAL_PARAMETER, \
                                ALIGNDRAW_PARAMETER)                               \
  int64_t write_size, int64_t tints, bool opacity
using UnrollPriorResultTuple = std::tuple<Tensor, Tensor, Tensor, Tensor>;

namespace cpu {
UnrollPriorResultTuple unroll_prior(ALIGNDRAW_UNROLL_PRIOR_PARAMETERS);
}  // namespace cpu

namespace cuda {
UnrollPriorResultTuple unroll_prior(ALIGNDRAW_UNROLL_PRIOR_PARAMETERS);
}  // namespace cuda

struct UnrollPriorInputs {
  ALIGNDRAW_UNROLL_PRIOR_INPUTS(ALIGNDRAW_TENSOR, ALIGNDRAW_OPTIONAL_TENSOR, ALIGNDRAW_TENSOR)
  int64_t write_size, tints;
  bool opacity;
};

// The parameters of the functions above as one of these.
#define ALIGNDRAW_UNROLL_PRIOR_ARGUMENTS                                        \
  UnrollPriorInputs {                                                           \
    ALIGNDRAW_UNROLL_PRIOR_INPUTS(ALIGNDRAW_INITIALISER, ALIGNDRAW_INITIALISER, \
                                  ALIGNDRAW_INITIALISER)                        \
        .write_size = write_size,                                               \
       .tints = tints, .opacity = opacity                                       \
  }

inline UnrollSizes sizes_of(const UnrollPriorInputs& in) {
  UnrollSizes s = decoder_sizes(in, in.canvas.size(0));
  s.height = in.canvas.size(1);
  s.width = in.canvas.size(2);
  return s;
}

inline void check_unroll_prior(const UnrollPriorInputs& in) {
  const char* op = "unroll_prior";
  check_shape(op, "canvas", in.canvas, "[C, H, W]", {any, any, any});
  check_decoder_sizes(op, in, in.canvas.size(0));
  const UnrollSizes s = sizes_of(in);
  ALIGNDRAW_UNROLL_LETTERS(s);
#define FIELD(name, ...) \
  check_shape(op, #name, in.name, field_letters(#__VA_ARGS__), {__VA_ARGS__});
#define OPTIONAL(name, ...) \
  if (in.name) check_shape(op, #name, *in.name, field_letters(#__VA_ARGS__), {__VA_ARGS__});
  ALIGNDRAW_UNROLL_PRIOR_INPUTS(FIELD, OPTIONAL, FIELD)
#undef FIELD
#undef OPTIONAL
  check_sizes(op, "the drawings", {T, B, 4 * n + R + N + C * H * W});
  const Argument canvas{"canvas", in.canvas};
#define FIELD(name, ...) {#name, in.name},
#define NONE(name, ...)
  check_loop(op, in.lengths, canvas, {ALIGNDRAW_UNROLL_PRIOR_INPUTS(FIELD, NONE, NONE)});
#undef FIELD
#undef NONE
  if (in.keys) check_loop(op, in.lengths, canvas, {{"keys", *in.keys}, {"score", *in.score}});
}

}  // namespace aligndraw
