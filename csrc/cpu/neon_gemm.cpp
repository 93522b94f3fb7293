#include "gemm_kernels.h"

#ifdef __aarch64__
#include <arm_neon.h>

#define ALIGNDRAW_GEMM_TARGET
#define ALIGNDRAW_GEMM_TARGET_INLINE inline __attribute__((always_inline))
#include "gemm_tile.h"

namespace aligndraw::cpu {
namespace {

struct Neon {
  using Number = float;
  using Vector = float32x4_t;
  using Sums = float32x4_t;
  static constexpr int lanes = 4;
  template <int strips>
  static constexpr int most_rows = 6;  // 24 of 32 registers, beside a row of the panel

  static ALIGNDRAW_GEMM_TARGET_INLINE Sums zero() { return vdupq_n_f32(0); }
  static ALIGNDRAW_GEMM_TARGET_INLINE Vector load(const float* from) { return vld1q_f32(from); }
  static ALIGNDRAW_GEMM_TARGET_INLINE Vector broadcast(const float* from) {
    return vld1q_dup_f32(from);
  }
  static ALIGNDRAW_GEMM_TARGET_INLINE Sums multiply_add(Vector a, Vector b, Sums sums) {
    return vfmaq_f32(sums, a, b);
  }
  static ALIGNDRAW_GEMM_TARGET_INLINE void put(float* to, Sums sums, bool accumulate) {
    vst1q_f32(to, accumulate ? vaddq_f32(vld1q_f32(to), sums) : sums);
  }
  static ALIGNDRAW_GEMM_TARGET_INLINE void put_part(float* to, Sums sums, bool accumulate,
                                                    int64_t count) {
    float numbers[lanes];
    vst1q_f32(numbers, sums);
    for (int64_t i = 0; i < count; ++i) to[i] = accumulate ? to[i] + numbers[i] : numbers[i];
  }
};

}  // namespace

const GemmKernels<float>* neon_gemm() {
  static constexpr GemmKernels<float> kernels{1, {nullptr, multiply_panel<Neon, 1>}};
  return &kernels;
}

}  // namespace aligndraw::cpu
#else

const aligndraw::cpu::GemmKernels<float>* aligndraw::cpu::neon_gemm() { return nullptr; }
#endif
