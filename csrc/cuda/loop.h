// Kernels of the loops on a GPU between their matrix products, on raw memory of float or double.
// All launchers return nullptr, or CUDA's error message.
#pragma once
#include <cstdint>

struct CUstream_st;

namespace aligndraw::cuda {

// Rows of numbers, `row_stride` elements apart. A stride of 0 repeats one row.
template <class T>
struct Rows {
  T* data = nullptr;
  int64_t row_stride = 0;
};

// to [rows, columns] = from, or 0 where `from` is null.
template <class T>
const char* launch_copy(Rows<const T> from, Rows<T> to, int64_t rows, int64_t columns,
                        CUstream_st* stream);

// to [rows, columns], of bfloat16 and contiguous, = from, rounded.
const char* launch_round(Rows<const float> from, void* to, int64_t rows, int64_t columns,
                         CUstream_st* stream);

// result [columns] = the sum of the rows.
template <class T>
const char* launch_sum_rows(Rows<const T> data, int64_t rows, int64_t columns, T* result,
                            CUstream_st* stream);

// Finishes an LSTM's step. The gates are the sum of the terms and the bias.
template <class T>
struct LstmStep {
  Rows<const T> terms[3];  // [B, 4 units] each; a null one counts as 0
  const T* bias;           // [4 units]
  const T* c;              // [B, units]
  T* gates;                // [B, 4 units]; null where they are not kept
  T* h;                    // [B, units]
  T* c_next;               // [B, units]; it may be c
};
template <class T>
const char* launch_lstm_step(const LstmStep<T>& step, int64_t batch, int64_t units,
                             CUstream_st* stream);

// Back through it.
template <class T>
struct LstmStepBackward {
  Rows<const T> grad_h;   // [B, units]
  T* grad_c;              // [B, units]: of c_next, replaced by that of c
  const T* gates;         // [B, 4 units]
  const T* c;             // [B, units]
  Rows<T> grad_gates[2];  // [B, 4 units] each: one or two places for the same gradient
};
template <class T>
const char* launch_lstm_step_backward(const LstmStepBackward<T>& step, int64_t batch, int64_t units,
                                      CUstream_st* stream);

}  // namespace aligndraw::cuda
