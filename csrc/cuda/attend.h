// attend on raw memory: see ../attend.h for the contract, ../math/attend.h for the formulas.
// Both launchers return nullptr, or CUDA's error message.
#pragma once
#include <cstdint>

#include "array.h"

namespace aligndraw::cuda {

struct AttendSizes {
  int64_t batch, words, units, width;  // B, N, l, d
};

// query [B, l], keys [B, N, l], score [l], values [B, N, d], lengths [B]
struct AttendInputs {
  InputArray query, keys, score, values;
  const int64_t* lengths;
};

// The gradients of the floating arguments.
struct AttendOutputs {
  OutputArray query, keys, score, values;
};

// -> context [B, d], and weights [B, N] of the type of the arithmetic.
const char* launch_attend(const AttendInputs& inputs, OutputArray context, void* weights,
                          const AttendSizes& sizes, CUstream_st* stream);

// grad_context [B, d], grad_weights [B, N], weights [B, N] -> the gradients. `scratch` holds
// B (N + l) numbers of the type of the arithmetic.
const char* launch_attend_backward(InputArray grad_context, InputArray grad_weights,
                                   const AttendInputs& inputs, InputArray weights,
                                   const AttendOutputs& grads, void* scratch,
                                   const AttendSizes& sizes, CUstream_st* stream);

}  // namespace aligndraw::cuda
