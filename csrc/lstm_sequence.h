// lstm_sequence in C++: its signatures, and its checks. Arguments, results and tape:
// aligndraw/ops/lstm_sequence.py.
//
// All floating tensors are float32, or all float64. Strides are free, and B may be 0.
#pragma once
#include <tuple>

#include "check.h"

namespace aligndraw {

using SequenceResults = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;
using SequenceGrads = std::tuple<Tensor, Tensor, Tensor>;

namespace cpu {
SequenceResults lstm_sequence(Tensor inputs, Tensor weight_hh, Tensor h0, Tensor lengths,
                              bool reverse);
SequenceGrads lstm_sequence_backward(Tensor grad_states, Tensor grad_last, Tensor inputs,
                                     Tensor weight_hh, Tensor h0, Tensor lengths, bool reverse,
                                     Tensor gates, Tensor h, Tensor c);
}  // namespace cpu

inline void check_lstm_sequence(const char* op, const Tensor& inputs, const Tensor& weight_hh,
                                const Tensor& h0, const Tensor& lengths) {
  check_shape(op, "h0", h0, "[m]", {any});
  const int64_t units = h0.size(0);
  check_shape(op, "inputs", inputs, "[B, N, 4m]", {any, any, 4 * units});
  if (inputs.size(1) < 1)
    fail(op, ": inputs must have at least one word, got ", shape_text(inputs));
  check_shape(op, "weight_hh", weight_hh, "[4m, m]", {4 * units, units});
  check_shape(op, "lengths", lengths, "[B]", {inputs.size(0)});
  if (lengths.scalar_type() != ScalarType::Long)
    fail(op, ": lengths must be int64, got ", dtype_text(lengths.scalar_type()));
  const Argument first{"inputs", inputs};
  check_device(op, {"lengths", lengths}, first);
  const ScalarType type = inputs.scalar_type();
  if (type != ScalarType::Float && type != ScalarType::Double)
    fail(op, ": inputs must be float32 or float64, got ", dtype_text(type));
  for (const Argument& argument : {Argument{"weight_hh", weight_hh}, Argument{"h0", h0}}) {
    check_device(op, argument, first);
    check_dtype(op, argument, first);
  }
}

inline void check_lstm_sequence_backward(const Tensor& grad_states, const Tensor& grad_last,
                                         const Tensor& inputs, const Tensor& weight_hh,
                                         const Tensor& h0, const Tensor& lengths,
                                         const Tensor& gates, const Tensor& h, const Tensor& c) {
  const char* op = "lstm_sequence_backward";
  check_lstm_sequence(op, inputs, weight_hh, h0, lengths);
  const int64_t batch = inputs.size(0), count = inputs.size(1), units = h0.size(0);
  check_shape(op, "grad_states", grad_states, "[B, N, m]", {batch, count, units});
  check_shape(op, "grad_last", grad_last, "[B, m]", {batch, units});
  check_shape(op, "gates", gates, "[N, B, 4m]", {count, batch, 4 * units});
  check_shape(op, "h", h, "[N + 1, B, m]", {count + 1, batch, units});
  check_shape(op, "c", c, "[N + 1, B, m]", {count + 1, batch, units});
  for (const Argument& argument :
       {Argument{"grad_states", grad_states}, Argument{"grad_last", grad_last},
        Argument{"gates", gates}, Argument{"h", h}, Argument{"c", c}}) {
    check_device(op, argument, {"inputs", inputs});
    check_dtype(op, argument, {"inputs", inputs});
  }
}

}  // namespace aligndraw
