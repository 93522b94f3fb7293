// exp, tanh and sigmoid for every kernel, on the host and on the device. No torch, no CUDA headers.
//
// The host's float functions are branch-free, so that g++ turns a loop over them into vector code;
// the device uses CUDA's own. Double is for checks, and uses the standard library.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__CUDACC__)
#define ALIGNDRAW_INLINE __host__ __device__ __forceinline__
#else
#define ALIGNDRAW_INLINE inline __attribute__((always_inline))
#endif

namespace aligndraw::math {

// Within 1.1 ulp. Below -86.99 the result is 0: true values there are subnormal or nearly so, and
// subnormal numbers make the arithmetic that follows a hundred times slower.
ALIGNDRAW_INLINE float exp(float x) {
#if defined(__CUDA_ARCH__)
  return ::expf(x);
#else
  x = x < -87.3f ? -87.3f : x;  // written so that NaN stays
  x = x > 89.0f ? 89.0f : x;
  // e^x = 2^n e^r with n an integer and |r| <= ln(2) / 2. Adding 1.5 * 2^23 rounds to an integer
  // and leaves it in the low bits; unlike a conversion to int, it is defined for NaN.
  const float shift = 12582912.0f;
  const float shifted = x * 1.44269504f + shift;
  const float n = shifted - shift;
  // ln 2 in two parts, the first of so few bits that n times it is exact.
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  // (e^r - 1 - r) / r^2: minimax, relative error of e^r - 1 below 1.4e-8.
  float q = 1.388250734e-3f;
  q = q * r + 8.366595954e-3f;
  q = q * r + 4.166720062e-2f;
  q = q * r + 1.666654348e-1f;
  q = q * r + 4.999999702e-1f;
  const float power = q * (r * r) + r + 1.0f;
  // 2^(n-1) by its bits: 2^128 is no float, and the bits of 2^-127 are those of 0.
  uint32_t bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  bits = (bits << 23) + (126u << 23);
  float half_scale;
  std::memcpy(&half_scale, &bits, sizeof bits);
  return 2.0f * power * half_scale;
#endif
}

// Within 2 ulp, also for tiny x: up to |x| = 0.75 an odd polynomial (minimax, relative error
// below 3.3e-8), beyond it 1 - 2 / (1 + e^2|x|) with the sign of x.
ALIGNDRAW_INLINE float tanh(float x) {
#if defined(__CUDA_ARCH__)
  return ::tanhf(x);
#else
  const float size = std::fabs(x), u = size * size;
  float q = -4.7694901e-3f;
  q = q * u + 1.96649134e-2f;
  q = q * u - 5.33902571e-2f;
  q = q * u + 1.33265212e-1f;
  q = q * u - 3.33330691e-1f;
  const float small = size + size * (u * q), large = 1.0f - 2.0f / (1.0f + exp(2.0f * size));
  return std::copysign(size < 0.75f ? small : large, x);
#endif
}

template <class T>
struct TanhAndSlope {
  T tanh, slope;  // slope = 1 - tanh^2
};

// For loops that consist mostly of tanh: on the host two thirds of the time of tanh, within 3 ulp.
// The slope is as exact, and 0 where tanh rounds to 1.
ALIGNDRAW_INLINE TanhAndSlope<float> tanh_and_slope(float x) {
#if defined(__CUDA_ARCH__)
  const float value = ::tanhf(x);
  return {value, 1.0f - value * value};
#else
  // e^-2|x| = 2^n e^-2s with n an integer and |s| <= ln(2) / 4, as in exp.
  float length = std::fabs(x);
  length = length > 43.5f ? 43.5f : length;  // 2^n stays a normal number, and NaN stays
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
  const float decay = power * fraction + power;          // e^-2|x|
  const float drop = power * fraction + (power - 1.0f);  // decay - 1, exact for tiny x too
  const float size = -drop / (2.0f + drop);
  const float slope = decay * ((1.0f + size) * (1.0f + size));
  return {std::copysign(size, x), size >= 1.0f ? 0.0f : slope};
#endif
}

ALIGNDRAW_INLINE double exp(double x) { return ::exp(x); }
ALIGNDRAW_INLINE double tanh(double x) { return ::tanh(x); }

ALIGNDRAW_INLINE TanhAndSlope<double> tanh_and_slope(double x) {
  const double value = ::tanh(x);
  return {value, 1.0 - value * value};
}

// 1 / (1 + e^-x)
template <class T>
ALIGNDRAW_INLINE T sigmoid(T x) {
  return T(1) / (T(1) + exp(-x));
}

}  // namespace aligndraw::math
