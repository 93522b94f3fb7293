#include "portable_simd.h"

#include "glimpse_rows.h"

namespace aligndraw::cpu {

template <>
const GlimpseKernels<float>& glimpse_kernels(Isa isa) {
  if (isa >= Isa::avx512) return *avx512_glimpse();
  return isa == Isa::avx2 ? *avx2_glimpse() : glimpse_kernels_here<float>;
}

template <>
const GlimpseKernels<double>& glimpse_kernels(Isa) {
  return glimpse_kernels_here<double>;
}

}  // namespace aligndraw::cpu
