// The pool of large arrays. Memory that an op releases is kept for its next call: Linux clears each
// new page of a process, which takes about as long as a loop's own use of the page.
#pragma once
#include <cstddef>

#include "../check.h"

namespace aligndraw::cpu {

// The bytes of `count` elements. Fails where no memory holds them.
size_t bytes_of(int64_t count, size_t element);
// Allocates at least `bytes` of uninitialised memory, from the start of a cache line. Fails where
// there is no memory.
void* allocate(size_t bytes);
// Releases memory of allocate(bytes). The pool keeps at most 1 GiB.
void release(void* data, size_t bytes);

// An uninitialised tensor of float64 or float32. Its memory returns to the pool with its last view.
Tensor pooled(Sizes shape, ScalarType type);
inline Tensor pooled_like(const Tensor& tensor) {
  return pooled(tensor.sizes(), tensor.scalar_type());
}

}  // namespace aligndraw::cpu
