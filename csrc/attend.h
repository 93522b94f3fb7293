// attend in C++: its signatures and its checks.
//
//   forward:   query [B, l], keys [B, N, l], score [l], values [B, N, d], lengths int64 [B]
//              ->  context [B, d], weights [B, N]
//   backward:  grad_context, grad_weights, the arguments, weights
//              ->  the gradients of query, keys, score and values
//
// The context has the dtype of values. Strides are free, and B may be 0. The arithmetic and the
// weights are float32, or float64 when all are.
#pragma once
#include <tuple>

#include "check.h"

namespace aligndraw {

namespace cpu {
std::tuple<Tensor, Tensor> attend(Tensor query, Tensor keys, Tensor score, Tensor values,
                                  Tensor lengths);
std::tuple<Tensor, Tensor, Tensor, Tensor> attend_backward(Tensor grad_context, Tensor grad_weights,
                                                           Tensor query, Tensor keys, Tensor score,
                                                           Tensor values, Tensor lengths,
                                                           Tensor weights);
}  // namespace cpu

namespace cuda {
std::tuple<Tensor, Tensor> attend(Tensor query, Tensor keys, Tensor score, Tensor values,
                                  Tensor lengths);
std::tuple<Tensor, Tensor, Tensor, Tensor> attend_backward(Tensor grad_context, Tensor grad_weights,
                                                           Tensor query, Tensor keys, Tensor score,
                                                           Tensor values, Tensor lengths,
                                                           Tensor weights);
}  // namespace cuda

inline void check_attend(const char* op, const Tensor& query, const Tensor& keys,
                         const Tensor& score, const Tensor& values, const Tensor& lengths) {
  check_shape(op, "keys", keys, "[B, N, l]", {any, any, any});
  const int64_t batch = keys.size(0), words = keys.size(1), units = keys.size(2);
  if (words < 1) fail(op, ": keys must have at least one word, got ", shape_text(keys));
  check_shape(op, "query", query, "[B, l]", {batch, units});
  check_shape(op, "score", score, "[l]", {units});
  check_shape(op, "values", values, "[B, N, d]", {batch, words, any});
  check_shape(op, "lengths", lengths, "[B]", {batch});
  check_float(op, {{"query", query}, {"keys", keys}, {"score", score}, {"values", values}});
  check_device(op, {"lengths", lengths}, {"query", query});
  if (lengths.scalar_type() != ScalarType::Long)
    fail(op, ": lengths must be int64, got ", dtype_text(lengths.scalar_type()));
}

inline void check_attend_backward(const Tensor& grad_context, const Tensor& grad_weights,
                                  const Tensor& query, const Tensor& keys, const Tensor& score,
                                  const Tensor& values, const Tensor& lengths,
                                  const Tensor& weights) {
  const char* op = "attend_backward";
  check_attend(op, query, keys, score, values, lengths);
  const int64_t batch = keys.size(0), words = keys.size(1);
  check_shape(op, "weights", weights, "[B, N]", {batch, words});
  check_shape(op, "grad_weights", grad_weights, "[B, N]", {batch, words});
  check_shape(op, "grad_context", grad_context, "[B, d]", {batch, values.size(2)});
  check_float(op, {{"query", query},
                   {"weights", weights},
                   {"grad_weights", grad_weights},
                   {"grad_context", grad_context}});
}

}  // namespace aligndraw
