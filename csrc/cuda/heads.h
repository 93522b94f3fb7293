// Head outputs in the loops' kernels: products with h_dec, to which the stage that uses them adds
// the bias.
#pragma once
#include "../unroll_sizes.h"
#include "array.h"
#include "loop.h"

namespace aligndraw::cuda {

// outputs(b, j) is column j of row b, before the prior's tanh.
template <class T>
struct HeadOutputs {
  Rows<const T> products;  // [B, R]
  const T* bias;           // [R]

  ALIGNDRAW_INLINE T operator()(int64_t b, int j) const {
    return products.data[b * products.row_stride + j] + bias[j];
  }
};

ALIGNDRAW_INLINE GlimpseSizes glimpse_sizes(const UnrollSizes& s, int64_t size) {
  return {s.batch, s.channels, s.height, s.width, size};
}

}  // namespace aligndraw::cuda
