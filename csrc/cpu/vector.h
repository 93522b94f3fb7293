// Vectors of a fixed number of elements, for loops that g++ does not vectorise by itself; each
// processor splits them into as many registers as it needs.
#pragma once
#include <cstdint>
#include <cstring>
#include <utility>

#include "../math/scalar.h"

namespace aligndraw::cpu {

template <class T, int lanes>
struct VectorOf {
  typedef T type __attribute__((vector_size(lanes * sizeof(T))));
};

template <class T, int lanes>
using Vector = typename VectorOf<T, lanes>::type;

// From and to any address. (A vector as a result would depend on the processor's calling
// convention.)
template <class V, class T>
ALIGNDRAW_INLINE void load(V& vector, const T* from) {
  std::memcpy(&vector, from, sizeof vector);
}

template <class V, class T>
ALIGNDRAW_INLINE void store(T* to, const V& vector) {
  std::memcpy(to, &vector, sizeof vector);
}

// result[i] = element Lane::of(i) of a and b, one after the other; elements have 32 bits.
template <class Lane, class V, std::size_t... i>
ALIGNDRAW_INLINE void shuffle(V& result, const V& a, const V& b, std::index_sequence<i...>) {
#ifdef __clang__
  result = __builtin_shufflevector(a, b, Lane::of(int(i))...);
#else
  result = __builtin_shuffle(a, b, Vector<uint32_t, sizeof...(i)>{uint32_t(Lane::of(int(i)))...});
#endif
}
template <class Lane, class V>
ALIGNDRAW_INLINE void shuffle(V& result, const V& a, const V& b) {
  shuffle<Lane>(result, a, b, std::make_index_sequence<sizeof(V) / sizeof(uint32_t)>());
}

}  // namespace aligndraw::cpu
