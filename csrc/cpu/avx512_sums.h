// Sums in registers of AVX-512, for the kernels of gemm_tile.h: 24 of them, beside a row of the
// panel.
#pragma once
#include <immintrin.h>

#include <cstdint>

namespace aligndraw::cpu {
namespace {

struct Avx512Sums {
  using Sums = __m512;
  static constexpr int lanes = 16;
  template <int strips>
  static constexpr int most_rows = strips == 4   ? 6
                                   : strips == 3 ? 8
                                                 : 12;

  static ALIGNDRAW_GEMM_TARGET_INLINE Sums zero() { return _mm512_setzero_ps(); }
  static ALIGNDRAW_GEMM_TARGET_INLINE void put(float* to, Sums sums, bool accumulate) {
    _mm512_storeu_ps(to, accumulate ? _mm512_add_ps(_mm512_loadu_ps(to), sums) : sums);
  }
  static ALIGNDRAW_GEMM_TARGET_INLINE void put_part(float* to, Sums sums, bool accumulate,
                                                    int64_t count) {
    const __mmask16 part = __mmask16((1u << count) - 1);
    if (accumulate) sums = _mm512_add_ps(_mm512_maskz_loadu_ps(part, to), sums);
    _mm512_mask_storeu_ps(to, part, sums);
  }
};

}  // namespace
}  // namespace aligndraw::cpu
