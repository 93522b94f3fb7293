// The ops of csrc/cuda, for CPU tensors: their kernels run in the stand-in for CUDA.
#include <torch/csrc/stable/library.h>

#include "attend.h"
#include "latent.h"
#include "lstm.h"
#include "lstm_sequence.h"
#include "read.h"
#include "unroll.h"
#include "unroll_prior.h"
#include "write.h"

namespace aligndraw {

STABLE_TORCH_LIBRARY_IMPL(aligndraw_emulated, CPU, ops) {
  ops.impl("attend", TORCH_BOX(&cuda::attend));
  ops.impl("attend_backward", TORCH_BOX(&cuda::attend_backward));
  ops.impl("latent", TORCH_BOX(&cuda::latent));
  ops.impl("latent_backward", TORCH_BOX(&cuda::latent_backward));
  ops.impl("lstm_gates", TORCH_BOX(&cuda::lstm_gates));
  ops.impl("lstm_gates_backward", TORCH_BOX(&cuda::lstm_gates_backward));
  ops.impl("lstm_sequence", TORCH_BOX(&cuda::lstm_sequence));
  ops.impl("lstm_sequence_backward", TORCH_BOX(&cuda::lstm_sequence_backward));
  ops.impl("read", TORCH_BOX(&cuda::read));
  ops.impl("read_backward", TORCH_BOX(&cuda::read_backward));
  ops.impl("unroll", TORCH_BOX(&cuda::unroll));
  ops.impl("unroll_backward", TORCH_BOX(&cuda::unroll_backward));
  ops.impl("unroll_prior", TORCH_BOX(&cuda::unroll_prior));
  ops.impl("write", TORCH_BOX(&cuda::write));
  ops.impl("write_backward", TORCH_BOX(&cuda::write_backward));
}

}  // namespace aligndraw
