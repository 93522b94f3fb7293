// lstm_sequence in C++: its signatures and its checks. aligndraw/ops/lstm_sequence.py is the
// contract.
//
// All floating tensors are float32, or all float64. Strides are free, and B may be 0.
#pragma once
#include <tuple>

#include "loop.h"

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

namespace cuda {
SequenceResults lstm_sequence(Tensor inputs, Tensor weight_hh, Tensor h0, Tensor lengths,
                              bool reverse);
SequenceGrads lstm_sequence_backward(Tensor grad_states, Tensor grad_last, Tensor inputs,
                                     Tensor weight_hh, Tensor h0, Tensor lengths, bool reverse,
                                     Tensor gates, Tensor h, Tensor c);
}  // namespace cuda

inline void check_lstm_sequence(const char* op, const Tensor& inputs, const Tensor& weight_hh,
                                const Tensor& h0, const Tensor& lengths) {
  check_shape(op, "h0", h0, "[m]", {any});
  const int64_t units = h0.size(0);
  check_shape(op, "inputs", inputs, "[B, N, 4m]", {any, any, 4 * units});
  if (inputs.size(1) < 1)
    fail(op, ": inputs must have at least one word, got ", shape_text(inputs));
  check_shape(op, "weight_hh", weight_hh, "[4m, m]", {4 * units, units});
  check_shape(op, "lengths", lengths, "[B]", {inputs.size(0)});
  check_loop(op, lengths, {"inputs", inputs}, {{"weight_hh", weight_hh}, {"h0", h0}});
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
  check_loop(op, lengths, {"inputs", inputs},
             {{"grad_states", grad_states},
              {"grad_last", grad_last},
              {"gates", gates},
              {"h", h},
              {"c", c}});
}

}  // namespace aligndraw
