// A tensor as the launchers see it: no torch, no CUDA.
#pragma once

#include <cstdint>

struct CUstream_st;

namespace aligndraw::cuda {

enum class Type { float32, float64, bfloat16, float16 };

// Contiguous elements in device memory, to be read.
struct InputArray {
  const void* data;
  Type type;
};

// The same, to be written.
struct OutputArray {
  void* data;
  Type type;
};

// The sizes of a glimpse [p, p] of an image [B, C, H, W]; p is `size`.
struct GlimpseSizes {
  int64_t batch, channels, height, width, size;
};

}  // namespace aligndraw::cuda
