// simd.h's vectors for AVX2. To be included before any code that stands on them.
#pragma once
#include <immintrin.h>

#include "compiler.h"
#define ALIGNDRAW_KERNEL ALIGNDRAW_TARGET(ALIGNDRAW_AVX2_ISA)
#define ALIGNDRAW_KERNEL_INLINE ALIGNDRAW_TARGET_INLINE(ALIGNDRAW_AVX2_ISA)
#define ALIGNDRAW_KERNEL_LAMBDA __attribute__((target(ALIGNDRAW_AVX2_ISA), always_inline))
#define ALIGNDRAW_VECTOR_BYTES 32
#define ALIGNDRAW_VECTORS 16
#include "simd.h"

namespace aligndraw::cpu {
namespace {

template <>
class PartialVector<float> {
 public:
  ALIGNDRAW_KERNEL_INLINE explicit PartialVector(int64_t count)
      : mask_(_mm256_cmpgt_epi32(_mm256_set1_epi32(int(count)),
                                 _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))) {}
  ALIGNDRAW_KERNEL_INLINE void load(Simd<float>& vector, const float* from) const {
    vector = (Simd<float>)_mm256_maskload_ps(from, mask_);
  }
  ALIGNDRAW_KERNEL_INLINE void store(float* to, const Simd<float>& vector) const {
    _mm256_maskstore_ps(to, mask_, (__m256)vector);
  }

 private:
  __m256i mask_;
};

}  // namespace
}  // namespace aligndraw::cpu
