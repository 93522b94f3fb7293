// Sampling on raw memory of float or double: the stages between the matrix products of a step, and
// all steps in one launch. ../unroll_fields.h has the shapes and ../unroll_prior.h the contract.
// Both forms end with launch_writes. Functions that launch return nullptr, or CUDA's error message.
#pragma once
#include "../unroll_pointers.h"
#include "launch_grid.h"
#include "loop.h"

namespace aligndraw::cuda {

// A whole loop. Of the heads the last, the read window, is left out.
template <class T>
struct PriorLoop {
  UnrollPriorPointers<T> in;
  UnrollPriorOutputs<T> out;
  const T* word_gates;  // [B, N, 4n]: what each word adds to the decoder's gates
};

// The first stage of step t: it keeps patch and window of the step before, draws the latent, and
// attends to the caption. After the last step, with t = T, it only keeps patch and window.
template <class T>
struct PriorAttend {
  PriorLoop<T> loop;
  Rows<const T> head_products;  // [B, R - 5]: heads times h_dec
  T* z;                         // [B, z]
  T* context_gates;             // [B, 4n]
  int64_t t;
};
template <class T>
const char* launch_stage(const PriorAttend<T>& stage, CUstream_st* stream);

// All steps in one launch, whose blocks keep the weights in shared memory from the first step to
// the last and wait for each other twice per step.
template <class T>
struct PersistentPrior {
  PriorLoop<T> loop;
  T* h;         // [2, B, n]
  T* c;         // [B, n]
  T* z;         // [B, z]
  T* energies;  // [B, N, parts]
};
template <class T>
LaunchGrid persistent_grid(const UnrollSizes& sizes);
template <class T>
const char* launch_persistent(const PersistentPrior<T>& loop, const LaunchGrid& grid,
                              CUstream_st* stream);

// Writes all patches on c_0. No step reads the canvas, so one launch writes them all.
template <class T>
const char* launch_writes(const PriorLoop<T>& loop, CUstream_st* stream);

}  // namespace aligndraw::cuda
