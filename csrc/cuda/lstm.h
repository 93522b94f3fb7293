// lstm_gates on raw memory: see ../lstm.h for the contract, ../math/lstm.h for the formulas.
// Both launchers return nullptr, or CUDA's error message.
#pragma once
#include <cstdint>

#include "array.h"

namespace aligndraw::cuda {

// gates [B, 4n], c [B, n] -> h [B, n] of gates' type, c_next [B, n] of c's.
const char* launch_lstm_gates(InputArray gates, InputArray c, void* h, void* c_next, int64_t B,
                              int64_t n, CUstream_st* stream);

// grad_h of gates' type, grad_c of c's -> grad_gates, grad_c_prev.
const char* launch_lstm_gates_backward(const void* grad_h, const void* grad_c, InputArray gates,
                                       InputArray c, void* grad_gates, void* grad_c_prev, int64_t B,
                                       int64_t n, CUstream_st* stream);

}  // namespace aligndraw::cuda
