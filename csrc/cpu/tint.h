// The tints of a patch, one row of the batch at a time.
#pragma once
#include "../unroll_sizes.h"
#include "cpu.h"

namespace aligndraw::cpu {

// A patch [channels, area] of `count` tints: head outputs [channels * area], then for each tint a
// mask [area] and a colour [channels].
struct Tints {
  explicit Tints(const UnrollSizes& s)
      : channels(s.channels), area(s.write_size * s.write_size), count(s.tints) {}

  const int64_t channels, area, count;

  // The first number of a tint, behind the head's own part of the patch.
  int64_t at(int64_t k) const { return channels * area + k * (area + channels); }
};

// patch = the head's own part + the sum of each mask times its colour
ALIGNDRAW_HAS_CLONES void tint_row(const Tints& tints, const float* outputs, float* patch);
void tint_row(const Tints& tints, const double* outputs, double* patch);

// The gradients of the masks and the colours, given those of the patch, which are the first of
// `grads` already.
ALIGNDRAW_HAS_CLONES void tint_backward_row(const Tints& tints, const float* outputs, float* grads);
void tint_backward_row(const Tints& tints, const double* outputs, double* grads);

}  // namespace aligndraw::cpu
