// Kernels with one bug each, to show that the tests on the CPU find it: `bugs <name>` prints "ok",
// what the runtime reports, or that the result is wrong; a sanitizer may stop it first. Orders:
// CUDA_ON_CPU_ORDER=forward|reverse|<seed>.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "launch.h"
#include "sum.h"
using namespace aligndraw::cuda;
namespace cg = cooperative_groups;

namespace {
constexpr int n = 128;  // threads a block

// A sum over the block, right if every flag is left out.
enum {
  no_bug,
  static_too_far,
  dynamic_too_far,
  global_too_far,
  no_barrier,
  no_second_barrier,
  no_syncwarp,
  leave_early,
  two_barriers,
  not_initialised,
  lane_not_in_mask,
  lane_missing,
  too_little_asked,
  misaligned
};
template <int bug>
__global__ void sum_kernel(const float* in, float* out, int warps) {
  __shared__ float part[n / 32];
  SharedArrays shared;
  float* value = shared.allocate<float>(n);
  float* again = shared.allocate<float>(n);
  const int t = threadIdx.x, warp = t / 32, lane = t % 32;

  if (bug == leave_early && t >= 100) return;
  value[bug == dynamic_too_far ? t + 1 : t] = bug == global_too_far ? in[t + 1] : in[t];
  if (bug == dynamic_too_far && t == 0) value[0] = 0;
  if (bug == misaligned && t < 31)
    value[t] = reinterpret_cast<const float4*>(in + 1)[t].x - in[4 * t + 1] + in[t];
  if (bug == two_barriers && t < 64)
    __syncthreads();
  else if (bug != no_barrier)
    __syncthreads();

  float v = value[n - 1 - t];  // from another warp
  if (bug == no_syncwarp) {
    again[t] = v;
    v = again[t ^ 1];
  }
  if (bug == lane_missing) {
    if (lane < 20) v = warp_sum(v);
  } else if (bug == lane_not_in_mask) {
    if (lane < 16)
      for (int d = 16; d > 0; d /= 2) v += __shfl_down_sync(0xffffu, v, d);
  } else {
    v = warp_sum(v);
  }
  if (lane == 0 && !(bug == not_initialised && warp == 2)) part[warp] = v;
  __syncthreads();
  v = 0;
  const float* parts = part;
  for (int w = 0; w < warps + (bug == static_too_far); ++w) v += parts[w];
  if (bug != no_second_barrier) __syncthreads();
  if (lane == 0) part[warp] = -1;  // the next round would use it again
  if (t == 0) *out = v;
}

__global__ void grid_kernel(float* a, float* out,
                            bool with_sync) {  // each block reads what the next one wrote
  if (threadIdx.x == 0) a[blockIdx.x] = float(blockIdx.x);
  if (with_sync) cg::this_grid().sync();
  if (threadIdx.x == 0) out[blockIdx.x] = a[(blockIdx.x + 1) % gridDim.x];
}
__global__ void same_word_kernel(float* out) { *out = *out + 1; }
__global__ void atomic_kernel(float* out) { atomicAdd(out, 1.0f); }
__global__ void polling_kernel(volatile int* flag) {
  while (*flag == 0) __nanosleep(20);
}

// Each block of a cluster of two hands its number to the other one.
enum { clusters_good, clusters_not_started, clusters_no_barrier, clusters_left };
template <int bug>
__global__ void cluster_kernel(float* out) {
  const auto cluster = cg::this_cluster();
  SharedArrays shared;
  float* const given = shared.allocate<float>(1);
  const unsigned other = cluster.block_rank() ^ 1;
  if (bug != clusters_not_started) cluster.sync();
  if (threadIdx.x == 0) *cluster.map_shared_rank(given, other) = float(blockIdx.x);
  if (bug != clusters_no_barrier) cluster.sync();
  if (threadIdx.x > 0) return;
  out[blockIdx.x] = *given;
  if (bug == clusters_left) out[blockIdx.x] = *cluster.map_shared_rank(given, other);
}
template <int bug>
int run_clusters(unsigned size = 2) {
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim = {size, 1, 1};
  cudaLaunchConfig_t config{};
  config.gridDim = 2 * size, config.blockDim = n, config.dynamicSmemBytes = 16;
  config.attrs = &attribute, config.numAttrs = 1;
  std::vector<float> out(2 * size);
  const cudaError_t e = cudaLaunchKernelEx(&config, cluster_kernel<bug>, out.data());
  if (e != cudaSuccess) return std::printf("reported: %s\n", cudaGetErrorString(e)), 1;
  for (unsigned i = 0; i < out.size(); ++i)
    if (out[i] != float(i ^ 1)) return std::puts("wrong"), 1;
  return std::puts("ok"), 0;
}

// D += A B on whole numbers, in the layout of the PTX ISA.
template <int bug>
__global__ void tile_kernel(double* out) {
  const int group = threadIdx.x / 4, in_group = threadIdx.x % 4;
  double a[4], b[2], d[4];
  for (int i = 0; i < 4; ++i) a[i] = (group + i % 2 * 8) * 8 + in_group + i / 2 * 4;
  for (int i = 0; i < 2; ++i) b[i] = (in_group + i * 4) * 8 + group;
  for (int i = 0; i < 4; ++i) d[i] = 1;
  if (bug && threadIdx.x >= 16) return;
  cuda_on_cpu::multiply_fragments(cuda_on_cpu::Tile::f64_m16n8k8, d, a, b, __FILE__, __LINE__);
  for (int i = 0; i < 4; ++i) out[(group + i / 2 * 8) * 8 + in_group * 2 + i % 2] = d[i];
}
template <int bug>
int run_tile() {
  std::vector<double> out(16 * 8);
  const cudaError_t e = launch(tile_kernel<bug>, 1, 32, 0, nullptr, false, out.data());
  if (e != cudaSuccess) return std::printf("reported: %s\n", cudaGetErrorString(e)), 1;
  for (int i = 0; i < 16; ++i)
    for (int j = 0; j < 8; ++j) {
      double sum = 1;
      for (int k = 0; k < 8; ++k) sum += double(i * 8 + k) * (k * 8 + j);
      if (out[size_t(i * 8 + j)] != sum) return std::puts("wrong"), 1;
    }
  return std::puts("ok"), 0;
}

template <int bug>
int run_sum() {
  float *in, *out;
  cudaMalloc(&in, n * sizeof(float));
  cudaMalloc(&out, sizeof(float));
  float want = 0;
  for (int i = 0; i < n; ++i) want += in[i] = float(i);
  const size_t shared = bug == too_little_asked ? 4 * n : 8 * n;
  cudaError_t e = launch(sum_kernel<bug>, 1, n, shared, nullptr, false,
                         static_cast<const float*>(in), out, n / 32);
  if (e != cudaSuccess) return std::printf("reported: %s\n", cudaGetErrorString(e)), 1;
  if (*out != want) return std::printf("wrong: %g, not %g\n", *out, want), 1;
  cudaFree(in);
  cudaFree(out);
  return std::puts("ok"), 0;
}
int finish(cudaError_t e, bool right = true) {
  if (e != cudaSuccess) return std::printf("reported: %s\n", cudaGetErrorString(e)), 1;
  return std::puts(right ? "ok" : "wrong"), !right;
}
}  // namespace

int main(int, char** argv) {
  const char* name = argv[1];
#define CASE(bug) \
  if (!std::strcmp(name, #bug)) return run_sum<bug>();
  // clang-format off
  CASE(no_bug) CASE(static_too_far) CASE(dynamic_too_far) CASE(global_too_far) CASE(no_barrier) CASE(no_second_barrier)
  CASE(no_syncwarp) CASE(leave_early) CASE(two_barriers) CASE(not_initialised) CASE(lane_not_in_mask) CASE(lane_missing)
  CASE(too_little_asked) CASE(misaligned)
      // clang-format on
      const bool good = !std::strcmp(name, "grid_good");
  if (good || !std::strcmp(name, "no_grid_sync") || !std::strcmp(name, "not_cooperative")) {
    std::vector<float> a(4, NAN), out(4);
    const cudaError_t e =
        launch(grid_kernel, 4, n, 0, nullptr, std::strcmp(name, "not_cooperative") != 0, a.data(),
               out.data(), std::strcmp(name, "no_grid_sync") != 0);
    return finish(e, out == std::vector<float>{1, 2, 3, 0});
  }
  if (!std::strcmp(name, "clusters_good")) return run_clusters<clusters_good>();
  if (!std::strcmp(name, "clusters_not_started")) return run_clusters<clusters_not_started>();
  if (!std::strcmp(name, "clusters_no_barrier")) return run_clusters<clusters_no_barrier>();
  if (!std::strcmp(name, "clusters_left")) return run_clusters<clusters_left>();
  if (!std::strcmp(name, "cluster_too_large")) return run_clusters<clusters_good>(16);
  if (!std::strcmp(name, "tile_good")) return run_tile<0>();
  if (!std::strcmp(name, "tile_of_half_a_warp")) return run_tile<1>();
  float sum = 0;
  cudaError_t e = cudaSuccess;
  if (!std::strcmp(name, "same_word"))
    return e = launch(same_word_kernel, 4, 1, 0, nullptr, false, &sum), finish(e, sum == 4);
  if (!std::strcmp(name, "atomic_good"))
    return e = launch(atomic_kernel, 4, 64, 0, nullptr, false, &sum), finish(e, sum == 256);
  int flag = 0;
  if (!std::strcmp(name, "polling"))
    return finish(
        launch(polling_kernel, 1, 32, 0, nullptr, false, static_cast<volatile int*>(&flag)));
  return std::printf("no such bug: %s\n", name), 2;
}
