// A word of lstm_sequence between the products of matrices, on raw memory of float or double: see
// ../lstm_sequence.h for the contract. Both return nullptr, or what CUDA says went wrong.
#pragma once
#include <cstdint>

struct CUstream_st;

namespace aligndraw::cuda {

// Word i of captions of N: inputs [B, N, 4m], lengths [B]. A caption that has no such word keeps h
// and c.
template <class T>
struct Word {
  const T *inputs, *h, *c;
  const int64_t* lengths;
  T *gates, *h_next, *c_next;  // gates holds the product with h, and then the gates
  T *states, *last;            // [B, N, m]; last is null but for the word that is read last
  int64_t batch, count, units, i;
};
template <class T>
const char* launch_word(const Word<T>& word, CUstream_st* stream);

// Back through it. grad_h and grad_c are those of the states after the word; what is left of them
// for the states before it, but for the product of the gates' gradient, takes their place.
template <class T>
struct WordBackward {
  const T *grad_states, *gates, *c;
  const int64_t* lengths;
  T *grad_h, *grad_c, *grad_gates, *grad_inputs;
  int64_t batch, count, units, i;
};
template <class T>
const char* launch_word_backward(const WordBackward<T>& word, CUstream_st* stream);

}  // namespace aligndraw::cuda
