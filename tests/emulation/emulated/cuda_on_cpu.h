// A stand-in for the CUDA runtime: lets g++ compile a .cu file and run its kernels on the CPU, for
// tests.
//
// The folder of this header holds files named as CUDA's own (cuda_runtime.h, cuda_bf16.h, ...), so
// a kernel source needs no #ifdef: it is compiled by `nvcc x.cu`, or by `g++ -x c++ -I <this
// folder> x.cu` (g++ 11 or later) and linked with cuda_on_cpu.cpp and -Wl,-T,shared.ld.
//
// How it runs. One OS thread. Each CUDA thread is a fiber that runs until it waits at a barrier, a
// warp operation or a grid barrier. In a plain launch the blocks run one after another; in a
// cooperative or cluster launch all are alive at once. The order in which waiting threads go on can
// be forward, reversed or random (set_order).
//
// Shared memory. `__shared__` makes a static variable, and shared.ld gathers them all into one
// range of memory. The runtime fills that range with NaN when a block starts, and swaps its
// contents when it turns to another living block. Dynamic shared memory is had through
// dynamic_shared() and shared_piece(), as `extern __shared__` cannot be imitated.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <tuple>
#include <utility>

#define CUDA_ON_CPU 1
#define __global__ \
  static  // internal linkage, so that the static __shared__ variables of kernel templates can share
          // a section
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) __attribute__((aligned(n)))
#define __shared__       \
  static __attribute__(( \
      noinit))  // its own section; __attribute__((section)) is lost in templates (g++ 12)

// ---- types
// ----------------------------------------------------------------------------------------------------------
struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(8) int2 {
  int x, y;
};
struct alignas(16) int4 {
  int x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

typedef struct CUstream_st* cudaStream_t;
enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorLaunchFailure = 719,
  cudaErrorCooperativeLaunchTooLarge = 720,
  cudaErrorInvalidClusterSize = 912
};
enum cudaFuncAttribute {
  cudaFuncAttributeMaxDynamicSharedMemorySize = 8,
  cudaFuncAttributePreferredSharedMemoryCarveout = 9,
  cudaFuncAttributeNonPortableClusterSizeAllowed = 11
};
enum cudaDeviceAttr {
  cudaDevAttrMultiProcessorCount = 16,
  cudaDevAttrComputeCapabilityMajor = 75,
  cudaDevAttrComputeCapabilityMinor = 76,
  cudaDevAttrCooperativeLaunch = 95,
  cudaDevAttrMaxSharedMemoryPerBlockOptin = 97,
  cudaDevAttrClusterLaunch = 120
};
enum cudaLaunchAttributeID {
  cudaLaunchAttributeCooperative = 2,
  cudaLaunchAttributeClusterDimension = 4
};
union cudaLaunchAttributeValue {
  int cooperative;
  struct {
    unsigned x, y, z;
  } clusterDim;
};
struct cudaLaunchAttribute {
  cudaLaunchAttributeID id;
  cudaLaunchAttributeValue val;
};
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes;
  cudaStream_t stream;
  cudaLaunchAttribute* attrs;
  unsigned numAttrs;
};
enum cudaMemcpyKind {
  cudaMemcpyHostToHost,
  cudaMemcpyHostToDevice,
  cudaMemcpyDeviceToHost,
  cudaMemcpyDeviceToDevice,
  cudaMemcpyDefault
};

// ---- the runtime (cuda_on_cpu.cpp)
// ----------------------------------------------------------------------------------
namespace cuda_on_cpu {
enum class Order { forward, reverse, random };
void set_order(Order order, unsigned seed = 0);  // also: CUDA_ON_CPU_ORDER=forward|reverse|<seed>
void set_multiprocessors(int count);  // of the pretended device; also: CUDA_ON_CPU_SMS (default 4)
void set_capability(int major);  // of the pretended device, 9 at first; clusters exist from 9 on
void leave_out(
    const char* file,
    int line);  // the barrier there is not waited at; file: as __FILE__ ends, "" for none
const char* last_report();  // what was wrong with the last failed launch; "" if nothing

enum class Wait : int { none, block, grid, cluster, warp, shuffle, ballot, product };
void barrier(Wait kind, const char* name, const char* file, int line);
// A warp operation: every lane of `mask` hands in `value`, lane l gets the value of lane source(l).
uint64_t exchange(Wait kind, const char* name, unsigned mask, uint64_t value, int source,
                  const char* file, int line);
unsigned active_lanes();

// mma.sync: d += a b on one tile, by a warp. A lane hands in its registers, in the layout of the
// PTX ISA: d has 4 of them, a 4 and b 2. Inputs of TF32 lose the 13 bits that the hardware ignores.
// A sum of floats is exact and then rounded towards zero; the hardware keeps fewer bits on the way.
enum class Tile { tf32_m16n8k8, bf16_m16n8k16, f64_m16n8k8 };
struct Fragments {
  Tile tile;
  void* d;
  const void *a, *b;
};
void multiply_fragments(Tile tile, void* d, const void* a, const void* b, const char* file,
                        int line);

void yield();  // lets every other thread go on first: for loops that poll a flag
char* dynamic_shared();
char* shared_piece(int number, size_t offset,
                   size_t bytes);  // of the dynamic shared memory, with a red zone on either side
void* of_block_in_cluster(void* shared, unsigned rank);
unsigned cluster_rank(), cluster_size();
void note_atomic(const void* p, size_t size);  // tells the race check that this access is atomic

cudaError_t run(const cudaLaunchConfig_t& config, const void* kernel, void (*body)(void*),
                void* arguments);
cudaError_t set_attribute(const void* kernel, cudaFuncAttribute attribute, int value);
cudaError_t occupancy(int* blocks, int threads, size_t shared);
cudaError_t active_clusters(int* clusters, const void* kernel, const cudaLaunchConfig_t& config);
int lane();
}  // namespace cuda_on_cpu

extern uint3 threadIdx, blockIdx;  // of the thread that runs now
extern dim3 blockDim, gridDim;
constexpr int warpSize = 32;
#define CUDA_ON_CPU_HERE const char *file = __builtin_FILE(), int line = __builtin_LINE()

// ---- barriers and warp operations
// -----------------------------------------------------------------------------------
inline void __syncthreads(CUDA_ON_CPU_HERE) {
  cuda_on_cpu::barrier(cuda_on_cpu::Wait::block, "__syncthreads", file, line);
}
inline void __syncwarp(unsigned mask = ~0u, CUDA_ON_CPU_HERE) {
  cuda_on_cpu::exchange(cuda_on_cpu::Wait::warp, "__syncwarp", mask, 0, cuda_on_cpu::lane(), file,
                        line);
}
inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __nanosleep(unsigned) { cuda_on_cpu::yield(); }

namespace cuda_on_cpu {
template <class T>
T shuffle(const char* name, unsigned mask, T v, int source, const char* file, int line) {
  static_assert(sizeof(T) <= 8, "a shuffle moves at most 8 bytes");
  uint64_t bits = 0;
  std::memcpy(&bits, &v, sizeof v);
  bits = exchange(Wait::shuffle, name, mask, bits, source, file, line);
  std::memcpy(&v, &bits, sizeof v);
  return v;
}
}  // namespace cuda_on_cpu
template <class T>
T __shfl_sync(unsigned mask, T v, int source, int width = 32, CUDA_ON_CPU_HERE) {
  const int lane = cuda_on_cpu::lane(), first = lane / width * width;
  return cuda_on_cpu::shuffle("__shfl_sync", mask, v, first + (source & (width - 1)), file, line);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T v, int bits, int width = 32, CUDA_ON_CPU_HERE) {
  const int lane = cuda_on_cpu::lane(), source = lane ^ bits, end = lane / width * width + width;
  return cuda_on_cpu::shuffle("__shfl_xor_sync", mask, v, source < end ? source : lane, file, line);
}
template <class T>
T __shfl_down_sync(unsigned mask, T v, unsigned delta, int width = 32, CUDA_ON_CPU_HERE) {
  const int lane = cuda_on_cpu::lane(), source = lane + int(delta),
            end = lane / width * width + width;
  return cuda_on_cpu::shuffle("__shfl_down_sync", mask, v, source < end ? source : lane, file,
                              line);
}
template <class T>
T __shfl_up_sync(unsigned mask, T v, unsigned delta, int width = 32, CUDA_ON_CPU_HERE) {
  const int lane = cuda_on_cpu::lane(), source = lane - int(delta), first = lane / width * width;
  return cuda_on_cpu::shuffle("__shfl_up_sync", mask, v, source >= first ? source : lane, file,
                              line);
}
inline unsigned __ballot_sync(unsigned mask, int predicate, CUDA_ON_CPU_HERE) {
  return unsigned(cuda_on_cpu::exchange(cuda_on_cpu::Wait::ballot, "__ballot_sync", mask,
                                        predicate != 0, 0, file, line));
}
inline int __any_sync(unsigned mask, int p, CUDA_ON_CPU_HERE) {
  return __ballot_sync(mask, p, file, line) != 0;
}
inline int __all_sync(unsigned mask, int p, CUDA_ON_CPU_HERE) {
  return __ballot_sync(mask, p, file, line) == mask;
}
inline unsigned __activemask() {
  return cuda_on_cpu::active_lanes();
}  // all lanes that have not returned
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __clz(int x) { return x ? __builtin_clz(x) : 32; }

// ---- memory
// ---------------------------------------------------------------------------------------------------------
template <class T>
T __ldg(const T* p) {
  return *p;
}
template <class T>
T __ldcg(const T* p) {
  return *p;
}
template <class T>
void __stcg(T* p, T v) {
  *p = v;
}
#define CUDA_ON_CPU_ATOMIC(name, result)                     \
  template <class T>                                         \
  __attribute__((no_sanitize("thread"))) T name(T* p, T v) { \
    cuda_on_cpu::note_atomic(p, sizeof(T));                  \
    const T old = *p;                                        \
    *p = result;                                             \
    return old;                                              \
  }
CUDA_ON_CPU_ATOMIC(atomicAdd, old + v)
CUDA_ON_CPU_ATOMIC(atomicMax, std::max(old, v))
CUDA_ON_CPU_ATOMIC(atomicMin, std::min(old, v))
CUDA_ON_CPU_ATOMIC(atomicOr, old | v)
CUDA_ON_CPU_ATOMIC(atomicExch, v)

// ---- arithmetic
// -----------------------------------------------------------------------------------------------------
using std::max;
using std::min;
inline float __expf(float x) {
  return exp2f(x * 1.4426950408889634f);
}  // as the GPU does it: the error grows with |x|
inline float __logf(float x) { return log2f(x) * 0.6931471805599453f; }
inline float __fdividef(float a, float b) { return a / b; }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline float __saturatef(float x) { return x > 0 ? std::min(x, 1.0f) : 0.0f; }
inline unsigned __float_as_uint(float x) {
  unsigned u;
  std::memcpy(&u, &x, 4);
  return u;
}
inline float __uint_as_float(unsigned u) {
  float x;
  std::memcpy(&x, &u, 4);
  return x;
}
inline int __float_as_int(float x) { return int(__float_as_uint(x)); }
inline float __int_as_float(int i) { return __uint_as_float(unsigned(i)); }

// bf16 and half are for storage: values are converted to float, worked on, and rounded back (to
// nearest, ties to even).
struct alignas(2) __nv_bfloat16 {
  uint16_t bits;
};
struct alignas(4) __nv_bfloat162 {
  __nv_bfloat16 x, y;
};
struct alignas(2) __half {
  uint16_t bits;
};
struct alignas(4) __half2 {
  __half x, y;
};
inline float __bfloat162float(__nv_bfloat16 v) { return __uint_as_float(uint32_t(v.bits) << 16); }
inline __nv_bfloat16 __float2bfloat16_rn(float x) {
  const uint32_t u = __float_as_uint(x);
  if ((u & 0x7fffffffu) > 0x7f800000u) return {0x7fff};  // NaN
  return {uint16_t((u + 0x7fffu + ((u >> 16) & 1)) >> 16)};
}
inline float __half2float(__half v) {
  _Float16 h;
  std::memcpy(&h, &v, 2);
  return float(h);
}
inline __half __float2half_rn(float x) {
  if (x != x) return {0x7fff};
  const _Float16 h = _Float16(x);
  __half v;
  std::memcpy(&v, &h, 2);
  return v;
}
inline __nv_bfloat16 __float2bfloat16(float x) { return __float2bfloat16_rn(x); }
inline __half __float2half(float x) { return __float2half_rn(x); }
inline __nv_bfloat162 __floats2bfloat162_rn(float a, float b) {
  return {__float2bfloat16_rn(a), __float2bfloat16_rn(b)};
}
inline float2 __bfloat1622float2(__nv_bfloat162 v) {
  return {__bfloat162float(v.x), __bfloat162float(v.y)};
}
inline __half2 __floats2half2_rn(float a, float b) {
  return {__float2half_rn(a), __float2half_rn(b)};
}
inline float2 __half22float2(__half2 v) { return {__half2float(v.x), __half2float(v.y)}; }

// ---- cooperative groups
// ---------------------------------------------------------------------------------------------
namespace cooperative_groups {
struct thread_block {
  void sync(CUDA_ON_CPU_HERE) const {
    cuda_on_cpu::barrier(cuda_on_cpu::Wait::block, "block.sync", file, line);
  }
  static unsigned thread_rank() {
    return threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  }
  static unsigned size() { return blockDim.x * blockDim.y * blockDim.z; }
};
inline thread_block this_thread_block() { return {}; }
struct grid_group {
  void sync(CUDA_ON_CPU_HERE) const {
    cuda_on_cpu::barrier(cuda_on_cpu::Wait::grid, "grid.sync", file, line);
  }
  static unsigned num_blocks() { return gridDim.x * gridDim.y * gridDim.z; }
  static unsigned block_rank() {
    return blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  }
  static unsigned thread_rank() {
    return block_rank() * thread_block::size() + thread_block::thread_rank();
  }
  static unsigned size() { return num_blocks() * thread_block::size(); }
};
inline grid_group this_grid() { return {}; }
struct cluster_group {
  void sync(CUDA_ON_CPU_HERE) const {
    cuda_on_cpu::barrier(cuda_on_cpu::Wait::cluster, "cluster.sync", file, line);
  }
  static unsigned num_blocks() { return cuda_on_cpu::cluster_size(); }
  static unsigned block_rank() { return cuda_on_cpu::cluster_rank(); }
  template <class T>
  T* map_shared_rank(T* p, unsigned rank) const {
    return static_cast<T*>(cuda_on_cpu::of_block_in_cluster(p, rank));
  }
};
inline cluster_group this_cluster() { return {}; }
template <unsigned N>
struct thread_block_tile {
  unsigned mask() const {
    return N == 32 ? ~0u : ((1u << (N & 31)) - 1) << (cuda_on_cpu::lane() / N * N);
  }
  unsigned thread_rank() const { return cuda_on_cpu::lane() % N; }
  unsigned meta_group_rank() const { return thread_block::thread_rank() / N; }
  static constexpr unsigned size() { return N; }
  void sync(CUDA_ON_CPU_HERE) const { __syncwarp(mask(), file, line); }
  template <class T>
  T shfl(T v, int s, CUDA_ON_CPU_HERE) const {
    return __shfl_sync(mask(), v, s, int(N), file, line);
  }
  template <class T>
  T shfl_xor(T v, int s, CUDA_ON_CPU_HERE) const {
    return __shfl_xor_sync(mask(), v, s, int(N), file, line);
  }
  template <class T>
  T shfl_down(T v, int s, CUDA_ON_CPU_HERE) const {
    return __shfl_down_sync(mask(), v, s, int(N), file, line);
  }
};
template <unsigned N>
thread_block_tile<N> tiled_partition(const thread_block&) {
  return {};
}
}  // namespace cooperative_groups

// ---- host side
// ------------------------------------------------------------------------------------------------------
template <class... P, class... A>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(P...),
                               A&&... arguments) {
  auto call = [kernel, copies = std::tuple<P...>(static_cast<P>(std::forward<A>(arguments))...)] {
    std::apply(kernel, copies);
  };
  return cuda_on_cpu::run(
      *config, reinterpret_cast<const void*>(kernel),
      [](void* c) { (*static_cast<decltype(call)*>(c))(); }, &call);
}
template <class F>
cudaError_t cudaFuncSetAttribute(F* kernel, cudaFuncAttribute a, int value) {
  return cuda_on_cpu::set_attribute(reinterpret_cast<const void*>(kernel), a, value);
}
template <class F>
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, F*, int threads,
                                                          size_t shared) {
  return cuda_on_cpu::occupancy(blocks, threads, shared);
}
template <class F>
cudaError_t cudaOccupancyMaxActiveClusters(int* clusters, F* kernel,
                                           const cudaLaunchConfig_t* config) {
  return cuda_on_cpu::active_clusters(clusters, reinterpret_cast<const void*>(kernel), *config);
}
cudaError_t cudaGetLastError();
cudaError_t cudaPeekAtLastError();
const char* cudaGetErrorString(cudaError_t error);  // for cudaErrorLaunchFailure: the report
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device);
cudaError_t cudaMalloc(void** p, size_t bytes);  // filled with NaN
cudaError_t cudaFree(void* p);
template <class T>
cudaError_t cudaMalloc(T** p, size_t bytes) {
  return cudaMalloc(reinterpret_cast<void**>(p), bytes);
}
inline cudaError_t cudaGetDevice(int* device) { return *device = 0, cudaSuccess; }
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t n, cudaMemcpyKind,
                                   cudaStream_t = nullptr) {
  return std::memcpy(to, from, n), cudaSuccess;
}
inline cudaError_t cudaMemcpy(void* to, const void* from, size_t n, cudaMemcpyKind) {
  return std::memcpy(to, from, n), cudaSuccess;
}
inline cudaError_t cudaMemsetAsync(void* p, int v, size_t n, cudaStream_t = nullptr) {
  return std::memset(p, v, n), cudaSuccess;
}
inline cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
inline cudaError_t cudaDeviceSynchronize() { return cudaSuccess; }
