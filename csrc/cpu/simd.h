// Vectors as wide as the registers of one ISA. A kernel file includes the header of an ISA,
// <isa>_simd.h, which defines before this file
//
//   ALIGNDRAW_KERNEL, ALIGNDRAW_KERNEL_INLINE, ALIGNDRAW_KERNEL_LAMBDA
//                                               attributes of functions of that ISA
//   ALIGNDRAW_VECTOR_BYTES, ALIGNDRAW_VECTORS   the size of a register, and how many there are
//
// All stands in an unnamed namespace: the linker would take one ISA's code for all of them.
#pragma once
#include <type_traits>

#include "vector.h"

namespace aligndraw::cpu {
namespace {

template <class T>
constexpr int lanes = ALIGNDRAW_VECTOR_BYTES / sizeof(T);
template <class T>
using Simd = Vector<T, lanes<T>>;

// The first `count` lanes of a vector, fewer than all: the others are 0 when loaded, and are not
// stored. Memory behind them is not touched.
template <class T>
class PartialVector {
 public:
  ALIGNDRAW_KERNEL_INLINE explicit PartialVector(int64_t count) : count_(count) {}
  ALIGNDRAW_KERNEL_INLINE void load(Simd<T>& vector, const T* from) const {
    vector = Simd<T>{};
    for (int64_t i = 0; i < count_; ++i) vector[i] = from[i];
  }
  ALIGNDRAW_KERNEL_INLINE void store(T* to, const Simd<T>& vector) const {
    for (int64_t i = 0; i < count_; ++i) to[i] = vector[i];
  }

 private:
  int64_t count_;
};

// ---- sums over lanes ----

template <class T>
constexpr int block_lanes = 16 / sizeof(T);  // of 16 bytes, within which shuffles are quick

// Lanes of two vectors whose blocks hold the partial sums of `group` numbers, again and again: the
// first or second half of the copies of each.
template <class T, int group, bool second>
struct OfBlocks {
  static constexpr int of(int n) {
    constexpr int size = block_lanes<T>;
    const int in_block = n % size, copy = in_block / (2 * group), number = in_block % (2 * group);
    return number / group * lanes<T> + n - in_block + copy * group + number % group +
           (second ? size / 2 : 0);
  }
};

// The same of two vectors with `copies` whole blocks for each group of numbers.
template <class T, int copies, bool second>
struct AcrossBlocks {
  static constexpr int of(int n) {
    constexpr int size = block_lanes<T>, blocks = lanes<T> / size, half = copies / 2;
    const int block = n / size, within = block % (blocks / 2);
    const int from = within / half * copies + within % half + (second ? half : 0);
    return block / (blocks / 2) * lanes<T> + from * size + n % size;
  }
};

// Lane i is lane Lanes::of(i) of a and b, one after the other.
template <class T, class Lanes, std::size_t... i>
ALIGNDRAW_KERNEL_INLINE void pick(Simd<T>& result, const Simd<T>& a, const Simd<T>& b,
                                  std::index_sequence<i...>) {
#ifdef __clang__
  result = __builtin_shufflevector(a, b, Lanes::of(int(i))...);
#else
  using Index = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;
  result = __builtin_shuffle(a, b, Vector<Index, lanes<T>>{Index(Lanes::of(int(i)))...});
#endif
}

// sums[i] = the sum of the halves of sums[2 i] and sums[2 i + 1], for `count` vectors.
template <class T, class First, class Second, int count>
ALIGNDRAW_KERNEL_INLINE void add_halves(Simd<T>* sums) {
  constexpr std::make_index_sequence<lanes<T>> all;
#pragma GCC unroll 8
  for (int i = 0; i < count / 2; ++i) {
    Simd<T> first, second;
    pick<T, First>(first, sums[2 * i], sums[2 * i + 1], all);
    pick<T, Second>(second, sums[2 * i], sums[2 * i + 1], all);
    sums[i] = first + second;
  }
}

// Lane i of sums[0] becomes the sum of the lanes of sums[i]; the other vectors are used up.
template <class T>
ALIGNDRAW_KERNEL_INLINE void sum_lanes(Simd<T>* sums) {
  constexpr int n = lanes<T>, in_block = block_lanes<T>, blocks = n / in_block;
  add_halves<T, OfBlocks<T, 1, false>, OfBlocks<T, 1, true>, n>(sums);
  if constexpr (in_block == 4)
    add_halves<T, OfBlocks<T, 2, false>, OfBlocks<T, 2, true>, n / 2>(sums);
  if constexpr (blocks >= 4)
    add_halves<T, AcrossBlocks<T, 4, false>, AcrossBlocks<T, 4, true>, 4>(sums);
  if constexpr (blocks >= 2)
    add_halves<T, AcrossBlocks<T, 2, false>, AcrossBlocks<T, 2, true>, 2>(sums);
}

}  // namespace
}  // namespace aligndraw::cpu
