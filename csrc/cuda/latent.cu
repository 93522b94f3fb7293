#include "latent.h"

#include <algorithm>

#include "../math/latent.h"
#include "launch.h"
#include "number.h"
#include "sum.h"

namespace aligndraw::cuda {
namespace {

constexpr int threads = 128;

// One block per latent.
template <class F, class T = typename F::Number>
__global__ void __launch_bounds__(threads, 1)
    forward(LatentInputs inputs, OutputArray z, T* __restrict__ kl, T* __restrict__ log_ratio,
            int64_t size) {
  const int64_t b = blockIdx.x;
  T sums[2] = {};
  for (int64_t n = b * size + threadIdx.x; n < (b + 1) * size; n += threads) {
    const auto latent = math::latent(F::load(inputs.mu_q, n), F::load(inputs.log_sigma_q, n),
                                     F::load(inputs.mu_p, n), F::load(inputs.log_sigma_p, n),
                                     F::load(inputs.noise, n));
    F::store(z, n, latent.z);
    sums[0] += latent.kl;
    sums[1] += latent.log_ratio;
  }
  SharedArrays shared;
  block_sum(sums, shared.allocate<T>(2 * threads / warp_threads));
  if (threadIdx.x > 0) return;
  kl[b] = sums[0];
  log_ratio[b] = sums[1];
}

// One thread per component. blockIdx.y goes over the batch, in strides where the batch has more
// rows than the grid (65,535).
template <class F>
__global__ void __launch_bounds__(threads, 1)
    backward(InputArray grad_z, InputArray grad_kl, InputArray grad_log_ratio, LatentInputs inputs,
             LatentOutputs grads, int64_t B, int64_t size) {
  const int64_t j = int64_t(blockIdx.x) * threads + threadIdx.x;
  if (j >= size) return;
  for (int64_t b = blockIdx.y; b < B; b += gridDim.y) {
    const int64_t n = b * size + j;
    const auto grad = math::latent_backward(
        F::load(grad_z, n), F::load(grad_kl, b), F::load(grad_log_ratio, b),
        F::load(inputs.mu_q, n), F::load(inputs.log_sigma_q, n), F::load(inputs.mu_p, n),
        F::load(inputs.log_sigma_p, n), F::load(inputs.noise, n));
    F::store(grads.mu_q, n, grad.mu_q);
    F::store(grads.log_sigma_q, n, grad.log_sigma_q);
    F::store(grads.mu_p, n, grad.mu_p);
    F::store(grads.log_sigma_p, n, grad.log_sigma_p);
    F::store(grads.noise, n, grad.noise);
  }
}

}  // namespace

const char* launch_latent(const LatentInputs& inputs, OutputArray z, void* kl, void* log_ratio,
                          int64_t B, int64_t size, CUstream_st* stream) {
  if (B == 0) return nullptr;
  return with_access(
      {inputs.mu_q.type, inputs.log_sigma_q.type, inputs.mu_p.type, inputs.log_sigma_p.type,
       inputs.noise.type},
      [&]<class F>() {
        using T = typename F::Number;
        return report(launch(forward<F>, row_of(B), dim3(threads),
                             shared_bytes<T>(2 * threads / warp_threads), stream, false, inputs, z,
                             static_cast<T*>(kl), static_cast<T*>(log_ratio), size));
      });
}

const char* launch_latent_backward(InputArray grad_z, InputArray grad_kl, InputArray grad_log_ratio,
                                   const LatentInputs& inputs, const LatentOutputs& grads,
                                   int64_t B, int64_t size, CUstream_st* stream) {
  if (B * size == 0) return nullptr;
  const dim3 blocks(unsigned((size + threads - 1) / threads),
                    unsigned(std::min<int64_t>(B, 65535)));
  return with_access(
      {grad_z.type, grad_kl.type, grad_log_ratio.type, inputs.mu_q.type, inputs.log_sigma_q.type,
       inputs.mu_p.type, inputs.log_sigma_p.type, inputs.noise.type},
      [&]<class F>() {
        return report(launch(backward<F>, blocks, dim3(threads), 0, stream, false, grad_z, grad_kl,
                             grad_log_ratio, inputs, grads, B, size));
      });
}

}  // namespace aligndraw::cuda
