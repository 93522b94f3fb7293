// The loops of unroll and unroll_prior in clusters of blocks, on raw memory of float or double: one
// launch each way. A cluster has captions of its own from the first step to the last; see
// csrc/README.md. Functions that launch return nullptr, or CUDA's error message.
#pragma once
#include "cluster_weights.h"
#include "launch_grid.h"
#include "unroll.h"
#include "unroll_prior.h"

namespace aligndraw::cuda {

// The columns of weights are those of the states, segment by segment in whole chunks.
template <class T>
struct ClusterPrior {
  PriorAttend<T> stage;  // its t counts the steps
  LstmStep<T> decode;    // h and c are workspace
  Rows<T> head_products;
  cluster::PackedWeights heads;    // [R - 5, n]
  cluster::PackedWeights decoder;  // [4n, n | z]
};
template <class T>
LaunchGrid cluster_prior_grid(const UnrollSizes& sizes);
template <class T>
const char* launch_clusters(const ClusterPrior<T>& loop, const LaunchGrid& grid,
                            CUstream_st* stream);

// All steps, without the stage after the last one. With `rounds`, query, encoder and decoder are of
// bfloat16, and so are the states that they are multiplied with.
template <class T>
struct ClusterForward {
  Forward<T> loop;
  cluster::PackedWeights query;      // [l, n]
  cluster::PackedWeights others;     // [R - l, n]
  cluster::PackedWeights encoder;    // [4e, G | e | n]
  cluster::PackedWeights posterior;  // [2z, e]
  cluster::PackedWeights decoder;    // [4n, n | z]
};
template <class T>
LaunchGrid cluster_forward_grid(const UnrollSizes& sizes, bool rounds);
template <class T>
const char* launch_clusters(const ClusterForward<T>& loop, bool rounds, const LaunchGrid& grid,
                            CUstream_st* stream);

// The columns are the gradients of all products with a state, without gaps. It also leaves the
// gradients of both first hidden states in h_dec and h_enc.
template <class T>
struct ClusterBackward {
  Backward<T> loop;
  cluster::PackedWeights of_decoder;  // [n, R + 4e + 4n]
  cluster::PackedWeights of_latent;   // [z, 4n]
  cluster::PackedWeights of_encoder;  // [e, 2z + 4e]
  cluster::PackedWeights of_glimpse;  // [G, 4e]
};
template <class T>
LaunchGrid cluster_backward_grid(const UnrollSizes& sizes, bool rounds);
template <class T>
const char* launch_clusters(const ClusterBackward<T>& loop, bool rounds, const LaunchGrid& grid,
                            CUstream_st* stream);

}  // namespace aligndraw::cuda
