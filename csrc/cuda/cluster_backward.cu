// All steps of a backward in clusters: the stages of unroll_stages.h and the products between them.
// The gradients that products multiply are read from global memory: those of one state, 3,286
// numbers per caption of MNIST, do not fit a block's shared memory.
#include "cluster.h"
#include "cluster_loops.h"
#include "lstm_unit.h"
#include "unroll_stages.h"

namespace aligndraw::cuda {
namespace {

using namespace cluster;
static_assert(cluster::threads == stages::threads, "products and stages share a launch");

// A step is six stages: back through the read of the next step; the write; h_dec; latent and
// attention; h_enc; and to the glimpse.
template <class T>
__global__ void __launch_bounds__(cluster::threads, 1) backward(ClusterBackward<T> clusters) {
  if constexpr (cluster::exist) {
    using Loop = ClusterBackward<T>;
    const auto group = this_cluster();
    const Backward<T>& loop = clusters.loop;
    const UnrollSizes& s = loop.in.sizes;
    const int n = int(s.decoder), e = int(s.encoder), latents = int(s.latents);
    const int glimpse_size = int(s.glimpse()), steps = int(s.steps);
    const int64_t tiles = glimpse::tiles(glimpse_sizes(s, s.read_size)) / s.batch;
    const Share share(group, s.batch);
    const int first = share.captions.first;
    SharedArrays shared;
    T* const partials = shared.allocate<T>(partial_numbers);

    // With t = -1 it brings the gradients back to the first states alone.
#pragma unroll 1
    for (int t = steps - 1; t >= -1; --t) {
      if (t + 1 < steps) {
        const ReadBackward<T> read = loop.read(t + 1);
        share.over_items(s.batch, tiles, [&](int i) { stages::read_backward(shared, read, s, i); });
        group.sync();
      }
      if (t >= 0) {
        const WriteBackward<T> write = loop.write(t);
        share.over_items(s.batch, 0, [&](int b) { stages::write_backward(shared, write, s, b); });
        group.sync();
      }
      const int now = t < 0 ? 0 : t;  // the first states have no step before them
      const AttentionBackward<T> attention = loop.attention(now, {});
#pragma unroll 1
      for (int product = Loop::decoder; product < Loop::products; ++product) {
        if (t < 0 && (product == Loop::latent || product == Loop::glimpse)) continue;
        // Gradients of the step after for both states, gates of this step for what they read.
        const int step = t + (product == Loop::decoder || product == Loop::encoder);
        const OperandRows<T> rows =
            product < Loop::encoder ? loop.decoder(step) : loop.encoder(step);
        const int columns = product == Loop::decoder   ? int(loop.decoder_columns())
                            : product == Loop::encoder ? int(loop.encoder_columns())
                            : product == Loop::latent  ? 4 * n
                                                       : 4 * e;
        const LstmStepBackward<T> lstm =
            product == Loop::decoder ? loop.decode(now) : loop.encode(now);
        T* const first_state = product == Loop::decoder ? loop.h_dec : loop.h_enc;
        const int units = product == Loop::decoder ? n : e;
        multiply(clusters.weights[product], share,
                 GlobalOperand<T>{rows.unrounded(), share.captions, columns}, partials,
                 [&](int unit, int caption, const T(&grad)[4]) {
                   const int b = first + caption;
                   if (product == Loop::latent)
                     stages::latent_backward(attention, latents, int(s.prior_at()), b, unit,
                                             grad[0]);
                   else if (product == Loop::glimpse)
                     loop.glimpse[int64_t(b) * glimpse_size + unit] = grad[0];
                   else if (t < 0)
                     first_state[int64_t(b) * units + unit] = grad[0];
                   else
                     lstm_unit_backward(lstm, units, b, unit, grad[0]);
                 });
        if (product == Loop::latent && loop.in.keys)
          share.over_items(s.batch, 0, [&](int b) { stages::caption_backward(attention, s, b); });
        if (t >= 0) group.sync();
      }
    }
  }
}

}  // namespace

template <class T>
LaunchGrid cluster_backward_grid(const UnrollSizes& s) {
  return grid_of(backward<T>, s.batch,
                 int64_t(shared_bytes<T>(partial_numbers) + glimpse::window_grads_bytes<T>()));
}

template <class T>
const char* launch_clusters(const ClusterBackward<T>& loop, const LaunchGrid& grid,
                            CUstream_st* stream) {
  if (loop.loop.in.sizes.batch == 0) return nullptr;
  return cluster::launch(backward<T>, grid, stream, loop);
}

#define FOR(T)                                                      \
  template LaunchGrid cluster_backward_grid<T>(const UnrollSizes&); \
  template const char* launch_clusters(const ClusterBackward<T>&, const LaunchGrid&, CUstream_st*);
FOR(float)
FOR(double)
#undef FOR

}  // namespace aligndraw::cuda
