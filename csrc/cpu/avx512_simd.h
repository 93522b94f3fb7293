// simd.h's vectors for AVX-512. To be included before any code that stands on them.
#pragma once
#include <immintrin.h>

#include "compiler.h"
#define ALIGNDRAW_KERNEL ALIGNDRAW_TARGET(ALIGNDRAW_AVX512_ISA)
#define ALIGNDRAW_KERNEL_INLINE ALIGNDRAW_TARGET_INLINE(ALIGNDRAW_AVX512_ISA)
#define ALIGNDRAW_KERNEL_LAMBDA __attribute__((target(ALIGNDRAW_AVX512_ISA), always_inline))
#define ALIGNDRAW_VECTOR_BYTES 64
#define ALIGNDRAW_VECTORS 32
#include "simd.h"

namespace aligndraw::cpu {
namespace {

template <>
class PartialVector<float> {
 public:
  ALIGNDRAW_KERNEL_INLINE explicit PartialVector(int64_t count)
      : mask_(__mmask16((1u << count) - 1)) {}
  ALIGNDRAW_KERNEL_INLINE void load(Simd<float>& vector, const float* from) const {
    vector = (Simd<float>)_mm512_maskz_loadu_ps(mask_, from);
  }
  ALIGNDRAW_KERNEL_INLINE void store(float* to, const Simd<float>& vector) const {
    _mm512_mask_storeu_ps(to, mask_, (__m512)vector);
  }

 private:
  __mmask16 mask_;
};

}  // namespace
}  // namespace aligndraw::cpu
