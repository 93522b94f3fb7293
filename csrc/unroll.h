// unroll in C++: its signatures and its checks. aligndraw/ops/unroll.py is the contract.
//
// All floating tensors are float32, or all float64. Strides are free, and B may be 0.
#pragma once
#include <array>
#include <optional>
#include <tuple>
#include <utility>

#include "loop.h"
#include "unroll_fields.h"

namespace aligndraw {

// Tuples of n tensors.
template <size_t n>
using Tensors = decltype([]<size_t... i>(std::index_sequence<i...>) {
  return std::tuple<std::enable_if_t<(i >= 0), Tensor>...>();
}(std::make_index_sequence<n>()));
using UnrollResultTuple =
    Tensors<ALIGNDRAW_UNROLL_RESULTS(ALIGNDRAW_COUNT) ALIGNDRAW_UNROLL_TAPE(ALIGNDRAW_COUNT)>;
using UnrollGradTuple = Tensors<ALIGNDRAW_UNROLL_GRADS(ALIGNDRAW_COUNT, ALIGNDRAW_COUNT)>;

// Parameters of the op, and of its gradient.
#define ALIGNDRAW_UNROLL_PARAMETERS                                                               \
  ALIGNDRAW_UNROLL_INPUTS(ALIGNDRAW_PARAMETER, ALIGNDRAW_OPTIONAL_PARAMETER, ALIGNDRAW_PARAMETER) \
  int64_t read_size, int64_t write_size, bool bf16, int64_t tints, bool opacity
#define ALIGNDRAW_UNROLL_BACKWARD_PARAMETERS         \
  ALIGNDRAW_UNROLL_RESULTS(ALIGNDRAW_GRAD_PARAMETER) \
  ALIGNDRAW_UNROLL_PARAMETERS, Tensor weights,       \
      ALIGNDRAW_UNROLL_TAPE(ALIGNDRAW_PARAMETER) bool image_grad

namespace cpu {
UnrollResultTuple unroll(ALIGNDRAW_UNROLL_PARAMETERS);
UnrollGradTuple unroll_backward(ALIGNDRAW_UNROLL_BACKWARD_PARAMETERS);
}  // namespace cpu

namespace cuda {
UnrollResultTuple unroll(ALIGNDRAW_UNROLL_PARAMETERS);
UnrollGradTuple unroll_backward(ALIGNDRAW_UNROLL_BACKWARD_PARAMETERS);
}  // namespace cuda

struct UnrollInputs {
  ALIGNDRAW_UNROLL_INPUTS(ALIGNDRAW_TENSOR, ALIGNDRAW_OPTIONAL_TENSOR, ALIGNDRAW_TENSOR)
  int64_t read_size, write_size;
  bool bf16;  // the operands of the large products are rounded to bfloat16
  int64_t tints;
  bool opacity;  // patches have one, and cover the canvas
};

struct UnrollBackwardInputs {
  UnrollInputs in;
  struct {
    ALIGNDRAW_UNROLL_RESULTS(ALIGNDRAW_TENSOR)
  } grads;
  Tensor weights;
  struct {
    ALIGNDRAW_UNROLL_TAPE(ALIGNDRAW_TENSOR)
  } tape;
  bool image_grad;  // the gradient of the image is wanted
};

// The parameters of the functions above as one of these.
#define ALIGNDRAW_UNROLL_ARGUMENTS                                                               \
  UnrollInputs {                                                                                 \
    ALIGNDRAW_UNROLL_INPUTS(ALIGNDRAW_INITIALISER, ALIGNDRAW_INITIALISER, ALIGNDRAW_INITIALISER) \
        .read_size = read_size,                                                                  \
       .write_size = write_size, .bf16 = bf16, .tints = tints, .opacity = opacity                \
  }
#define ALIGNDRAW_GRAD_INITIALISER(name, ...) .name = grad_##name,
#define ALIGNDRAW_UNROLL_BACKWARD_ARGUMENTS                                              \
  UnrollBackwardInputs {                                                                 \
    .in = ALIGNDRAW_UNROLL_ARGUMENTS,                                                    \
    .grads = {ALIGNDRAW_UNROLL_RESULTS(ALIGNDRAW_GRAD_INITIALISER)}, .weights = weights, \
    .tape = {ALIGNDRAW_UNROLL_TAPE(ALIGNDRAW_INITIALISER)}, .image_grad = image_grad     \
  }

inline UnrollSizes sizes_of(const UnrollInputs& in) {
  UnrollSizes s = decoder_sizes(in, in.image.size(1));
  s.height = in.image.size(2);
  s.width = in.image.size(3);
  s.encoder = in.encoder_h0.size(0);
  s.read_size = in.read_size;
  return s;
}

inline void check_unroll(const char* op, const UnrollInputs& in) {
  // The arguments that the sizes are read from.
  check_shape(op, "image", in.image, "[B, C, H, W]", {any, any, any, any});
  check_shape(op, "noise", in.noise, "[B, T, z]", {in.image.size(0), any, any});
  if (in.read_size < 1) fail(op, ": read_size must be at least 1, got ", in.read_size);
  check_sizes(op, "the glimpse", {2 * in.image.size(1), in.read_size, in.read_size});
  check_decoder_sizes(op, in, in.image.size(1));
  check_shape(op, "encoder_h0", in.encoder_h0, "[e]", {any});
  const UnrollSizes s = sizes_of(in);
  ALIGNDRAW_UNROLL_LETTERS(s);
#define FIELD(name, ...) \
  check_shape(op, #name, in.name, field_letters(#__VA_ARGS__), {__VA_ARGS__});
#define OPTIONAL(name, ...) \
  if (in.name) check_shape(op, #name, *in.name, field_letters(#__VA_ARGS__), {__VA_ARGS__});
  ALIGNDRAW_UNROLL_INPUTS(FIELD, OPTIONAL, FIELD)
#undef FIELD
#undef OPTIONAL
  int64_t per_row = A;
  const auto add_row = [&](std::initializer_list<int64_t> shape) {
    int64_t elements = 1;
    for (const int64_t* size = shape.begin() + 2; size < shape.end(); ++size) elements *= *size;
    per_row += elements;
  };
#define FIELD(name, ...) add_row({__VA_ARGS__});
  ALIGNDRAW_UNROLL_TAPE(FIELD)
#undef FIELD
  check_sizes(op, "the tape", {T + 1, B, per_row});
  const Argument image{"image", in.image};
#define FIELD(name, ...) {#name, in.name},
#define NONE(name, ...)
  check_loop(op, in.lengths, image, {ALIGNDRAW_UNROLL_INPUTS(FIELD, NONE, NONE)});
#undef FIELD
#undef NONE
  if (in.keys) check_loop(op, in.lengths, image, {{"keys", *in.keys}, {"score", *in.score}});
}

inline void check_unroll_backward(const UnrollBackwardInputs& backward) {
  const char* op = "unroll_backward";
  check_unroll(op, backward.in);
  const UnrollSizes s = sizes_of(backward.in);
  ALIGNDRAW_UNROLL_LETTERS(s);
  const auto check = [&](const Argument& argument, const char* letters,
                         std::initializer_list<int64_t> shape) {
    check_shape(op, argument.name, argument.tensor, field_letters(letters), shape);
    check_device(op, argument, {"image", backward.in.image});
    check_dtype(op, argument, {"image", backward.in.image});
  };
#define FIELD(name, ...) check({"grad_" #name, backward.grads.name}, #__VA_ARGS__, {__VA_ARGS__});
  ALIGNDRAW_UNROLL_RESULTS(FIELD)
#undef FIELD
  check({"weights", backward.weights}, "T, B, A", {T, B, A});
#define FIELD(name, ...) check({#name, backward.tape.name}, #__VA_ARGS__, {__VA_ARGS__});
  ALIGNDRAW_UNROLL_TAPE(FIELD)
#undef FIELD
}

}  // namespace aligndraw
