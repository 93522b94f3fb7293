// The functions of csrc/math/scalar.h over arrays, for test_scalar.py.
#include "math/scalar.h"

#include "cpu/avx512.h"

#define OVER_ARRAYS(name)                                                 \
  extern "C" void name##_float32(const float* x, float* y, int64_t n) {   \
    for (int64_t i = 0; i < n; ++i) y[i] = aligndraw::math::name(x[i]);   \
  }                                                                       \
  extern "C" void name##_float64(const double* x, double* y, int64_t n) { \
    for (int64_t i = 0; i < n; ++i) y[i] = aligndraw::math::name(x[i]);   \
  }

OVER_ARRAYS(exp)
OVER_ARRAYS(tanh)
OVER_ARRAYS(sigmoid)

namespace aligndraw::math {
template <class T>
ALIGNDRAW_INLINE T quick_tanh(T x) {
  return tanh_and_slope(x).tanh;
}
template <class T>
ALIGNDRAW_INLINE T slope(T x) {
  return tanh_and_slope(x).slope;
}
}  // namespace aligndraw::math

OVER_ARRAYS(quick_tanh)
OVER_ARRAYS(slope)

#ifdef ALIGNDRAW_X86
using namespace aligndraw::cpu;

#define AVX512_OVER_ARRAYS(name, function)                                                   \
  extern "C" ALIGNDRAW_AVX512 void name##_float32(const float* x, float* y, int64_t n) {     \
    in_sixteens(n, [=](Sixteen at) ALIGNDRAW_AVX512_LAMBDA { at.put(y, function(at(x))); }); \
  }

AVX512_OVER_ARRAYS(avx512_tanh, Avx512Tanh())
AVX512_OVER_ARRAYS(avx512_sigmoid, Avx512Sigmoid())
AVX512_OVER_ARRAYS(avx512_gaussian, Avx512Gaussian(1))
#endif
