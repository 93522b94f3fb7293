#include "lstm_sequence.h"

#include "../math/lstm.h"
#include "launch.h"

namespace aligndraw::cuda {
namespace {

constexpr int threads = 128;

// One thread per unit. blockIdx.y goes over the batch, in strides where the batch has more rows
// than the grid (65,535).
template <class T>
__global__ void __launch_bounds__(threads) forward(Word<T> word) {
  const int64_t n = word.units, j = int64_t(blockIdx.x) * threads + threadIdx.x;
  if (j >= n) return;
  for (int64_t b = blockIdx.y; b < word.batch; b += gridDim.y) {
    const T* const input = word.inputs + (b * word.count + word.i) * 4 * n + j;
    T* const gate = word.gates + b * 4 * n + j;
    T gates[4];
#pragma unroll
    for (int g = 0; g < 4; ++g) gate[g * n] = gates[g] = gate[g * n] + input[g * n];
    math::LstmState<T> state{word.h[b * n + j], word.c[b * n + j]};
    if (word.i < word.lengths[b])
      state = math::lstm_gates(gates[0], gates[1], gates[2], gates[3], state.c);
    word.h_next[b * n + j] = state.h;
    word.c_next[b * n + j] = state.c;
    word.states[(b * word.count + word.i) * n + j] = state.h;
    if (word.last) word.last[b * n + j] = state.h;
  }
}

template <class T>
__global__ void __launch_bounds__(threads) backward(WordBackward<T> word) {
  const int64_t n = word.units, j = int64_t(blockIdx.x) * threads + threadIdx.x;
  if (j >= n) return;
  for (int64_t b = blockIdx.y; b < word.batch; b += gridDim.y) {
    const T* const gate = word.gates + b * 4 * n + j;
    const int64_t at = b * n + j, row = b * word.count + word.i;
    const T grad_h = word.grad_h[at] + word.grad_states[row * n + j];
    math::LstmGrads<T> grad{};
    const bool inside = word.i < word.lengths[b];
    if (inside)
      grad = math::lstm_gates_backward(grad_h, word.grad_c[at], gate[0], gate[n], gate[2 * n],
                                       gate[3 * n], word.c[at]);
    word.grad_h[at] = inside ? T(0) : grad_h;
    if (inside) word.grad_c[at] = grad.c;
    for (T* const place : {word.grad_gates + b * 4 * n + j, word.grad_inputs + row * 4 * n + j}) {
      place[0] = grad.i;
      place[n] = grad.f;
      place[2 * n] = grad.g;
      place[3 * n] = grad.o;
    }
  }
}

dim3 blocks_of(int64_t batch, int64_t units) {
  return dim3(unsigned((units + threads - 1) / threads), unsigned(std::min<int64_t>(batch, 65535)));
}

}  // namespace

template <class T>
const char* launch_word(const Word<T>& word, CUstream_st* stream) {
  if (word.batch * word.units == 0) return nullptr;
  return report(
      launch(forward<T>, blocks_of(word.batch, word.units), dim3(threads), 0, stream, false, word));
}

template <class T>
const char* launch_word_backward(const WordBackward<T>& word, CUstream_st* stream) {
  if (word.batch * word.units == 0) return nullptr;
  return report(launch(backward<T>, blocks_of(word.batch, word.units), dim3(threads), 0, stream,
                       false, word));
}

template const char* launch_word(const Word<float>&, CUstream_st*);
template const char* launch_word(const Word<double>&, CUstream_st*);
template const char* launch_word_backward(const WordBackward<float>&, CUstream_st*);
template const char* launch_word_backward(const WordBackward<double>&, CUstream_st*);

}  // namespace aligndraw::cuda
