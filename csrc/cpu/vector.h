// Vectors of a fixed number of elements, for loops that g++ does not vectorise by itself; each
// processor splits them into as many registers as it needs.
#pragma once
#include <cstring>

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

}  // namespace aligndraw::cpu
