#include "attend.h"

#include "../attend.h"
#include "glue.h"

namespace aligndraw::cuda {
namespace {

AttendSizes sizes_of(const Tensor& keys, const Tensor& values) {
  return {keys.size(0), keys.size(1), keys.size(2), values.size(2)};
}

void check_counts(const char* op, const AttendSizes& s) {
  check_count(op, "the keys of a caption", {s.words, s.units});
  check_count(op, "the values of a caption", {s.words, s.width});
}

}  // namespace

std::tuple<Tensor, Tensor> attend(Tensor query, Tensor keys, Tensor score, Tensor values,
                                  Tensor lengths) {
  check_attend("attend", query, keys, score, values, lengths);
  check_counts("attend", sizes_of(keys, values));
  const OnDeviceOf device(query);
  query = as_contiguous(query);
  keys = as_contiguous(keys);
  score = as_contiguous(score);
  values = as_contiguous(values);
  lengths = as_contiguous(lengths);
  const AttendSizes sizes = sizes_of(keys, values);
  const Tensor context = torch::stable::new_empty(values, {sizes.batch, sizes.width});
  const Tensor weights =
      torch::stable::new_empty(query, {sizes.batch, sizes.words}, arithmetic_type(query));
  check_launch("attend",
               launch_attend({input(query), input(keys), input(score), input(values),
                              lengths.const_data_ptr<int64_t>()},
                             output(context), weights.mutable_data_ptr(), sizes, device.stream()));
  return {context, weights};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> attend_backward(Tensor grad_context, Tensor grad_weights,
                                                           Tensor query, Tensor keys, Tensor score,
                                                           Tensor values, Tensor lengths,
                                                           Tensor weights) {
  check_attend_backward(grad_context, grad_weights, query, keys, score, values, lengths, weights);
  check_counts("attend_backward", sizes_of(keys, values));
  const OnDeviceOf device(query);
  grad_context = as_contiguous(grad_context);
  grad_weights = as_contiguous(grad_weights);
  query = as_contiguous(query);
  keys = as_contiguous(keys);
  score = as_contiguous(score);
  values = as_contiguous(values);
  lengths = as_contiguous(lengths);
  weights = as_contiguous(weights);
  const AttendSizes sizes = sizes_of(keys, values);
  const Tensor grad_query = torch::stable::empty_like(query);
  const Tensor grad_keys = torch::stable::empty_like(keys);
  const Tensor grad_score = torch::stable::empty_like(score);
  const Tensor grad_values = torch::stable::empty_like(values);
  const Tensor scratch = torch::stable::new_empty(
      query, {sizes.batch * (sizes.words + sizes.units)}, arithmetic_type(query));
  check_launch("attend_backward",
               launch_attend_backward(
                   input(grad_context), input(grad_weights),
                   {input(query), input(keys), input(score), input(values),
                    lengths.const_data_ptr<int64_t>()},
                   input(weights),
                   {output(grad_query), output(grad_keys), output(grad_score), output(grad_values)},
                   scratch.mutable_data_ptr(), sizes, device.stream()));
  return {grad_query, grad_keys, grad_score, grad_values};
}

}  // namespace aligndraw::cuda
