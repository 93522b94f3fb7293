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
template <class T, class W>
__global__ void __launch_bounds__(cluster::threads, 1) backward(ClusterBackward<T> clusters) {
  if constexpr (cluster::exist) {
    const auto group = this_cluster();
    const Backward<T>& loop = clusters.loop;
    const UnrollSizes& s = loop.in.sizes;
    const int n = int(s.decoder), e = int(s.encoder), latents = int(s.latents);
    const int glimpse = int(s.glimpse());
    const Share share(group, s.batch);
    const int first = share.captions.first;
    SharedArrays shared;
    T* const partials = shared.allocate<T>(partial_numbers);

    const auto grads = [&](Rows<T> rows, int64_t columns) {
      return GlobalOperand<T>{{rows.data, rows.row_stride}, share.captions, columns};
    };
    for (int t = int(s.steps) - 1;; --t) {
      if (t + 1 < s.steps) {
        const ReadBackward<T> read = loop.read(t + 1);
        share.over_items(s.batch, glimpse::tiles(glimpse_sizes(s, s.read_size)) / s.batch,
                         [&](int64_t i) { stages::read_backward(shared, read, s, int(i)); });
        group.sync();
      }
      if (t < 0) break;
      const WriteBackward<T> write = loop.write(t);
      share.over_items(s.batch, 0,
                       [&](int64_t b) { stages::write_backward(shared, write, s, int(b)); });
      group.sync();

      const LstmStepBackward<T> decode = loop.decode(t);
      multiply<W, 1>(clusters.of_decoder, share, grads(loop.decoder(t + 1), loop.decoder_columns()),
                     partials, [&](int unit, int caption, const T(&grad)[1]) {
                       lstm_unit_backward(decode, n, first + caption, unit, grad[0]);
                     });
      group.sync();

      const AttentionBackward<T> attention = loop.attention(t, {});
      multiply<W, 1>(clusters.of_latent, share, grads(loop.decoder_gates(t), 4 * n), partials,
                     [&](int j, int caption, const T(&grad)[1]) {
                       stages::latent_backward(attention, latents, int(s.prior_at()),
                                               first + caption, j, grad[0]);
                     });
      if (loop.in.keys)
        share.over_items(s.batch, 0,
                         [&](int64_t b) { stages::caption_backward(attention, s, int(b)); });
      group.sync();

      const LstmStepBackward<T> encode = loop.encode(t);
      multiply<W, 1>(clusters.of_encoder, share, grads(loop.encoder(t + 1), loop.encoder_columns()),
                     partials, [&](int unit, int caption, const T(&grad)[1]) {
                       lstm_unit_backward(encode, e, first + caption, unit, grad[0]);
                     });
      group.sync();

      multiply<W, 1>(clusters.of_glimpse, share, grads(loop.encoder_gates(t), 4 * e), partials,
                     [&](int j, int caption, const T(&grad)[1]) {
                       loop.glimpse[int64_t(first + caption) * glimpse + j] = grad[0];
                     });
      group.sync();
    }
    multiply<W, 1>(clusters.of_decoder, share, grads(loop.decoder(0), loop.decoder_columns()),
                   partials, [&](int unit, int caption, const T(&grad)[1]) {
                     loop.h_dec[int64_t(first + caption) * n + unit] = grad[0];
                   });
    multiply<W, 1>(clusters.of_encoder, share, grads(loop.encoder(0), loop.encoder_columns()),
                   partials, [&](int unit, int caption, const T(&grad)[1]) {
                     loop.h_enc[int64_t(first + caption) * e + unit] = grad[0];
                   });
  }
}

}  // namespace

template <class T>
LaunchGrid cluster_backward_grid(const UnrollSizes& s, bool rounds) {
  const size_t shared = shared_bytes<T>(partial_numbers) + glimpse::window_grads_bytes<T>();
  return persistent::with_weight_type<T>(
      rounds, [&]<class W>() { return grid_of(backward<T, W>, s.batch, int64_t(shared)); });
}

template <class T>
const char* launch_clusters(const ClusterBackward<T>& loop, bool rounds, const LaunchGrid& grid,
                            CUstream_st* stream) {
  if (loop.loop.in.sizes.batch == 0) return nullptr;
  return persistent::with_weight_type<T>(
      rounds, [&]<class W>() { return cluster::launch(backward<T, W>, grid, stream, loop); });
}

#define FOR(T)                                                                             \
  template LaunchGrid cluster_backward_grid<T>(const UnrollSizes&, bool);                  \
  template const char* launch_clusters(const ClusterBackward<T>&, bool, const LaunchGrid&, \
                                       CUstream_st*);
FOR(float)
FOR(double)
#undef FOR

}  // namespace aligndraw::cuda
