// lstm_gates in C++: its signatures on both devices, and the checks that they share.
//
//   forward:   gates [B, 4n] in the order i, f, g, o; c [B, n]  ->  h, c' [B, n]
//   backward:  grad_h, grad_c [B, n], gates, c  ->  grad_gates [B, 4n], grad_c_prev [B, n]
//
// h and its gradient have the dtype of gates, c' and its gradient that of c. Strides are free, and
// B and n may be 0. The arithmetic is float32, or float64 when all are.
#pragma once
#include <tuple>

#include "check.h"

namespace aligndraw {

using Pair = std::tuple<Tensor, Tensor>;

namespace cpu {
Pair lstm_gates(Tensor gates, Tensor c);
Pair lstm_gates_backward(Tensor grad_h, Tensor grad_c, Tensor gates, Tensor c);
}  // namespace cpu

namespace cuda {
Pair lstm_gates(Tensor gates, Tensor c);
Pair lstm_gates_backward(Tensor grad_h, Tensor grad_c, Tensor gates, Tensor c);
}  // namespace cuda

inline void check_lstm_gates(const char* op, const Tensor& gates, const Tensor& c) {
  check_shape(op, "gates", gates, "[B, 4n]", {any, any});
  check_shape(op, "c", c, "[B, n]", {any, any});
  if (c.size(0) != gates.size(0))
    fail(op, ": c must have the rows of gates, ", gates.size(0), ", got ", c.size(0));
  if (gates.size(1) != 4 * c.size(1))
    fail(op, ": gates must have 4n = ", 4 * c.size(1), " columns for c of shape ", shape_text(c),
         ", got ", shape_text(gates));
  check_float(op, {{"gates", gates}, {"c", c}});
}

inline void check_lstm_gates_backward(const Tensor& grad_h, const Tensor& grad_c,
                                      const Tensor& gates, const Tensor& c) {
  const char* op = "lstm_gates_backward";
  check_lstm_gates(op, gates, c);
  const Argument gates_argument{"gates", gates}, c_argument{"c", c};
  for (const auto& [gradient, like] : {std::pair{Argument{"grad_h", grad_h}, gates_argument},
                                       std::pair{Argument{"grad_c", grad_c}, c_argument}}) {
    check_shape(op, gradient.name, gradient.tensor, "[B, n]", {c.size(0), c.size(1)});
    check_device(op, gradient, like);
    check_dtype(op, gradient, like);
  }
}

}  // namespace aligndraw
