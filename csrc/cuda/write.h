// write on raw memory: see ../write.h for the contract, ../math/filterbank.h for the formulas.
// Both launchers return nullptr, or CUDA's error message.
#pragma once
#include <cstdint>

#include "array.h"

namespace aligndraw::cuda {

// patch [B, C, p, p], window [B, 5], canvas [B, C, H, W] -> the new canvas.
const char* launch_write(InputArray patch, InputArray window, InputArray canvas, OutputArray result,
                         const GlimpseSizes& sizes, CUstream_st* stream);

// grad of the new canvas, patch, window -> grad_patch, grad_window.
const char* launch_write_backward(InputArray grad, InputArray patch, InputArray window,
                                  OutputArray grad_patch, OutputArray grad_window,
                                  const GlimpseSizes& sizes, CUstream_st* stream);

}  // namespace aligndraw::cuda
