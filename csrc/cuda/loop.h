// Kernels of the loops on a GPU between their matrix products, on raw memory of float or double.
// All launchers return nullptr, or CUDA's error message.
#pragma once
#include <cstdint>

#include "../math/scalar.h"

struct CUstream_st;

namespace aligndraw::cuda {

// Rows of numbers, `row_stride` elements apart. A stride of 0 repeats one row.
template <class T>
struct Rows {
  T* data = nullptr;
  int64_t row_stride = 0;
};

// The stride of rows of `columns` numbers that PyTorch's products read: eight of bfloat16 are 16
// bytes, and from such places on the products load 16 bytes at once.
ALIGNDRAW_INLINE int64_t padded(int64_t columns) { return (columns + 7) / 8 * 8; }

// Rows that a product reads. Where the call rounds, the kernel that writes them keeps them twice:
// as they are, and as the bits of bfloat16.
template <class T>
struct OperandRows {
  T* data = nullptr;
  int64_t row_stride = 0;
  uint16_t* rounded = nullptr;
  int64_t rounded_stride = 0;

  // The rows from `row` on, from column `column` on.
  ALIGNDRAW_INLINE OperandRows from(int64_t row, int64_t column) const {
    OperandRows rows = *this;
    rows.data += row * row_stride + column;
    if (rounded) rows.rounded += row * rounded_stride + column;
    return rows;
  }
  ALIGNDRAW_INLINE Rows<const T> unrounded() const { return {data, row_stride}; }
};

// to [rows, columns] = from, or 0 where `from` is null.
template <class T>
const char* launch_copy(Rows<const T> from, Rows<T> to, int64_t rows, int64_t columns,
                        CUstream_st* stream);

// The same, rounded to the bits of bfloat16.
const char* launch_round(Rows<const float> from, Rows<uint16_t> to, int64_t rows, int64_t columns,
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
  OperandRows<T> h;        // [B, units]
  T* c_next;               // [B, units]; it may be c
};
template <class T>
const char* launch_lstm_step(const LstmStep<T>& step, int64_t batch, int64_t units,
                             CUstream_st* stream);

// Back through it.
template <class T>
struct LstmStepBackward {
  Rows<const T> grad_h;          // [B, units]
  T* grad_c;                     // [B, units]: of c_next, replaced by that of c
  const T* gates;                // [B, 4 units]
  const T* c;                    // [B, units]
  OperandRows<T> grad_gates[2];  // [B, 4 units] each: one or two places for the same gradient
};
template <class T>
const char* launch_lstm_step_backward(const LstmStepBackward<T>& step, int64_t batch, int64_t units,
                                      CUstream_st* stream);

}  // namespace aligndraw::cuda
