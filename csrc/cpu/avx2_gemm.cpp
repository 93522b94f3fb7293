#include "compiler.h"

#ifdef ALIGNDRAW_X86
#include <immintrin.h>

#define ALIGNDRAW_GEMM_TARGET ALIGNDRAW_TARGET(ALIGNDRAW_AVX2_ISA)
#define ALIGNDRAW_GEMM_TARGET_INLINE ALIGNDRAW_TARGET_INLINE(ALIGNDRAW_AVX2_ISA)
#include "gemm_tile.h"

namespace aligndraw::cpu {
namespace {

struct Avx2 {
  using Number = float;
  using Vector = __m256;
  using Sums = __m256;
  static constexpr int lanes = 8;
  template <int strips>
  static constexpr int most_rows = 6;  // 12 of 16 registers, beside a row of the panel

  static ALIGNDRAW_GEMM_TARGET_INLINE Sums zero() { return _mm256_setzero_ps(); }
  static ALIGNDRAW_GEMM_TARGET_INLINE Vector load(const float* from) {
    return _mm256_loadu_ps(from);
  }
  static ALIGNDRAW_GEMM_TARGET_INLINE Vector broadcast(const float* from) {
    return _mm256_broadcast_ss(from);
  }
  static ALIGNDRAW_GEMM_TARGET_INLINE Sums multiply_add(Vector a, Vector b, Sums sums) {
    return _mm256_fmadd_ps(a, b, sums);
  }
  static ALIGNDRAW_GEMM_TARGET_INLINE void put(float* to, Sums sums, bool accumulate) {
    _mm256_storeu_ps(to, accumulate ? _mm256_add_ps(_mm256_loadu_ps(to), sums) : sums);
  }
  static ALIGNDRAW_GEMM_TARGET_INLINE void put_part(float* to, Sums sums, bool accumulate,
                                                    int64_t count) {
    const __m256i part = _mm256_cmpgt_epi32(_mm256_set1_epi32(int(count)),
                                            _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    if (accumulate) sums = _mm256_add_ps(_mm256_maskload_ps(to, part), sums);
    _mm256_maskstore_ps(to, part, sums);
  }
};

}  // namespace

const GemmKernels<float>* avx2_gemm() {
  static constexpr GemmKernels<float> kernels{1, {nullptr, multiply_panel<Avx2, 1>}};
  return &kernels;
}

}  // namespace aligndraw::cpu
#else
#include "gemm_kernels.h"

const aligndraw::cpu::GemmKernels<float>* aligndraw::cpu::avx2_gemm() { return nullptr; }
#endif
