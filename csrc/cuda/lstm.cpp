#include "lstm.h"

#include "../lstm.h"
#include "glue.h"

namespace aligndraw::cuda {

Pair lstm_gates(Tensor gates, Tensor c) {
  check_lstm_gates("lstm_gates", gates, c);
  const OnDeviceOf device(gates);
  gates = as_contiguous(gates);
  c = as_contiguous(c);
  const Tensor h = torch::stable::new_empty(gates, c.sizes());
  const Tensor c_next = torch::stable::empty_like(c);
  check_launch("lstm_gates",
               launch_lstm_gates(input(gates), input(c), h.mutable_data_ptr(),
                                 c_next.mutable_data_ptr(), c.size(0), c.size(1), device.stream()));
  return {h, c_next};
}

Pair lstm_gates_backward(Tensor grad_h, Tensor grad_c, Tensor gates, Tensor c) {
  check_lstm_gates_backward(grad_h, grad_c, gates, c);
  const OnDeviceOf device(gates);
  grad_h = as_contiguous(grad_h);
  grad_c = as_contiguous(grad_c);
  gates = as_contiguous(gates);
  c = as_contiguous(c);
  const Tensor grad_gates = torch::stable::empty_like(gates);
  const Tensor grad_c_prev = torch::stable::empty_like(c);
  check_launch("lstm_gates_backward",
               launch_lstm_gates_backward(grad_h.const_data_ptr(), grad_c.const_data_ptr(),
                                          input(gates), input(c), grad_gates.mutable_data_ptr(),
                                          grad_c_prev.mutable_data_ptr(), c.size(0), c.size(1),
                                          device.stream()));
  return {grad_gates, grad_c_prev};
}

}  // namespace aligndraw::cuda
