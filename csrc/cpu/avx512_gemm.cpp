#include "compiler.h"

#ifdef ALIGNDRAW_X86
#include <immintrin.h>

#define ALIGNDRAW_GEMM_TARGET ALIGNDRAW_TARGET(ALIGNDRAW_AVX512_ISA)
#define ALIGNDRAW_GEMM_TARGET_INLINE ALIGNDRAW_TARGET_INLINE(ALIGNDRAW_AVX512_ISA)
#include "avx512_sums.h"
#include "gemm_tile.h"

namespace aligndraw::cpu {
namespace {

struct Avx512 : Avx512Sums {
  using Number = float;
  using Vector = __m512;

  static ALIGNDRAW_GEMM_TARGET_INLINE Vector load(const float* from) {
    return _mm512_loadu_ps(from);
  }
  static ALIGNDRAW_GEMM_TARGET_INLINE Vector broadcast(const float* from) {
    return _mm512_set1_ps(*from);
  }
  static ALIGNDRAW_GEMM_TARGET_INLINE Sums multiply_add(Vector a, Vector b, Sums sums) {
    return _mm512_fmadd_ps(a, b, sums);
  }
};

}  // namespace

const GemmKernels<float>* avx512_gemm() {
  static constexpr GemmKernels<float> kernels{
      4,
      {nullptr, multiply_panel<Avx512, 1>, multiply_panel<Avx512, 2>, multiply_panel<Avx512, 3>,
       multiply_panel<Avx512, 4>}};
  return &kernels;
}

}  // namespace aligndraw::cpu
#else
#include "gemm_kernels.h"

const aligndraw::cpu::GemmKernels<float>* aligndraw::cpu::avx512_gemm() { return nullptr; }
#endif
