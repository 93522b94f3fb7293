#include "compiler.h"

#ifdef ALIGNDRAW_X86
#include <immintrin.h>

#define ALIGNDRAW_GEMM_TARGET ALIGNDRAW_TARGET(ALIGNDRAW_AVX512_BF16_ISA)
#define ALIGNDRAW_GEMM_TARGET_INLINE ALIGNDRAW_TARGET_INLINE(ALIGNDRAW_AVX512_BF16_ISA)
#include "avx512_sums.h"
#include "block_kernels.h"
#include "gemm_tile.h"

namespace aligndraw::cpu {
namespace {

ALIGNDRAW_GEMM_TARGET_INLINE __m512i broadcast_pair(uint32_t pair) {
  __m512i pairs = _mm512_set1_epi32(int(pair));
#if defined(__clang__) && __clang_major__ < 17
  asm("" : "+v"(pairs));  // clang 16 falls over a broadcast that it takes for one of bfloat16
#endif
  return pairs;
}

// A step of a chain is VDPBF16PS: the second number of the pairs first, then the first one, each by
// a fused multiply-add that takes subnormal numbers for 0.
struct Avx512Bf16 : Avx512Sums {
  using Number = Bf16Pair;
  using Vector = __m512i;

  static ALIGNDRAW_GEMM_TARGET_INLINE Vector load(const Bf16Pair* from) {
    return _mm512_loadu_si512(from);
  }
  static ALIGNDRAW_GEMM_TARGET_INLINE Vector broadcast(const Bf16Pair* from) {
    return broadcast_pair(uint32_t(*from));
  }
  static ALIGNDRAW_GEMM_TARGET_INLINE Sums multiply_add(Vector a, Vector b, Sums sums) {
    return _mm512_dpbf16_ps(sums, (__m512bh)a, (__m512bh)b);
  }
};

// 8 rows at a time.
ALIGNDRAW_GEMM_TARGET void multiply_block(const uint32_t* const* left, const uint32_t* const* right,
                                          int left_tiles, int64_t depth, float* result,
                                          int64_t row_stride, bool accumulate) {
  constexpr int count = 8;
  for (int64_t first = 0; first < left_tiles * strip; first += count) {
    const uint32_t* of_left = left[first / strip] + first % strip * strip;
    const uint32_t *one = right[0], *two = right[1];
    __m512 sums[count][2];
#pragma GCC unroll 8
    for (int r = 0; r < count; ++r)
#pragma GCC unroll 2
      for (int v = 0; v < 2; ++v)
        sums[r][v] = accumulate ? _mm512_loadu_ps(result + (first + r) * row_stride + v * strip)
                                : _mm512_setzero_ps();
    for (int64_t k = 0; k < depth; ++k, of_left += strip * (strip - 1))
      for (int64_t p = 0; p < strip; ++p, one += strip, two += strip, ++of_left) {
        const __m512i b[] = {_mm512_loadu_si512(one), _mm512_loadu_si512(two)};
#pragma GCC unroll 8
        for (int r = 0; r < count; ++r) {
          const __m512i a = broadcast_pair(of_left[r * strip]);
#pragma GCC unroll 2
          for (int v = 0; v < 2; ++v)
            sums[r][v] = _mm512_dpbf16_ps(sums[r][v], (__m512bh)a, (__m512bh)b[v]);
        }
      }
#pragma GCC unroll 8
    for (int r = 0; r < count; ++r)
#pragma GCC unroll 2
      for (int v = 0; v < 2; ++v)
        _mm512_storeu_ps(result + (first + r) * row_stride + v * strip, sums[r][v]);
  }
}

}  // namespace

const GemmKernels<Bf16Pair>* avx512_bf16_gemm() {
  static constexpr GemmKernels<Bf16Pair> kernels{
      4,
      {nullptr, multiply_panel<Avx512Bf16, 1>, multiply_panel<Avx512Bf16, 2>,
       multiply_panel<Avx512Bf16, 3>, multiply_panel<Avx512Bf16, 4>}};
  return &kernels;
}

const BlockKernels* avx512_bf16_blocks() {
  static constexpr BlockKernels kernels{multiply_block, nullptr, nullptr};
  return &kernels;
}

}  // namespace aligndraw::cpu
#else
#include "block_kernels.h"
#include "gemm_kernels.h"

const aligndraw::cpu::GemmKernels<aligndraw::cpu::Bf16Pair>* aligndraw::cpu::avx512_bf16_gemm() {
  return nullptr;
}
const aligndraw::cpu::BlockKernels* aligndraw::cpu::avx512_bf16_blocks() { return nullptr; }
#endif
