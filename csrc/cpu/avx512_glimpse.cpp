#include "compiler.h"
#include "glimpse_kernels.h"

#ifdef ALIGNDRAW_X86
#include "avx512.h"
#include "avx512_simd.h"
#include "glimpse.h"

namespace aligndraw::cpu {
namespace {

// As in glimpse_rows.h, with what avx512.h has.
ALIGNDRAW_KERNEL void make_gaussians(const Filters<float>& f, float sharpness, PixelRange range) {
  const Avx512Gaussian gaussian(sharpness);
  for (int64_t i = 0; i < f.size; ++i) {
    const __m512 centre = _mm512_set1_ps(f.centres[i]);
    for (int64_t a = range.begin; a < range.end; a += 16)
      _mm512_storeu_ps(f.taps + i * f.stride + a,
                       gaussian(_mm512_sub_ps(_mm512_loadu_ps(f.pixels + a), centre)));
  }
}

ALIGNDRAW_KERNEL bool find_sigmoid(const float* pixels, const float* canvas, float* sigmoid,
                                   int64_t count) {
  const Avx512Sigmoid sigmoid_of;
  __m512 sum = {};
  in_sixteens(count, [&](Sixteen at) ALIGNDRAW_AVX512_LAMBDA {
    const __m512 seen = sigmoid_of(at(canvas));
    sum = _mm512_add_ps(sum, _mm512_sub_ps(at(pixels), seen));
    at.put(sigmoid, seen);
  });
  return _mm512_reduce_add_ps(sum) * 0 == 0;
}

}  // namespace
}  // namespace aligndraw::cpu

#include "product_tile.h"

namespace aligndraw::cpu {
namespace {

// As in product_tile.h.
ALIGNDRAW_KERNEL_INLINE void transpose_pairs(const float* from, int64_t from_stride, float* to,
                                             int64_t to_stride) {
  __m512d rows[8], twos[8], fours[8];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) rows[i] = _mm512_castps_pd(_mm512_loadu_ps(from + i * from_stride));
#pragma GCC unroll 4
  for (int i = 0; i < 8; i += 2) {
    twos[i] = _mm512_shuffle_pd(rows[i], rows[i + 1], 0x00);
    twos[i + 1] = _mm512_shuffle_pd(rows[i], rows[i + 1], 0xff);
  }
  // Blocks of two pairs: twos[i] holds columns i % 2, + 2, + 4, + 6 of rows i, i + 1.
#pragma GCC unroll 2
  for (int i = 0; i < 8; i += 4)
#pragma GCC unroll 2
    for (int odd = 0; odd < 2; ++odd) {
      fours[i + odd] = _mm512_shuffle_f64x2(twos[i + odd], twos[i + 2 + odd], 0x88);
      fours[i + 2 + odd] = _mm512_shuffle_f64x2(twos[i + odd], twos[i + 2 + odd], 0xdd);
    }
#pragma GCC unroll 2
  for (int odd = 0; odd < 2; ++odd)
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      const __m512d low = fours[2 * half + odd], high = fours[4 + 2 * half + odd];
      const int column = 2 * half + odd;
      _mm512_storeu_pd(to + column * to_stride, _mm512_shuffle_f64x2(low, high, 0x88));
      _mm512_storeu_pd(to + (column + 4) * to_stride, _mm512_shuffle_f64x2(low, high, 0xdd));
    }
}

}  // namespace
}  // namespace aligndraw::cpu

#include "glimpse_rows.h"

namespace aligndraw::cpu {
const GlimpseKernels<float>* avx512_glimpse() { return &glimpse_kernels_here<float>; }
}  // namespace aligndraw::cpu
#else
namespace aligndraw::cpu {
const GlimpseKernels<float>* avx512_glimpse() { return nullptr; }
}  // namespace aligndraw::cpu
#endif
