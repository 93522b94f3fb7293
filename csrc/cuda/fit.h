// Whether all steps of a loop can be one launch: no CUDA, no torch.
#pragma once
#include <cstdint>

namespace aligndraw::cuda {

// The grid of such a launch, or why it has no room on the current device. `parts` blocks hold the
// weights once in their shared memory; there are `groups` of so many, each with captions of its
// own.
struct Fit {
  int parts = 0, groups = 0;
  int64_t shared = 0;  // bytes a block
  const char* reason = nullptr;
};

}  // namespace aligndraw::cuda
