// Launches of kernels, and the layout of their dynamic shared memory.
//
// Ordinary CUDA. The tests also compile the .cu files with g++ and run them on the CPU, where
// <<<>>> and `extern __shared__` do not exist. Hence launch(), SharedArrays and the one #ifdef.
#pragma once
#include <cooperative_groups.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <utility>

namespace aligndraw::cuda {

// The bytes that allocate<T>(count) uses. A launcher requests the sum over its kernel's arrays.
template <class T>
__host__ __device__ constexpr size_t shared_bytes(size_t count) {
  return (count * sizeof(T) + 15) / 16 * 16;
}

#ifndef CUDA_ON_CPU
__device__ __forceinline__ unsigned char* dynamic_shared() {
  extern __shared__ __align__(16) unsigned char dynamic_shared_memory[];
  return dynamic_shared_memory;
}
#endif

// Where an array of dynamic shared memory lies, as an offset. A pointer that is loaded from memory
// may be one to any memory, for all that the compiler knows, and it reads through it by generic
// loads, which are slower. So a struct that lies in shared memory itself has this.
template <class T>
class SharedPlace {
 public:
#ifdef CUDA_ON_CPU
  explicit SharedPlace(void* array) : array_(static_cast<T*>(array)) {}
  T* get() const { return array_; }

 private:
  T* array_;
#else
  __device__ __forceinline__ explicit SharedPlace(unsigned offset) : offset_(offset) {}
  __device__ __forceinline__ T* get() const {
    return reinterpret_cast<T*>(dynamic_shared() + offset_);
  }

 private:
  unsigned offset_;
#endif
};

// A block's dynamic shared memory. Each place() is that of the next array, on a 16-byte boundary.
class SharedArrays {
 public:
  template <class T>
  __device__ __forceinline__ SharedPlace<T> place(size_t count) {
    const unsigned offset = used_;
    used_ += unsigned(shared_bytes<T>(count));
#ifdef CUDA_ON_CPU
    return SharedPlace<T>(cuda_on_cpu::shared_piece(taken_++, offset, count * sizeof(T)));
#else
    return SharedPlace<T>(offset);
#endif
  }
  template <class T>
  __device__ __forceinline__ T* allocate(size_t count) {
    return place<T>(count).get();
  }

 private:
  unsigned used_ = 0;
  [[maybe_unused]] int taken_ = 0;
};

// A one-dimensional grid. A count above CUDA's limit fails at the launch and is never cut.
inline dim3 row_of(int64_t blocks) { return dim3(unsigned(std::min<int64_t>(blocks, 1u << 31))); }

// The limit of shared memory is state of a kernel. Each call sets it, under this lock.
inline std::mutex& setting_shared() {
  static std::mutex mutex;
  return mutex;
}

// kernel<<<blocks, threads, shared, stream>>>(arguments...), also with more than 48 KB of shared
// memory. In a cooperative launch all blocks run at once, as grid.sync() needs.
template <class... Parameters, class... Arguments>
cudaError_t launch(void (*kernel)(Parameters...), dim3 blocks, dim3 threads, size_t shared,
                   cudaStream_t stream, bool cooperative, Arguments&&... arguments) {
  cudaError_t error = cudaSuccess;
  std::unique_lock lock(setting_shared(), std::defer_lock);
  if (shared > 48 * 1024) {
    lock.lock();
    error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(shared));
  }
  if (error == cudaSuccess) {
    cudaLaunchAttribute attribute{};
    attribute.id = cudaLaunchAttributeCooperative;
    attribute.val.cooperative = cooperative;
    cudaLaunchConfig_t config{};
    config.gridDim = blocks;
    config.blockDim = threads;
    config.dynamicSmemBytes = shared;
    config.stream = stream;
    config.attrs = &attribute;
    config.numAttrs = 1;
    error = cudaLaunchKernelEx(&config, kernel, std::forward<Arguments>(arguments)...);
  }
  // Clears the error: the runtime would report it again to PyTorch.
  if (error != cudaSuccess) cudaGetLastError();
  return error;
}

// The result of a launcher: nullptr, or CUDA's error message.
inline const char* report(cudaError_t error) {
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

}  // namespace aligndraw::cuda
