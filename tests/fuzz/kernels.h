// For kernels that work in memory of the pool: here each array has memory of its own, which ends
// where nobody may read.
#pragma once
#include <cmath>
#include <cstdlib>
#include <limits>

#include "bytes.h"
#include "cpu/pool.h"

size_t aligndraw::cpu::bytes_of(int64_t count, size_t element) { return size_t(count) * element; }
void* aligndraw::cpu::allocate(size_t bytes) {
  void* const data = aligned_alloc(64, (bytes + 63) / 64 * 64);
  std::memset(data, 0xff, bytes);  // NaN
  return data;
}
void aligndraw::cpu::release(void* data, size_t) { free(data); }
aligndraw::Tensor aligndraw::cpu::pooled(Sizes, ScalarType) { std::abort(); }  // of ops alone

// A result that nobody has written yet.
template <class T>
std::vector<T> unwritten(size_t size) {
  auto numbers = Bytes::zeros<T>(size);
  for (T& x : numbers) x = std::numeric_limits<T>::quiet_NaN();
  return numbers;
}

// Ends the program where a number is not finite.
template <class T>
void expect_finite(const std::vector<T>& numbers) {
  for (const T x : numbers)
    if (!std::isfinite(x)) std::abort();
}

inline void expect(bool holds) {
  if (!holds) std::abort();
}
