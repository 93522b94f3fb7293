// The pointwise part of an LSTM step (Eq. 3 and 12 of the alignDRAW paper), for one unit:
//
//   c' = sigmoid(f) c + sigmoid(i) tanh(g)
//   h  = sigmoid(o) tanh(c')
//
// where i, f, g, o are the four gates before their nonlinearity. T is float or double.
#pragma once
#include "scalar.h"

namespace aligndraw::math {

template <class T>
struct LstmState {
  T h, c;
};

template <class T>
ALIGNDRAW_INLINE LstmState<T> lstm_gates(T i, T f, T g, T o, T c) {
  const T c_next = sigmoid(f) * c + sigmoid(i) * tanh_and_slope(g).tanh;
  return {sigmoid(o) * tanh_and_slope(c_next).tanh, c_next};
}

template <class T>
struct LstmGrads {
  T i, f, g, o, c;
};

// The gradients of the five inputs, from those of h and c'. It computes the activations again,
// which costs less than the memory traffic of keeping them.
template <class T>
ALIGNDRAW_INLINE LstmGrads<T> lstm_gates_backward(T grad_h, T grad_c, T i, T f, T g, T o, T c) {
  const T in = sigmoid(i), forget = sigmoid(f), candidate = tanh(g), out = sigmoid(o);
  const T squashed = tanh(forget * c + in * candidate);
  const T total = grad_c + grad_h * out * (T(1) - squashed * squashed);  // total gradient of c'
  return {total * candidate * in * (T(1) - in), total * c * forget * (T(1) - forget),
          total * in * (T(1) - candidate * candidate), grad_h * squashed * out * (T(1) - out),
          total * forget};
}

}  // namespace aligndraw::math
