// Sampling between the products of matrices, and the whole of it in one launch, on raw memory of
// float or double: see ../unroll_prior.h for the contract. Both forms end with launch_writes.
// Functions that launch return nullptr, or what CUDA says went wrong.
#pragma once
#include "../unroll_sizes.h"
#include "fit.h"
#include "loop.h"

namespace aligndraw::cuda {

// The arguments and results of the loop, and `pushes`, what each word adds to the decoder's gates
// [B, N, 4n]. Of the heads those of the read window, the last, are left out.
template <class T>
struct Prior {
  const T *keys, *score, *pushes;  // keys and score are null without attention
  const int64_t* lengths;
  const T *noise, *heads_bias, *decoder_bias;
  T *patches, *windows, *weights;
};

// The beginning of step t: what h_dec says goes to the results, or to the latent, and the caption
// is read. After the last step, with t = T, only the results.
template <class T>
struct Think {
  Prior<T> prior;
  Rows<const T> spoken;  // the heads' products with h_dec
  T *z, *push;           // [B, z], [B, 4n]
  int64_t t;
};
template <class T>
const char* launch_think(const Think<T>& step, const UnrollSizes& sizes, CUstream_st* stream);

// All steps in one launch, whose blocks keep the weights in shared memory from the first step to
// the last and wait for each other twice a step. `heads` and `decoder_hh` are matrices of n
// columns, and decoder_ih has z + d.
template <class T>
struct Persistent {
  Prior<T> prior;
  const T *heads, *decoder_ih, *decoder_hh, *decoder_h0;
  T *h, *c, *z, *energies;  // [2, B, n], [B, n], [B, z], [B, N, parts]
};
template <class T>
Fit persistent_fit(const UnrollSizes& sizes);
template <class T>
const char* launch_persistent(const Persistent<T>& loop, const UnrollSizes& sizes, const Fit& fit,
                              CUstream_st* stream);

// canvas = first + all writes; no step looks at it, so all are drawn at once.
template <class T>
const char* launch_writes(const T* first, const T* patches, const T* windows, T* canvas,
                          const UnrollSizes& sizes, CUstream_st* stream);

}  // namespace aligndraw::cuda
