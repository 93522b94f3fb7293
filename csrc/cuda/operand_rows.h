// Stores into rows that a product reads, in the loops' kernels.
#pragma once
#include "loop.h"
#include "number.h"

namespace aligndraw::cuda {

// Element (b, j) = x, and rounded where the rows are kept rounded too.
template <class T>
__device__ __forceinline__ void store(const OperandRows<T>& rows, int64_t b, int j, T x) {
  rows.data[b * rows.row_stride + j] = x;
  if constexpr (sizeof(T) == sizeof(float))
    if (rows.rounded)
      store(reinterpret_cast<__nv_bfloat16*>(rows.rounded) + b * rows.rounded_stride + j, x);
}

}  // namespace aligndraw::cuda
