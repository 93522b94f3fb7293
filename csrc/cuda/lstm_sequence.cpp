// The language model's loop on a GPU: two launches per word each way, one of them a product.
#include "lstm_sequence.h"

#include "../lstm_sequence.h"
#include "work.h"

namespace aligndraw::cuda {
namespace {

template <class T>
SequenceResults forward(const Tensor& inputs, const Tensor& weight_hh, const Tensor& h0,
                        const Tensor& lengths, bool reverse) {
  const int64_t B = inputs.size(0), count = inputs.size(1), m = h0.size(0);
  const Work<T> work("lstm_sequence", inputs, false);
  const auto tensor = [&](std::initializer_list<int64_t> shape) {
    return torch::stable::new_empty(inputs, {shape.begin(), shape.size()});
  };
  const SequenceResults results{tensor({B, count, m}), tensor({B, m}), tensor({count, B, 4 * m}),
                                tensor({count + 1, B, m}), tensor({count + 1, B, m})};
  const auto [states, last, gates, h, c] = std::apply(
      [](const auto&... t) { return std::tuple(t.template mutable_data_ptr<T>()...); }, results);
  const auto weight = matrix(weight_hh.const_data_ptr<T>(), 4 * m, m).transposed();
  work.copy({h0.const_data_ptr<T>(), 0}, {h, m}, B, m);
  work.zero(c, B * m);
  for (int64_t step = 0; step < (B * m ? count : 0); ++step) {
    const int64_t row = step * B;
    T* const gate = gates + row * 4 * m;
    work.multiply(matrix(gate, B, 4 * m), matrix<const T>(h + row * m, B, m), weight);
    work.check(launch_word(Word<T>{inputs.const_data_ptr<T>(), h + row * m, c + row * m,
                                   lengths.const_data_ptr<int64_t>(), gate, h + (row + B) * m,
                                   c + (row + B) * m, states, step + 1 == count ? last : nullptr, B,
                                   count, m, reverse ? count - 1 - step : step},
                           work.stream()));
  }
  return results;
}

template <class T>
SequenceGrads backward(const Tensor& grad_states, const Tensor& grad_last, const Tensor& inputs,
                       const Tensor& weight_hh, const Tensor& lengths, bool reverse,
                       const Tensor& gates, const Tensor& h, const Tensor& c) {
  const int64_t B = inputs.size(0), count = inputs.size(1), m = weight_hh.size(1);
  Work<T> work("lstm_sequence_backward", inputs, false);
  const Tensor d_inputs = torch::stable::empty_like(inputs);
  const Tensor d_weight = torch::stable::empty_like(weight_hh);
  const Tensor d_first = torch::stable::new_empty(inputs, {m});
  const auto weight = matrix(weight_hh.const_data_ptr<T>(), 4 * m, m);
  T* const d_gates = work.allocate(count * B * 4 * m);
  T *const d_h = work.allocate(B * m), *const d_c = work.allocate(B * m);
  work.copy({grad_last.const_data_ptr<T>(), m}, {d_h, m}, B, m);
  work.zero(d_c, B * m);
  for (int64_t step = B * m ? count - 1 : -1; step >= 0; --step) {
    const int64_t row = step * B;
    T* const d_gate = d_gates + row * 4 * m;
    work.check(launch_word_backward(
        WordBackward<T>{grad_states.const_data_ptr<T>(), gates.const_data_ptr<T>() + row * 4 * m,
                        c.const_data_ptr<T>() + row * m, lengths.const_data_ptr<int64_t>(), d_h,
                        d_c, d_gate, d_inputs.mutable_data_ptr<T>(), B, count, m,
                        reverse ? count - 1 - step : step},
        work.stream()));
    work.multiply(matrix(d_h, B, m), matrix<const T>(d_gate, B, 4 * m), weight, true);
  }
  work.multiply(matrix(d_weight.mutable_data_ptr<T>(), 4 * m, m),
                matrix<const T>(d_gates, count * B, 4 * m).transposed(),
                matrix(h.const_data_ptr<T>(), count * B, m));
  work.sum_rows(d_h, m, B, m, d_first.mutable_data_ptr<T>());
  return {d_inputs, d_weight, d_first};
}

}  // namespace

SequenceResults lstm_sequence(Tensor inputs, Tensor weight_hh, Tensor h0, Tensor lengths,
                              bool reverse) {
  check_lstm_sequence("lstm_sequence", inputs, weight_hh, h0, lengths);
  const auto run = is_double(inputs) ? forward<double> : forward<float>;
  return run(as_contiguous(inputs), as_contiguous(weight_hh), as_contiguous(h0),
             as_contiguous(lengths), reverse);
}

SequenceGrads lstm_sequence_backward(Tensor grad_states, Tensor grad_last, Tensor inputs,
                                     Tensor weight_hh, Tensor h0, Tensor lengths, bool reverse,
                                     Tensor gates, Tensor h, Tensor c) {
  check_lstm_sequence_backward(grad_states, grad_last, inputs, weight_hh, h0, lengths, gates, h, c);
  const auto run = is_double(inputs) ? backward<double> : backward<float>;
  return run(as_contiguous(grad_states), as_contiguous(grad_last), as_contiguous(inputs),
             as_contiguous(weight_hh), as_contiguous(lengths), reverse, as_contiguous(gates),
             as_contiguous(h), as_contiguous(c));
}

}  // namespace aligndraw::cuda
