// Parts of all CPU ops: versions of a loop for each generation of processor, threads, scratch
// memory, and tensors in the type of the arithmetic.
#pragma once
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <memory>

#include "../math/scalar.h"
#include "../tensor.h"
#include "compiler.h"
#include "pool.h"

namespace aligndraw::cpu {

// The tensor, contiguous; a type other than float64 becomes float32.
inline Tensor for_arithmetic(const Tensor& tensor) {
  return as_contiguous(is_double(tensor) ? tensor : as_type(tensor, ScalarType::Float));
}

inline int64_t thread_count() { return std::max<int64_t>(1, torch::stable::get_num_threads()); }

// torch's parallel_for. An exception of `range` reaches the caller unchanged: PyTorch's C interface
// would replace it by an error of its own and print it on the terminal.
template <class F>
void parallel_for(int64_t begin, int64_t end, int64_t grain, const F& range) {
  std::atomic_flag threw = ATOMIC_FLAG_INIT;
  std::exception_ptr thrown;
  torch::stable::parallel_for(begin, end, grain, [&](int64_t first, int64_t last) {
    try {
      range(first, last);
    } catch (...) {
      if (!threw.test_and_set()) thrown = std::current_exception();
    }
  });
  if (thrown) std::rethrow_exception(thrown);
}

// Calls range(begin, end) on torch's threads, for parts of 0 ... rows - 1. A part has at least
// about 4096 elements.
template <class F>
void for_row_ranges(int64_t rows, int64_t elements_per_row, const F& range) {
  const int64_t grain = std::max<int64_t>(1, 4096 / std::max<int64_t>(1, elements_per_row));
  parallel_for(0, rows, grain, range);
}

// Calls row(b) for every b < rows on torch's threads.
template <class F>
void for_each_row(int64_t rows, int64_t elements_per_row, const F& row) {
  for_row_ranges(rows, elements_per_row, [&row](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) row(b);
  });
}

// Scratch memory: uninitialised, from the start of a cache line.
template <class T>
class Buffer {
 public:
  explicit Buffer(int64_t size) {
    const size_t bytes = bytes_of(size == 0 ? 1 : size, sizeof(T));
    data_ = {static_cast<T*>(allocate(bytes)), {bytes}};
  }
  T* data() const { return data_.get(); }
  operator T*() const { return data(); }

 private:
  struct Release {
    size_t bytes;
    void operator()(T* data) const { release(data, bytes); }
  };
  std::unique_ptr<T[], Release> data_{nullptr, {0}};
};

// While one lives, this thread's arithmetic treats subnormal numbers as 0. Pixels far from a window
// have tiny weights, and arithmetic on subnormal numbers is a hundred times slower.
class FlushSubnormals {
#if defined(__x86_64__)
 public:
  FlushSubnormals() : before_(__builtin_ia32_stmxcsr()) {
    __builtin_ia32_ldmxcsr(before_ | 0x8040);  // results, arguments
  }
  ~FlushSubnormals() { __builtin_ia32_ldmxcsr(before_); }

 private:
  unsigned before_;
#elif defined(__aarch64__)
 public:
  FlushSubnormals() {
    asm volatile("mrs %0, fpcr" : "=r"(before_));
    asm volatile("msr fpcr, %0" : : "r"(before_ | uint64_t(1) << 24));
  }
  ~FlushSubnormals() { asm volatile("msr fpcr, %0" : : "r"(before_)); }

 private:
  uint64_t before_;
#endif
};

// term(0) + ... + term(n - 1), in an order that suits vectors.
template <class T, class F>
ALIGNDRAW_INLINE T sum_of(int64_t n, const F& term) {
  T total = 0;
#pragma omp simd reduction(+ : total)
  for (int64_t j = 0; j < n; ++j) total += term(j);
  return total;
}

}  // namespace aligndraw::cpu
