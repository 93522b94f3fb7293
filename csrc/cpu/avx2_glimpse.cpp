#include "compiler.h"
#include "glimpse_kernels.h"

#ifdef ALIGNDRAW_X86
#include "avx2_simd.h"

#include "glimpse_rows.h"

namespace aligndraw::cpu {
const GlimpseKernels<float>* avx2_glimpse() { return &glimpse_kernels_here<float>; }
}  // namespace aligndraw::cpu
#else
namespace aligndraw::cpu {
const GlimpseKernels<float>* avx2_glimpse() { return nullptr; }
}  // namespace aligndraw::cpu
#endif
