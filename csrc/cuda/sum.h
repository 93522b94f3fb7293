// Sums over the threads of a warp and of a block, in the same order every time.
#pragma once
#include <cuda_runtime.h>

namespace aligndraw::cuda {

constexpr int warp_threads = 32;

// The sum over the warp, in every lane.
template <class T>
__device__ __forceinline__ T warp_sum(T x) {
  for (int lanes = warp_threads / 2; lanes > 0; lanes /= 2) x += __shfl_xor_sync(~0u, x, lanes);
  return x;
}

// The largest of the warp, in every lane.
template <class T>
__device__ __forceinline__ T warp_max(T x) {
  for (int lanes = warp_threads / 2; lanes > 0; lanes /= 2) {
    const T other = __shfl_xor_sync(~0u, x, lanes);
    x = other > x ? other : x;
  }
  return x;
}

// Adds up `count` numbers a thread over the block, for thread 0 alone. `parts` is shared memory,
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
