// What the loops on a GPU launch between their products of matrices, on raw memory of float or
// double. All return nullptr, or what CUDA says went wrong.
#pragma once
#include <cstdint>

struct CUstream_st;

namespace aligndraw::cuda {

// Rows of numbers, `pitch` elements apart; a pitch of 0 is one row over and over.
template <class T>
struct Rows {
  T* data = nullptr;
  int64_t pitch = 0;
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

// The rest of an LSTM's step, whose gates are the sum of some terms and the bias: h and the cell
// state c_next, which may be c, and the gates where they are kept.
template <class T>
struct LstmStep {
  Rows<const T> terms[3];  // those that there are
  const T *bias, *c;
  T *gates, *h, *c_next;
};
template <class T>
const char* launch_lstm_step(const LstmStep<T>& step, int64_t batch, int64_t units,
                             CUstream_st* stream);

// Back through it: grad_c is that of c_next, and then of c. The gates' gradient goes to one or two
// places.
template <class T>
struct LstmStepBackward {
  Rows<const T> grad_h;
  T* grad_c;
  const T *gates, *c;
  Rows<T> grad_gates[2];
};
template <class T>
const char* launch_lstm_step_backward(const LstmStepBackward<T>& step, int64_t batch, int64_t units,
                                      CUstream_st* stream);

}  // namespace aligndraw::cuda
