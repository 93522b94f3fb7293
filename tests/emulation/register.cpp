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

// The linker puts this in the place of PyTorch's (--wrap). On a GPU that asks the driver where a
// pointer lies if it is not null, and has no answer for an offset from null; on a CPU it takes any.
extern "C" {
AOTITorchError __real_aoti_torch_create_tensor_from_blob_v2(void*, int64_t, const int64_t*,
                                                            const int64_t*, int64_t, int32_t,
                                                            int32_t, int32_t, AtenTensorHandle*,
                                                            int32_t, const uint8_t*, int64_t);

AOTITorchError __wrap_aoti_torch_create_tensor_from_blob_v2(
    void* data, int64_t ndim, const int64_t* sizes, const int64_t* strides, int64_t offset,
    int32_t dtype, int32_t device, int32_t index, AtenTensorHandle* result, int32_t layout,
    const uint8_t* metadata, int64_t metadata_size) {
  if (data && std::find(sizes, sizes + ndim, 0) != sizes + ndim)
    aligndraw::fail("a tensor of no elements has a place: a GPU's driver does not know it");
  return __real_aoti_torch_create_tensor_from_blob_v2(data, ndim, sizes, strides, offset, dtype,
                                                      device, index, result, layout, metadata,
                                                      metadata_size);
}
}

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
