// Sums of a thread, of a warp and of a block, always in the same order.
#pragma once
#include <cuda_runtime.h>

namespace aligndraw::cuda {

constexpr int warp_threads = 32;

// The number of this thread's warp in the block; all lanes call it together. The shuffle shows the
// compiler that the lanes of a warp have the same: else each warp operation under a branch on it
// would come with a second form for lanes that have parted.
__device__ __forceinline__ int warp_index() {
  return __shfl_sync(~0u, int(threadIdx.x) / warp_threads, 0);
}

// result[q] = term(0, q) + ... + term(n - 1, q), each as four sums: shorter chains, and smaller
// rounding errors.
template <class T, int count, class Term>
__device__ __forceinline__ void sums_of(int n, const Term& term, T (&result)[count]) {
  T sums[count][4] = {};
  int k = 0;
#pragma unroll 1
  for (; k + 4 <= n; k += 4)
#pragma unroll
    for (int m = 0; m < 4; ++m)
#pragma unroll
      for (int q = 0; q < count; ++q) sums[q][m] += term(k + m, q);
#pragma unroll 1
  for (; k < n; ++k)
#pragma unroll
    for (int q = 0; q < count; ++q) sums[q][0] += term(k, q);
#pragma unroll
  for (int q = 0; q < count; ++q) result[q] = (sums[q][0] + sums[q][1]) + (sums[q][2] + sums[q][3]);
}

// term(0) + ... + term(n - 1), likewise.
template <class T, class Term>
__device__ __forceinline__ T sum_of(int n, const Term& term) {
  T sum[1];
  sums_of(n, [&](int k, int) { return term(k); }, sum);
  return sum[0];
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
#pragma unroll
  for (int n = 0; n < count; ++n) {
    const T sum = warp_sum(x[n]);
    if (threadIdx.x % warp_threads == 0) parts[n * warps + warp] = sum;
  }
  __syncthreads();
  if (threadIdx.x > 0) return;
#pragma unroll
  for (int n = 0; n < count; ++n) {
    x[n] = 0;
#pragma unroll 1
    for (int w = 0; w < warps; ++w) x[n] += parts[n * warps + w];
  }
}

}  // namespace aligndraw::cuda
