// The ops of csrc/cuda, for CPU tensors: their kernels run in the stand-in for CUDA.
#include <cuda_runtime.h>
#include <torch/csrc/inductor/aoti_torch/generated/c_shim_cpu.h>
#include <torch/csrc/stable/library.h>

#include <algorithm>

#include "attend.h"
#include "latent.h"
#include "lstm.h"
#include "lstm_sequence.h"
#include "read.h"
#include "unroll.h"
#include "unroll_prior.h"
#include "write.h"

// The linker puts these in the place of functions of PyTorch and of the stand-in (--wrap).
//
// On a GPU a tensor of memory asks the driver where a pointer lies if it is not null, and has no
// answer for an offset from null; on a CPU it takes any. And a product of bfloat16 is slower where
// rows do not begin on 16 bytes.
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
  if (data && dtype == aoti_torch_dtype_bfloat16() &&
      *std::max_element(strides, strides + ndim) % 8)
    aligndraw::fail("the rows of an operand of bfloat16 do not begin on 16 bytes");
  return __real_aoti_torch_create_tensor_from_blob_v2(data, ndim, sizes, strides, offset, dtype,
                                                      device, index, result, layout, metadata,
                                                      metadata_size);
}

// What has been launched so far: kernels, and PyTorch's products.
__attribute__((visibility("default"))) int64_t launched_kernels = 0, launched_products = 0;

#define RUN "_ZN11cuda_on_cpu3runERK18cudaLaunchConfig_tPKvPFvPvES5_"
cudaError_t real_run(const cudaLaunchConfig_t&, const void*, void (*)(void*),
                     void*) asm("__real_" RUN);
cudaError_t counted_run(const cudaLaunchConfig_t&, const void*, void (*)(void*),
                        void*) asm("__wrap_" RUN);
__attribute__((used)) cudaError_t counted_run(const cudaLaunchConfig_t& config, const void* kernel,
                                              void (*body)(void*), void* arguments) {
  ++launched_kernels;
  return real_run(config, kernel, body, arguments);
}

#define COUNTED(product)                                                                          \
  AOTITorchError __real_##product(AtenTensorHandle, AtenTensorHandle, AtenTensorHandle);          \
  AOTITorchError __wrap_##product(AtenTensorHandle out, AtenTensorHandle a, AtenTensorHandle b) { \
    ++launched_products;                                                                          \
    return __real_##product(out, a, b);                                                           \
  }
COUNTED(aoti_torch_cpu_mm_out)
COUNTED(aoti_torch_cpu_bmm_out)
AOTITorchError __real_aoti_torch_cpu_addmm_out(AtenTensorHandle, AtenTensorHandle, AtenTensorHandle,
                                               AtenTensorHandle, double, double);
AOTITorchError __wrap_aoti_torch_cpu_addmm_out(AtenTensorHandle out, AtenTensorHandle self,
                                               AtenTensorHandle a, AtenTensorHandle b, double beta,
                                               double alpha) {
  ++launched_products;
  return __real_aoti_torch_cpu_addmm_out(out, self, a, b, beta, alpha);
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
