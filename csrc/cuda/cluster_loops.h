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
  PriorAttend<T> stage;  // of any step
  LstmStep<T> decode;    // h and c are workspace
  Rows<T> head_products;
  enum { heads, decoder, products };
  cluster::PackedWeights weights[products];  // [R - 5, n]; [4n, n | z]
};
template <class T>
LaunchGrid cluster_prior_grid(const UnrollSizes& sizes);
template <class T>
const char* launch_clusters(const ClusterPrior<T>& loop, const LaunchGrid& grid,
                            CUstream_st* stream);

// All steps, without the stage after the last one.
template <class T>
struct ClusterForward {
  Forward<T> loop;
  enum { query, others, encoder, posterior, decoder, products };
  cluster::PackedWeights
      weights[products];  // [l, n]; [R - l, n]; [4e, G | e | n]; [2z, e]; [4n, n | z]
};
template <class T>
LaunchGrid cluster_forward_grid(const UnrollSizes& sizes);
template <class T>
const char* launch_clusters(const ClusterForward<T>& loop, const LaunchGrid& grid,
                            CUstream_st* stream);

// The columns are the gradients of all products with a state, without gaps. It also leaves the
// gradients of both first hidden states in h_dec and h_enc.
template <class T>
struct ClusterBackward {
  Backward<T> loop;
  enum { decoder, latent, encoder, glimpse, products };
  cluster::PackedWeights weights[products];  // [n, 4n + 4e + R]; [z, 4n]; [e, 4e + 2z]; [G, 4e]
};
template <class T>
LaunchGrid cluster_backward_grid(const UnrollSizes& sizes);
template <class T>
const char* launch_clusters(const ClusterBackward<T>& loop, const LaunchGrid& grid,
                            CUstream_st* stream);

}  // namespace aligndraw::cuda
