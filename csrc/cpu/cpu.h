// What the CPU ops share: the versions of a loop for each generation of processor, and the tensors
// in the type that the loops work in.
#pragma once
#include <algorithm>
#include <cstdint>

#include "../tensor.h"

// Before a function that is no template: compiles it for AVX-512, for AVX2 and for any x86-64, and
// the loader takes the best that the machine runs. g++ before 12 does not know the levels' names.
#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__)
#if __GNUC__ >= 12
#define ALIGNDRAW_CLONES \
  __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define ALIGNDRAW_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#endif
#else
#define ALIGNDRAW_CLONES
#endif

namespace aligndraw::cpu {

inline bool is_double(const Tensor& tensor) { return tensor.scalar_type() == ScalarType::Double; }

// Contiguous, and float64 where it was, else float32.
inline Tensor for_arithmetic(const Tensor& tensor) {
  return as_contiguous(is_double(tensor) ? tensor : as_type(tensor, ScalarType::Float));
}

// Calls row(b) for every b < rows on torch's threads; a thread gets some 4096 elements at least.
template <class F>
void for_each_row(int64_t rows, int64_t elements_a_row, const F& row) {
  const int64_t grain = std::max<int64_t>(1, 4096 / std::max<int64_t>(1, elements_a_row));
  torch::stable::parallel_for(0, rows, grain, [&row](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) row(b);
  });
}

}  // namespace aligndraw::cpu
