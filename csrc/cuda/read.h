// read on raw memory: see ../read.h for the contract, ../math/filterbank.h for the formulas.
// Both launchers return nullptr, or CUDA's error message.
#pragma once
#include <cstdint>

#include "array.h"

namespace aligndraw::cuda {

// image [B, C, H, W], window [B, 5], canvas like image or of null data
// -> the glimpse [B, C, p, p], or [B, 2C, p, p] with a canvas.
const char* launch_read(InputArray image, InputArray window, InputArray canvas, OutputArray glimpse,
                        const GlimpseSizes& sizes, CUstream_st* stream);

// grad of the glimpse, image, window, canvas -> grad_window, and grad_image and grad_canvas unless
// these are of null data.
const char* launch_read_backward(InputArray grad, InputArray image, InputArray window,
                                 InputArray canvas, OutputArray grad_image, OutputArray grad_window,
                                 OutputArray grad_canvas, const GlimpseSizes& sizes,
                                 CUstream_st* stream);

}  // namespace aligndraw::cuda
