// A tensor as the launchers see it: no torch, no CUDA.
#pragma once

struct CUstream_st;

namespace aligndraw::cuda {

enum class Type { float32, float64, bfloat16, float16 };

// Contiguous elements in device memory, to be read.
struct In {
  const void* data;
  Type type;
};

// The same, to be written.
struct Out {
  void* data;
  Type type;
};

}  // namespace aligndraw::cuda
