// The kernels of each device. The ops themselves are defined in Python (aligndraw/ops).
#include <torch/csrc/stable/library.h>

#include "lstm.h"

STABLE_TORCH_LIBRARY_IMPL(aligndraw, CPU, ops) {
  using namespace aligndraw::cpu;
  ops.impl("lstm_gates", TORCH_BOX(&lstm_gates));
  ops.impl("lstm_gates_backward", TORCH_BOX(&lstm_gates_backward));
}

#ifdef ALIGNDRAW_CUDA
STABLE_TORCH_LIBRARY_IMPL(aligndraw, CUDA, ops) {
  using namespace aligndraw::cuda;
  ops.impl("lstm_gates", TORCH_BOX(&lstm_gates));
  ops.impl("lstm_gates_backward", TORCH_BOX(&lstm_gates_backward));
}
#endif
