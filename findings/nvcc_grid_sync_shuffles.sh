#!/usr/bin/env bash
# After cooperative_groups' grid.sync(), nvcc 13.0 writes every warp shuffle of the loop twice.
#
# Guess: behind a barrier of the whole grid the lanes of a warp stand together, as they do behind __syncthreads(), so a sum
# over a warp takes five shuffles either way.
# Behaviour of nvcc 13.0.88 for sm_90: the barrier's code lets a warp part, so the compiler tests for parted lanes (BRA.DIV)
# and keeps a second form of the five shuffles behind WARPSYNC.COLLECTIVE. The same barrier written with
# __syncthreads() and an atomic counter has one form. In kernels with many sums this doubles much of the code.
# Output seen: by_hand: 5 shuffles, 0 tests for parted lanes before a sum; by_library: 10 shuffles, 1 tests.
#
# Needs a Linux machine on x86-64 with g++, and no GPU: the kernels are compiled and read, not run.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check --no-deps nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 \
  nvidia-cuda-crt==13.0.88 nvidia-cuda-runtime==13.0.88 nvidia-cuda-cccl==13.0.85 nvidia-cuda-nvdisasm==13.2.78
cuda=$(dirname "$(dirname "$(find venv -name nvcc -path '*/bin/*')")")
cat > barriers.cu <<'C'
#include <cooperative_groups.h>
__device__ float total(const float* x, int n) {
  float sum = 0;
  for (int i = threadIdx.x % 32; i < n; i += 32) sum += x[i];
#pragma unroll
  for (int lane = 16; lane > 0; lane /= 2) sum += __shfl_xor_sync(~0u, sum, lane);
  return sum;
}
__device__ void wait_for_all(unsigned* arrived) {
  __syncthreads();
  if (threadIdx.x == 0) {
    __threadfence();
    const unsigned end = (atomicAdd(arrived, 1) / gridDim.x + 1) * gridDim.x;
    while (*(volatile unsigned*)arrived < end) {}
    __threadfence();
  }
  __syncthreads();
}
template <class Wait>
__device__ void run(const float* x, float* y, int n, int steps, Wait wait) {
  for (int t = 0; t < steps; ++t) {
    const float sum = total(x + t * n, n);
    if (threadIdx.x == 0) y[t * gridDim.x + blockIdx.x] = sum;
    wait();
  }
}
extern "C" __global__ void by_library(const float* x, float* y, int n, int steps) {
  run(x, y, n, steps, [] { cooperative_groups::this_grid().sync(); });
}
extern "C" __global__ void by_hand(const float* x, float* y, int n, int steps, unsigned* arrived) {
  run(x, y, n, steps, [=] { wait_for_all(arrived); });
}
C
"$cuda/bin/nvcc" --version | grep release
"$cuda/bin/nvcc" -arch=sm_90 -O3 -cubin -o barriers.cubin barriers.cu
"$cuda/bin/nvdisasm" -c barriers.cubin | awk '/^\.text\./ { kernel = $1; sub(/^\.text\./, "", kernel); sub(/:$/, "", kernel) } { print kernel, $0 }' > code
count() { grep "^$1 " code | grep -c "$2" || true; }
for kernel in by_hand by_library; do
  # The barrier of the library parts lanes in places of its own, so only a BRA.DIV right before a shuffle counts.
  tested=$(grep "^$kernel " code | grep -A 1 "BRA\.DIV" | grep -c "SHFL\.BFLY" || true)
  echo "$kernel: $(count $kernel SHFL.BFLY) shuffles, $tested tests for parted lanes before a sum"
  declare "shuffles_$kernel=$(count $kernel SHFL.BFLY)" "tests_$kernel=$tested"
done
[ "$shuffles_by_hand $tests_by_hand $shuffles_by_library $tests_by_library" = "5 0 10 1" ] || { echo "this has changed"; exit 1; }
