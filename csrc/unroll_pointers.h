// Structs of pointers to the arrays of unroll and unroll_prior, on any device. unroll_fields.h has
// names and shapes. No torch.
#pragma once
#include "unroll_fields.h"

namespace aligndraw {

#define ALIGNDRAW_READ(name, ...) const T* name;
#define ALIGNDRAW_READ_LENGTHS(name, ...) const int64_t* name;
#define ALIGNDRAW_WRITE(name, ...) T* name;

// The arguments. An optional one that is not there is null.
template <class T>
struct UnrollPointers {
  UnrollSizes sizes;
  ALIGNDRAW_UNROLL_INPUTS(ALIGNDRAW_READ, ALIGNDRAW_READ, ALIGNDRAW_READ_LENGTHS)
};

// The results and the tape.
template <class T>
struct UnrollOutputs {
  ALIGNDRAW_UNROLL_RESULTS(ALIGNDRAW_WRITE)
  ALIGNDRAW_UNROLL_TAPE(ALIGNDRAW_WRITE)
};

// What the backward reads of them: the weights of the words, and the tape.
template <class T>
struct UnrollTape {
  const T* weights;
  ALIGNDRAW_UNROLL_TAPE(ALIGNDRAW_READ)
};

// The gradients of the results.
template <class T>
struct UnrollResultGrads {
  ALIGNDRAW_UNROLL_RESULTS(ALIGNDRAW_READ)
};

// The gradients of the arguments. One that is not wanted is null.
template <class T>
struct UnrollGrads {
  ALIGNDRAW_UNROLL_GRADS(ALIGNDRAW_WRITE, ALIGNDRAW_WRITE)
};

// The arguments and results of unroll_prior.
template <class T>
struct UnrollPriorPointers {
  UnrollSizes sizes;
  ALIGNDRAW_UNROLL_PRIOR_INPUTS(ALIGNDRAW_READ, ALIGNDRAW_READ, ALIGNDRAW_READ_LENGTHS)
};
template <class T>
struct UnrollPriorOutputs {
  ALIGNDRAW_UNROLL_PRIOR_RESULTS(ALIGNDRAW_WRITE)
};

#undef ALIGNDRAW_READ
#undef ALIGNDRAW_READ_LENGTHS
#undef ALIGNDRAW_WRITE

}  // namespace aligndraw
