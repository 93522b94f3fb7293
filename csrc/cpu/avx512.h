// What AVX-512 can do and other vectors cannot: tables that lie in registers. Where the compiler
// does not know the instructions ALIGNDRAW_AVX512 is not defined.
#pragma once
#include "compiler.h"
#include "isa.h"

#ifdef ALIGNDRAW_X86
#include <immintrin.h>

#include <cstdint>

#define ALIGNDRAW_AVX512 ALIGNDRAW_TARGET(ALIGNDRAW_AVX512_ISA)
#define ALIGNDRAW_AVX512_LAMBDA __attribute__((target(ALIGNDRAW_AVX512_ISA), always_inline))
#define ALIGNDRAW_AVX512_INLINE ALIGNDRAW_TARGET_INLINE(ALIGNDRAW_AVX512_ISA)

namespace aligndraw::cpu {

// tanh in two thirds of the time that math::tanh_and_slope takes, which is bound by its exp and its
// division; within 3 ulp, and NaN stays. With k the nearest whole number to |x| / step it is a
// polynomial of degree 5 in t = |x| - k step (minimax of the relative error, below 1.4 * 2^-24).
class Avx512Tanh {
 public:
  ALIGNDRAW_AVX512_INLINE Avx512Tanh() {
#pragma GCC unroll 6
    for (int i = 0; i < terms; ++i) {
      low_[i] = _mm512_loadu_ps(table[i]);
      high_[i] = _mm512_loadu_ps(table[i] + 16);
    }
  }

  ALIGNDRAW_AVX512_INLINE __m512 operator()(__m512 x) const {
    const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
    const __m512 shift = _mm512_set1_ps(12582912.0f);  // 1.5 * 2^23: rounds, k in the low bits
    const __m512 most = _mm512_set1_ps(9.02f);         // tanh rounds to 1 from here on
    const __m512 size = _mm512_min_ps(
        most, _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(x), magnitude)));
    const __m512 shifted = _mm512_fmadd_ps(size, _mm512_set1_ps(1 / step), shift);
    const __m512 t =
        _mm512_fnmadd_ps(_mm512_sub_ps(shifted, shift), _mm512_set1_ps(step), size);  // exact
    const __m512i k = _mm512_castps_si512(shifted);
    __m512 sum = _mm512_permutex2var_ps(low_[terms - 1], k, high_[terms - 1]);
#pragma GCC unroll 5
    for (int i = terms - 2; i >= 0; --i)
      sum = _mm512_fmadd_ps(sum, t, _mm512_permutex2var_ps(low_[i], k, high_[i]));
    constexpr int where_first_set_second_else_third = 0xca;
    return _mm512_castsi512_ps(_mm512_ternarylogic_epi32(magnitude, _mm512_castps_si512(sum),
                                                         _mm512_castps_si512(x),
                                                         where_first_set_second_else_third));
  }

 private:
  static constexpr int terms = 6;
  static constexpr float step = 149.0f / 512;  // of so few bits that k step is exact
  static constexpr float table[terms][32] = {
      {0,           0.2830693f, 0.5241402f,  0.7029189f, 0.82235944f, 0.89669245f, 0.9409293f,
       0.96655774f, 0.9811748f, 0.98943734f, 0.9940842f, 0.99669015f, 0.9981492f,  0.99896544f,
       0.9994218f,  0.9996769f, 0.99981946f, 0.9998991f, 0.9999436f,  0.99996847f, 0.9999824f,
       0.99999017f, 0.9999945f, 0.9999969f,  0.9999983f, 0.99999905f, 0.99999946f, 0.9999997f,
       0.9999998f,  0.9999999f, 0.99999994f, 1},
      {1,
       0.9198721f,
       0.7252772f,
       0.5059051f,
       0.323725f,
       0.19594266f,
       0.11465201f,
       0.065766186f,
       0.03729597f,
       0.021013767f,
       0.011796614f,
       0.006608742f,
       0.0036981143f,
       0.002068055f,
       0.0011560788f,
       6.46138e-4f,
       3.6108895e-4f,
       2.0177895e-4f,
       1.1275148e-4f,
       6.300283e-5f,
       3.520409e-5f,
       1.967087e-5f,
       1.0991387e-5f,
       6.1415867e-6f,
       3.4316913e-6f,
       1.9175009e-6f,
       1.0714275e-6f,
       5.9867335e-7f,
       3.345161e-7f,
       1.8691499e-7f,
       1.04441035e-7f,
       5.8357706e-8f},
      {9.444994e-7f,   -0.26036993f,   -0.3801386f,     -0.35561344f,   -0.26622275f,
       -0.17570244f,   -0.10787996f,   -0.063566744f,   -0.036593676f,  -0.020791642f,
       -0.011726719f,  -0.0065868013f, -0.0036912307f,  -0.002065893f,  -0.0011553975f,
       -6.45922e-4f,   -3.6101972e-4f, -2.0175632e-4f,  -1.1274385e-4f, -6.300014e-5f,
       -3.5203077e-5f, -1.9670455e-5f, -1.09912025e-5f, -6.1414985e-6f, -3.4316467e-6f,
       -1.9174774e-6f, -1.0714149e-6f, -5.986665e-7f,   -3.3451232e-7f, -1.8691286e-7f,
       -1.0443989e-7f, -5.8357088e-8f},
      {-0.3333811f,   -0.23298278f,  -0.04253817f,  0.08132669f,   0.1110226f,    0.092237726f,
       0.063290715f,  0.039519213f,  0.023472993f,  0.013567541f,  0.007725197f,  0.0043621166f,
       0.002451711f,  0.0013744134f, 7.6937507e-4f, 4.3033683e-4f, 2.4059317e-4f, 1.3447722e-4f,
       7.5154174e-5f, 4.1997493e-5f, 2.3467917e-5f, 1.3113393e-5f, 7.327396e-6f,  4.0943114e-6f,
       2.2877591e-6f, 1.2783172e-6f, 7.142767e-7f,  3.9911112e-7f, 2.2300861e-7f, 1.2460863e-7f,
       6.962697e-8f,  3.8904584e-8f},
      {8.065078e-4f,   0.15047655f,    0.14794932f,    0.06177702f,    -0.0019969256f,
       -0.023872217f,  -0.023525996f,  -0.017018005f,  -0.010857438f,  -0.006514066f,
       -0.0037842898f, -0.0021604863f, -0.0012217024f, -6.871964e-4f,  -3.8540628e-4f,
       -2.157968e-4f,  -1.2071859e-4f, -6.749657e-5f,  -3.7728143e-5f, -2.108531e-5f,
       -1.1783002e-5f, -6.5843105e-6f, -3.6791932e-6f, -2.0558355e-6f, -1.1487358e-6f,
       -6.418743e-7f,  -3.5865563e-7f, -2.0040389e-7f, -1.1197696e-7f, -6.256981e-8f,
       -3.4960593e-8f, -1.9533413e-8f},
      {0.12861945f,   0.05724845f,   -0.046017013f, -0.05862604f,  -0.027930664f, -0.004946856f,
       0.003562771f,  0.0047055646f, 0.0036332584f, 0.0023739948f, 0.0014394925f, 8.4062887e-4f,
       4.8122415e-4f, 2.725161e-4f,  1.5340946e-4f, 8.607562e-5f,  4.8207196e-5f, 2.6971162e-5f,
       1.5081339e-5f, 8.43028e-6f,   4.711568e-6f,  2.6329853e-6f, 1.4713105e-6f, 8.221525e-7f,
       4.5939862e-7f, 2.566967e-7f,  1.4342865e-7f, 8.014786e-8f,  4.4771696e-8f, 2.5025317e-8f,
       1.3962878e-8f, 7.818732e-9f},
  };
  __m512 low_[terms], high_[terms];
};

// e^x = 2^n 2^(k/32) e^r: 2^(k/32) lies in a table, and |r| <= ln(2) / 64 asks for a polynomial of
// degree 2 only (minimax, relative error below 5.3e-8).
class Avx512Power {
 public:
  ALIGNDRAW_AVX512_INLINE Avx512Power()
      : low_(_mm512_loadu_ps(powers)), high_(_mm512_loadu_ps(powers + 16)) {}

  // n + k/32, nearest to a b + c / ln 2, with k in the low bits of `shifted`.
  struct Exponent {
    __m512 shifted, value;
    ALIGNDRAW_AVX512_INLINE Exponent(__m512 a, __m512 b) {
      const __m512 shift = _mm512_set1_ps(393216.0f);  // 1.5 * 2^18: rounds to n + k/32
      shifted = _mm512_fmadd_ps(a, b, shift);
      value = _mm512_sub_ps(shifted, shift);
    }
  };

  // 2^n 2^(k/32) and e^r, whose product is the power.
  ALIGNDRAW_AVX512_INLINE __m512 scale(const Exponent& exponent) const {
    const __m512 power = _mm512_permutex2var_ps(low_, _mm512_castps_si512(exponent.shifted), high_);
    return _mm512_scalef_ps(power, exponent.value);
  }
  static ALIGNDRAW_AVX512_INLINE __m512 rest(__m512 r) {
    const __m512 slope =
        _mm512_fmadd_ps(_mm512_set1_ps(0.49999633f), r, _mm512_set1_ps(1.0000147f));
    return _mm512_fmadd_ps(slope, r, _mm512_set1_ps(1));
  }

 private:
  static constexpr float powers[32] = {
      // 2^(k/32)
      1,          1.0218971f, 1.0442737f, 1.0671405f, 1.0905077f, 1.1143868f, 1.1387886f,
      1.1637249f, 1.1892071f, 1.2152474f, 1.2418578f, 1.2690509f, 1.2968396f, 1.3252367f,
      1.3542556f, 1.3839099f, 1.4142135f, 1.4451808f, 1.4768262f, 1.5091645f, 1.5422108f,
      1.5759809f, 1.6104903f, 1.6457555f, 1.6817929f, 1.7186193f, 1.7562522f, 1.7947091f,
      1.8340081f, 1.8741677f, 1.9152066f, 1.9571441f,
  };
  __m512 low_, high_;
};

// 1 / (1 + e^-x), with a reciprocal in place of the division. Within 5 ulp, 0 below -87, and NaN
// stays.
class Avx512Sigmoid {
 public:
  ALIGNDRAW_AVX512_INLINE Avx512Sigmoid() {}

  ALIGNDRAW_AVX512_INLINE __m512 operator()(__m512 x) const {
    const __m512 one = _mm512_set1_ps(1);
    // A minimum of a number and NaN is its second argument.
    const __m512 most = _mm512_min_ps(_mm512_set1_ps(87), x);
    const Avx512Power::Exponent exponent(most, _mm512_set1_ps(-1.44269504f));
    // ln 2 in two parts.
    const __m512 r =
        _mm512_fmadd_ps(exponent.value, _mm512_set1_ps(1.90465421e-9f),
                        _mm512_fnmsub_ps(exponent.value, _mm512_set1_ps(0.693147182f), most));
    const __m512 below = _mm512_fmadd_ps(power_.scale(exponent), Avx512Power::rest(r), one);
    const __m512 guess = _mm512_rcp14_ps(below);  // one step of Newton's method makes 14 bits 28
    const __mmask16 counts = _mm512_cmp_ps_mask(x, _mm512_set1_ps(-87), _CMP_NLT_UQ);
    return _mm512_maskz_mul_ps(counts, guess, _mm512_fnmadd_ps(below, guess, _mm512_set1_ps(2)));
  }

 private:
  Avx512Power power_;
};

// math::gaussian of distances: within 4 * 2^-24 of itself, and what rounding the square changes.
class Avx512Gaussian {
 public:
  ALIGNDRAW_AVX512_INLINE explicit Avx512Gaussian(float sharpness)
      : sharpness_(_mm512_set1_ps(-sharpness)), scaled_(_mm512_set1_ps(-1.44269504f * sharpness)) {}

  ALIGNDRAW_AVX512_INLINE __m512 operator()(__m512 distance) const {
    const __m512 square = _mm512_mul_ps(distance, distance);
    const __m512 x = _mm512_mul_ps(square, sharpness_);
    const Avx512Power::Exponent exponent(square, scaled_);
    const __m512 r =
        _mm512_fmadd_ps(exponent.value, _mm512_set1_ps(1.90465421e-9f),
                        _mm512_fnmadd_ps(exponent.value, _mm512_set1_ps(0.693147182f), x));
    const __mmask16 counts = _mm512_cmp_ps_mask(x, _mm512_set1_ps(-86.99f), _CMP_NLT_UQ);
    return _mm512_maskz_mul_ps(counts, power_.scale(exponent), Avx512Power::rest(r));
  }

 private:
  Avx512Power power_;
  __m512 sharpness_, scaled_;
};

// Elements `first` ... `first` + 15 of rows. Those outside `part` are 0, and are not stored.
struct Sixteen {
  int64_t first;
  __mmask16 part;

  ALIGNDRAW_AVX512_INLINE __m512 operator()(const float* row) const {
    return _mm512_maskz_loadu_ps(part, row + first);
  }
  ALIGNDRAW_AVX512_INLINE void put(float* row, __m512 value) const {
    _mm512_mask_storeu_ps(row + first, part, value);
  }
};

// body(at) for each sixteen of n elements. A mask that the compiler sees to be full costs nothing,
// and what is stored without one can be loaded again before it has reached the cache.
template <class F>
ALIGNDRAW_AVX512_INLINE void in_sixteens(int64_t n, const F& body) {
  int64_t first = 0;
  for (; first + 16 <= n; first += 16) body(Sixteen{first, 0xffff});
  if (first < n) body(Sixteen{first, __mmask16((1u << (n - first)) - 1)});
}

}  // namespace aligndraw::cpu
#endif
