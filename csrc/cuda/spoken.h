// What h_dec says in the loops' kernels: the heads, which are products until someone adds their
// bias.
#pragma once
#include "../unroll_sizes.h"
#include "array.h"
#include "loop.h"

namespace aligndraw::cuda {

// Column j of row b, but for the prior's tanh.
template <class T>
struct Spoken {
  Rows<const T> products;
  const T* bias;

  ALIGNDRAW_INLINE T operator()(int64_t b, int64_t j) const {
    return products.data[b * products.pitch + j] + bias[j];
  }
};

ALIGNDRAW_INLINE GlimpseSizes glimpse_sizes(const UnrollSizes& s, int64_t size) {
  return {s.batch, s.channels, s.height, s.width, size};
}

}  // namespace aligndraw::cuda
