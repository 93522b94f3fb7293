// Registers the kernels of each device. Python (aligndraw/ops) defines the ops.
#include <torch/csrc/stable/library.h>

#include "attend.h"
#include "cpu/factor.h"
#include "cpu/packed_decoder.h"
#include "latent.h"
#include "lstm.h"
#include "lstm_sequence.h"
#include "muon.h"
#include "read.h"
#include "rmsprop.h"
#include "unroll.h"
#include "unroll_prior.h"
#include "write.h"

namespace aligndraw {

// The numbers of the ISA that is used and of the best one here: aligndraw/backends.py.
STABLE_TORCH_LIBRARY_FRAGMENT(aligndraw, ops) {
  ops.def("isa() -> int");
  ops.def("best_isa() -> int");
}

// What aligndraw/ops/packed_decoder.py alone calls; `unroll_prior_packed` is defined there.
STABLE_TORCH_LIBRARY_FRAGMENT(aligndraw, ops) {
  ops.def("fingerprint(Tensor[] tensors) -> int");
  ops.def(
      "pack_decoder(Tensor decoder_ih, Tensor decoder_hh, Tensor heads, int latents) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(aligndraw, CompositeExplicitAutograd, ops) {
  ops.impl("best_isa", TORCH_BOX(&cpu::best_isa_number));
  ops.impl("isa", TORCH_BOX(&cpu::isa_number));
}

STABLE_TORCH_LIBRARY_IMPL(aligndraw, CPU, ops) {
  ops.impl("attend", TORCH_BOX(&cpu::attend));
  ops.impl("attend_backward", TORCH_BOX(&cpu::attend_backward));
  ops.impl("product", TORCH_BOX(&cpu::product_of));
  ops.impl("latent", TORCH_BOX(&cpu::latent));
  ops.impl("latent_backward", TORCH_BOX(&cpu::latent_backward));
  ops.impl("lstm_gates", TORCH_BOX(&cpu::lstm_gates));
  ops.impl("lstm_gates_backward", TORCH_BOX(&cpu::lstm_gates_backward));
  ops.impl("lstm_sequence", TORCH_BOX(&cpu::lstm_sequence));
  ops.impl("lstm_sequence_backward", TORCH_BOX(&cpu::lstm_sequence_backward));
  ops.impl("fingerprint", TORCH_BOX(&cpu::fingerprint));
  ops.impl("muon_", TORCH_BOX(&cpu::muon_));
  ops.impl("pack_decoder", TORCH_BOX(&cpu::pack_decoder));
  ops.impl("read", TORCH_BOX(&cpu::read));
  ops.impl("read_backward", TORCH_BOX(&cpu::read_backward));
  ops.impl("rmsprop_", TORCH_BOX(&cpu::rmsprop_));
  ops.impl("unroll", TORCH_BOX(&cpu::unroll));
  ops.impl("unroll_backward", TORCH_BOX(&cpu::unroll_backward));
  ops.impl("unroll_prior", TORCH_BOX(&cpu::unroll_prior));
  ops.impl("unroll_prior_packed", TORCH_BOX(&cpu::unroll_prior_packed));
  ops.impl("write", TORCH_BOX(&cpu::write));
  ops.impl("write_backward", TORCH_BOX(&cpu::write_backward));
}

#ifdef ALIGNDRAW_CUDA
STABLE_TORCH_LIBRARY_IMPL(aligndraw, CUDA, ops) {
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
#endif

}  // namespace aligndraw
