// The energy of a word (Eq. 6 of the alignDRAW paper) is the sum over units of v tanh(key + query).
// T is float or double.
#pragma once
#include "scalar.h"

namespace aligndraw::math {

template <class T>
ALIGNDRAW_INLINE T energy(T query, T key, T score) {
  return score * tanh_and_slope(key + query).tanh;
}

template <class T>
struct EnergyGrads {
  T key, score;  // the query's is the key's
};

// Computes the tangent again: a tape of it would be [B, N, l] numbers per step.
template <class T>
ALIGNDRAW_INLINE EnergyGrads<T> energy_backward(T grad, T query, T key, T score) {
  const auto [value, slope] = tanh_and_slope(key + query);
  return {grad * score * slope, grad * value};
}

}  // namespace aligndraw::math
