// One word of lstm_sequence between the matrix products, on raw memory of float or double: see
// ../lstm_sequence.h for the contract. Both launchers return nullptr, or CUDA's error message.
#pragma once
#include <cstdint>

struct CUstream_st;

namespace aligndraw::cuda {

// Word i of captions of N words. A caption without this word keeps h and c.
template <class T>
struct Word {
  const T* inputs;         // [B, N, 4m]
  const T* h;              // [B, m]
  const T* c;              // [B, m]
  const int64_t* lengths;  // [B]
  T* gates;                // [B, 4m]: holds the product with h, and then the gates
  T* h_next;               // [B, m]
  T* c_next;               // [B, m]
  T* states;               // [B, N, m]
  T* last;                 // [B, m]; null except at the word that is read last
  int64_t batch, count, units, i;
};
template <class T>
const char* launch_word(const Word<T>& word, CUstream_st* stream);

// Back through it. grad_h and grad_c are the gradients of the states after the word. The kernel
// replaces them with the gradients of the states before it, to which the driver adds the product of
// grad_gates.
template <class T>
struct WordBackward {
  const T* grad_states;    // [B, N, m]
  const T* gates;          // [B, 4m]
  const T* c;              // [B, m]
  const int64_t* lengths;  // [B]
  T* grad_h;               // [B, m]
  T* grad_c;               // [B, m]
  T* grad_gates;           // [B, 4m]
  T* grad_inputs;          // [B, N, 4m]
  int64_t batch, count, units, i;
};
template <class T>
const char* launch_word_backward(const WordBackward<T>& word, CUstream_st* stream);

}  // namespace aligndraw::cuda
