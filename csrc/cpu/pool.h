// Large arrays that come and go with every call of an op. They are kept for the next call: Linux
// clears each page that a process gets anew, which takes about as long as a loop's own use of it.
#pragma once
#include <cstddef>

#include "../check.h"

namespace aligndraw::cpu {

// The bytes of so many elements; fails where no memory holds them.
size_t bytes_of(int64_t count, size_t element);
// Uninitialised memory from the start of a cache line, of `bytes` or a little more. Fails where
// there is none.
void* take(size_t bytes);
// Gives back what `take` gave for as many bytes. At most 1 GiB is kept.
void give(void* data, size_t bytes);

// Uninitialised tensors of float64 or else float32, whose memory goes back when the last view goes.
Tensor pooled(Sizes shape, ScalarType type);
inline Tensor pooled_like(const Tensor& tensor) {
  return pooled(tensor.sizes(), tensor.scalar_type());
}

}  // namespace aligndraw::cpu
