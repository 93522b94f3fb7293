// All steps of sampling in clusters.
#include "cluster.h"
#include "cluster_loops.h"
#include "lstm_unit.h"
#include "prior_stage.h"

namespace aligndraw::cuda {
namespace {

using namespace cluster;
static_assert(cluster::threads == stages::threads, "products and captions share a launch");

// The columns of the states: h_dec of even and of odd steps, and the latent.
struct PriorColumns {
  int n, z;
  int64_t count;

  ALIGNDRAW_INLINE explicit PriorColumns(const UnrollSizes& s)
      : n(int(whole_chunks(s.decoder))), z(2 * n), count(z + whole_chunks(s.latents)) {}
  ALIGNDRAW_INLINE int h(int64_t t) const { return int(t % 2) * n; }
};

// A step is three stages: head products; latent and attention, a block per caption; h_dec.
template <class T>
__global__ void __launch_bounds__(cluster::threads, 1) sample(ClusterPrior<T> loop) {
  if constexpr (cluster::exist) {
    const auto group = this_cluster();
    const UnrollSizes& s = loop.stage.loop.in.sizes;
    const int n = int(s.decoder), latents = int(s.latents);
    const Share share(group, s.batch);
    const int first = share.captions.first;
    const PriorColumns columns(s);
    SharedArrays shared;
    T* const partials = shared.allocate<T>(partial_numbers);
    const States<T> states(shared, columns.count);
    __syncthreads();
    states.fill(columns.h(0), loop.stage.loop.in.decoder_h0, n);

#pragma unroll 1
    for (int t = 0, product = loop.heads;; product = loop.decoder - product) {
      const SharedOperand<T> operand(states, {columns.h(t), n},
                                     {columns.z, product == loop.decoder ? latents : 0});
      multiply(loop.weights[product], share, operand, partials,
               [&](int unit, int caption, T(&sums)[4]) {
                 const int b = first + caption;
                 if (product == loop.heads) {
                   loop.head_products.data[b * loop.head_products.row_stride + unit] = sums[0];
                   return;
                 }
                 lstm_unit(loop.decode, n, b, unit, sums);
                 states.put(group, caption, columns.h(t + 1) + unit,
                            loop.decode.h.data[int64_t(b) * n + unit]);
               });
      group.sync();
      if (product == loop.decoder) {
        ++t;
        continue;
      }
#pragma unroll 1
      for (int c = share.rank; c < share.captions.count; c += share.size) {
        stages::prior_attend(loop.stage, t, first + c);
        if (t < s.steps)  // each thread has the components that it made
          for (int j = threadIdx.x; j < latents; j += threads)
            states.put(group, c, columns.z + j, loop.stage.z[(first + c) * s.latents + j]);
      }
      if (t == s.steps) return;
      group.sync();
    }
  }
}

}  // namespace

template <class T>
LaunchGrid cluster_prior_grid(const UnrollSizes& s) {
  return grid_of(
      sample<T>, s.batch,
      int64_t(shared_bytes<T>(partial_numbers) + States<T>::bytes(PriorColumns(s).count)));
}

template <class T>
const char* launch_clusters(const ClusterPrior<T>& loop, const LaunchGrid& grid,
                            CUstream_st* stream) {
  if (loop.stage.loop.in.sizes.batch == 0) return nullptr;
  return cluster::launch(sample<T>, grid, stream, loop);
}

template LaunchGrid cluster_prior_grid<float>(const UnrollSizes&);
template LaunchGrid cluster_prior_grid<double>(const UnrollSizes&);
template const char* launch_clusters(const ClusterPrior<float>&, const LaunchGrid&, CUstream_st*);
template const char* launch_clusters(const ClusterPrior<double>&, const LaunchGrid&, CUstream_st*);

}  // namespace aligndraw::cuda
