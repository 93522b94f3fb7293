#include "../lstm_sequence.h"

#include "factor.h"
#include "loop.h"
#include "lstm.h"

namespace aligndraw::cpu {
namespace {

struct NoWorkspace {};

Partition<NoWorkspace> partition_of(int64_t batch) {
  return {batch, [] { return std::make_unique<NoWorkspace>(); }};
}

template <class T>
SequenceResults forward(const Tensor& inputs, const Tensor& weight_hh, const Tensor& h0,
                        const Tensor& lengths, bool reverse) {
  const int64_t batch = inputs.size(0), count = inputs.size(1), m = h0.size(0);
  const auto tensor = [&](std::initializer_list<int64_t> shape) {
    return pooled(shape, inputs.scalar_type());
  };
  const SequenceResults results{tensor({batch, count, m}), tensor({batch, m}),
                                tensor({count, batch, 4 * m}), tensor({count + 1, batch, m}),
                                tensor({count + 1, batch, m})};
  const T *input = inputs.const_data_ptr<T>(), *first = h0.const_data_ptr<T>();
  const Right<T> weight(matrix(weight_hh.const_data_ptr<T>(), 4 * m, m), false);
  const int64_t* const length = lengths.const_data_ptr<int64_t>();
  const auto [states, last, gates, h, c] = std::apply(
      [](const auto&... t) { return std::tuple(t.template mutable_data_ptr<T>()...); }, results);
  partition_of(batch).each_part(
      [&, h = h, c = c, gates = gates, states = states](const BatchPart<NoWorkspace>& part) {
        part.each([&](NoWorkspace&, int64_t b) {
          std::copy_n(first, m, h + b * m);
          std::fill_n(c + b * m, m, T(0));
        });
        for (int64_t step = 0; step < (batch * m ? count : 0); ++step) {
          const int64_t i = reverse ? count - 1 - step : step;
          T* const gate = gates + step * batch * 4 * m;
          T *const before = h + step * batch * m, *const c_before = c + step * batch * m;
          T *const after = before + batch * m, *const c_after = c_before + batch * m;
          const Left<T> left(part.of(before, m).constant(), false);
          multiply<T>({{part.of(gate, 4 * m), left, weight}}, part.threads);
          part.each([&](NoWorkspace&, int64_t b) {
            add_row(gate + b * 4 * m, input + (b * count + i) * 4 * m, 4 * m);
            if (i < length[b]) {
              forward_row(gate + b * 4 * m, c_before + b * m, after + b * m, c_after + b * m, m);
            } else {
              std::copy_n(before + b * m, m, after + b * m);
              std::copy_n(c_before + b * m, m, c_after + b * m);
            }
            std::copy_n(after + b * m, m, states + (b * count + i) * m);
          });
        }
      });
  std::copy_n(h + count * batch * m, batch * m, last);
  return results;
}

template <class T>
SequenceGrads backward(const Tensor& grad_states, const Tensor& grad_last, const Tensor& inputs,
                       const Tensor& weight_hh, const Tensor& lengths, bool reverse,
                       const Tensor& gates, const Tensor& h, const Tensor& c) {
  const int64_t batch = inputs.size(0), count = inputs.size(1), m = weight_hh.size(1);
  const Tensor d_inputs = pooled_like(inputs);
  const Tensor d_weight = pooled_like(weight_hh);
  const Tensor d_first = pooled({m}, inputs.scalar_type());
  const Right<T> weight(matrix(weight_hh.const_data_ptr<T>(), 4 * m, m).transposed(), false);
  const T *gate = gates.const_data_ptr<T>(), *cell = c.const_data_ptr<T>();
  const T* const from_states = grad_states.const_data_ptr<T>();
  const int64_t* const length = lengths.const_data_ptr<int64_t>();
  T* const d_input = d_inputs.mutable_data_ptr<T>();
  const Buffer<T> d_gates(count * batch * 4 * m);
  const Buffer<T> d_h(batch * m), d_h_next(batch * m), d_c(batch * m), d_c_next(batch * m);
  std::copy_n(grad_last.const_data_ptr<T>(), batch * m, d_h.data());
  std::fill_n(d_c.data(), batch * m, T(0));
  partition_of(batch).each_part([&](const BatchPart<NoWorkspace>& part) {
    T *d_state = d_h, *d_state_before = d_h_next, *d_cell = d_c, *d_cell_before = d_c_next;
    for (int64_t step = batch * m ? count - 1 : -1; step >= 0; --step) {
      const int64_t i = reverse ? count - 1 - step : step;
      T* const d_gate = d_gates + step * batch * 4 * m;
      part.each([&](NoWorkspace&, int64_t b) {
        T *const d = d_gate + b * 4 * m, *const of_row = d_state + b * m;
        add_row(of_row, from_states + (b * count + i) * m, m);
        if (i < length[b]) {
          backward_row(of_row, d_cell + b * m, gate + (step * batch + b) * 4 * m,
                       cell + (step * batch + b) * m, d, d_cell_before + b * m, m);
          std::fill_n(d_state_before + b * m, m, T(0));
        } else {
          std::fill_n(d, 4 * m, T(0));
          std::copy_n(d_cell + b * m, m, d_cell_before + b * m);
          std::copy_n(of_row, m, d_state_before + b * m);
        }
        std::copy_n(d, 4 * m, d_input + (b * count + i) * 4 * m);
      });
      const Left<T> left(part.of(d_gate, 4 * m).constant(), false);
      multiply<T>({{part.of(d_state_before, m), left, weight, true}}, part.threads);
      std::swap(d_state, d_state_before);
      std::swap(d_cell, d_cell_before);
    }
  });
  const T* const d_last = count % 2 ? d_h_next : d_h;  // at the first word
  const Matrix<const T> d_all = matrix<const T>(d_gates, count * batch, 4 * m);
  const Matrix<const T> h_all = matrix(h.const_data_ptr<T>(), count * batch, m);
  multiply<T>({{matrix(d_weight.mutable_data_ptr<T>(), 4 * m, m),
                Left<T>(d_all.transposed(), false), Right<T>(h_all.transposed(), false)}},
              thread_count());
  T* const d_h0 = d_first.mutable_data_ptr<T>();
  std::fill_n(d_h0, m, T(0));
  for (int64_t b = 0; b < batch; ++b) add_row(d_h0, d_last + b * m, m);
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

}  // namespace aligndraw::cpu
