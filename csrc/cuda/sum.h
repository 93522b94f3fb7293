// Sums of a thread, of a warp and of a block, always in the same order.
#pragma once
#include <cuda_runtime.h>

namespace aligndraw::cuda {

constexpr int warp_threads = 32;

// term(0) + ... + term(n - 1), as four sums: shorter chains, and smaller rounding errors.
template <class T, class Term>
__device__ __forceinline__ T sum_of(int n, const Term& term) {
  T sums[4] = {};
  int k = 0;
  for (; k + 4 <= n; k += 4)
#pragma unroll
    for (int m = 0; m < 4; ++m) sums[m] += term(k + m);
  for (; k < n; ++k) sums[0] += term(k);
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

// The sum over the warp, in every lane.
template <class T>
__device__ __forceinline__ T warp_sum(T x) {
  for (int lanes = warp_threads / 2; lanes > 0; lanes /= 2) x += __shfl_xor_sync(~0u, x, lanes);
  return x;
}

// In lane i, the sum of x[i] over the warp.
template <int count = warp_threads, class T>
__device__ __forceinline__ T warp_sums(T (&x)[warp_threads]) {
  if constexpr (count == 1) {
    return x[0];
  } else {
    constexpr int half = count / 2;
    const bool upper = threadIdx.x & half;
#pragma unroll
    for (int i = 0; i < half; ++i) {
      const T given = upper ? x[i] : x[i + half], kept = upper ? x[i + half] : x[i];
      x[i] = kept + __shfl_xor_sync(~0u, given, half);
    }
    return warp_sums<half>(x);
  }
}

// The largest x of the warp, in every lane.
template <class T>
__device__ __forceinline__ T warp_max(T x) {
  for (int lanes = warp_threads / 2; lanes > 0; lanes /= 2) {
    const T other = __shfl_xor_sync(~0u, x, lanes);
    x = other > x ? other : x;
  }
  return x;
}

// Sums `count` numbers per thread over the block, for thread 0 alone. `parts` is shared memory,
// [count, warps of the block].
template <class T, int count>
__device__ __forceinline__ void block_sum(T (&x)[count], T* parts) {
  const int warps = blockDim.x / warp_threads, warp = threadIdx.x / warp_threads;
  for (int n = 0; n < count; ++n) {
    const T sum = warp_sum(x[n]);
    if (threadIdx.x % warp_threads == 0) parts[n * warps + warp] = sum;
  }
  __syncthreads();
  if (threadIdx.x > 0) return;
  for (int n = 0; n < count; ++n) {
    x[n] = 0;
    for (int w = 0; w < warps; ++w) x[n] += parts[n * warps + w];
  }
}

}  // namespace aligndraw::cuda
