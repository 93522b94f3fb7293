// The energy of a word (Eq. 6 of the alignDRAW paper) is the sum over units of v tanh(key + query).
// T is float or double.
#pragma once
#include "scalar.h"

namespace aligndraw::math {

template <class T>
struct Squashed {
  T value, slope;  // tanh x and 1 - tanh^2 x
};

// Attention is little else than these. Both come from e^-2|x|; on the host in two thirds of the time
// of math::tanh, and within 3 ulp. The slope is as exact, and 0 once the tangent rounds to 1.
ALIGNDRAW_INLINE Squashed<float> squash(float x) {
#if defined(__CUDA_ARCH__)
  const float value = ::tanhf(x), decay = ::expf(-2.0f * ::fabsf(x));
  const float size = ::fabsf(value);
#else
  // e^-2|x| = 2^n e^-2s with n an integer and |s| <= ln(2) / 4, as in math::exp.
  float length = std::fabs(x);
  length = length > 43.5f ? 43.5f : length;  // written so that NaN stays; 2^n is no subnormal
  const float shift = 12582912.0f;
  const float shifted = length * -2.88539008f + shift;
  const float n = shifted - shift;
  const float s = (length + n * 0.3466796875f) - n * 1.0609722e-4f;
  // (e^-2s - 1 + 2s) / s^2: minimax, relative error of e^-2s - 1 below 1.4e-8.
  float q = 8.884811e-2f;
  q = q * s - 2.6772952e-1f;
  q = q * s + 6.666752e-1f;
  q = q * s - 1.3333235f;
  q = q * s + 1.9999999f;
  const float fraction = (q * s - 2.0f) * s;
  uint32_t bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  bits = (bits << 23) + (127u << 23);
  float power;
  std::memcpy(&power, &bits, sizeof bits);
  const float decay = power * fraction + power;
  const float drop = power * fraction + (power - 1.0f);  // decay - 1, exact for tiny x too
  const float size = -drop / (2.0f + drop);
  const float value = std::copysign(size, x);
#endif
  const float slope = decay * ((1.0f + size) * (1.0f + size));
  return {value, size >= 1.0f ? 0.0f : slope};
}

ALIGNDRAW_INLINE Squashed<double> squash(double x) {
  const double value = tanh(x);
  return {value, 1.0 - value * value};
}

template <class T>
ALIGNDRAW_INLINE T energy(T query, T key, T score) {
  return score * squash(key + query).value;
}

template <class T>
struct EnergyGrads {
  T key, score;  // the query's is the key's
};

// The tangent is computed again: to keep it would take as long, and memory.
template <class T>
ALIGNDRAW_INLINE EnergyGrads<T> energy_backward(T grad, T query, T key, T score) {
  const auto [value, slope] = squash(key + query);
  return {grad * score * slope, grad * value};
}

}  // namespace aligndraw::math
