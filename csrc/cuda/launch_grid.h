// The grid of a launch that takes all steps of a loop: no CUDA, no torch.
#pragma once
#include <cstdint>

namespace aligndraw::cuda {

// The grid, or the reason why the weights do not fit the current device. `parts` blocks hold the
// weights once in their shared memory. The grid has `groups` of `parts` blocks, and each group has
// captions of its own.
struct LaunchGrid {
  int parts = 0, groups = 0;
  int64_t shared = 0;  // bytes per block
  const char* reason = nullptr;
};

}  // namespace aligndraw::cuda
