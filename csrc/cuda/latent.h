// latent on raw memory: see ../latent.h for the contract, ../math/latent.h for the formulas.
// Both launchers return nullptr, or CUDA's error message.
#pragma once
#include <cstdint>

#include "array.h"

namespace aligndraw::cuda {

// The five arguments, each [B, size].
struct LatentInputs {
  InputArray mu_q, log_sigma_q, mu_p, log_sigma_p, noise;
};

// Their gradients.
struct LatentOutputs {
  OutputArray mu_q, log_sigma_q, mu_p, log_sigma_p, noise;
};

// -> z [B, size], and kl, log_ratio [B] of the type of the arithmetic.
const char* launch_latent(const LatentInputs& inputs, OutputArray z, void* kl, void* log_ratio,
                          int64_t B, int64_t size, CUstream_st* stream);

// grad_z [B, size], grad_kl [B], grad_log_ratio [B] -> the gradients of the five.
const char* launch_latent_backward(InputArray grad_z, InputArray grad_kl, InputArray grad_log_ratio,
                                   const LatentInputs& inputs, const LatentOutputs& grads,
                                   int64_t B, int64_t size, CUstream_st* stream);

}  // namespace aligndraw::cuda
