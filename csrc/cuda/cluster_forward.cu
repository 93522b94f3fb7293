// All steps of a forward in clusters: the stages of unroll_stages.h and the products between them.
#include "cluster.h"
#include "cluster_loops.h"
#include "lstm_unit.h"
#include "unroll_stages.h"

namespace aligndraw::cuda {
namespace {

using namespace cluster;
static_assert(cluster::threads == stages::threads, "products and stages share a launch");

// The columns of the states: the glimpse, the states of even and of odd steps, and the latent.
struct ForwardColumns {
  int glimpse, e, n, z;
  int64_t count;

  ALIGNDRAW_INLINE explicit ForwardColumns(const UnrollSizes& s)
      : glimpse(int(padded(s.glimpse()))),
        e(int(padded(s.encoder))),
        n(int(padded(s.decoder))),
        z(glimpse + 2 * e + 2 * n),
        count(z + padded(s.latents)) {}
  ALIGNDRAW_INLINE int h_enc(int t) const { return glimpse + t % 2 * e; }
  ALIGNDRAW_INLINE int h_dec(int t) const { return glimpse + 2 * e + t % 2 * n; }
};

// A step is five stages: head products; read-and-attend; h_enc; the latent; h_dec. W is the type of
// the weights that may be rounded.
template <class T, class W>
__global__ void __launch_bounds__(cluster::threads, 1) forward(ClusterForward<T> clusters) {
  if constexpr (cluster::exist) {
    const auto group = this_cluster();
    const Forward<T>& loop = clusters.loop;
    const UnrollSizes& s = loop.in.sizes;
    const int n = int(s.decoder), e = int(s.encoder), latents = int(s.latents);
    const int glimpse = int(s.glimpse());
    const Share share(group, s.batch);
    const int first = share.captions.first;
    const ForwardColumns columns(s);
    SharedArrays shared;
    T* const partials = shared.allocate<T>(partial_numbers);
    ReadAttend<T>* const read_attend = shared.allocate<ReadAttend<T>>(1);  // registers are few
    const States<T> states(shared, columns.count);
    __syncthreads();
    states.fill(columns.h_enc(0), loop.in.encoder_h0, e);
    states.fill(columns.h_dec(0), loop.in.decoder_h0, n);

    const auto keep_products = [&](int column) {
      return [&, column](int row, int caption, const T(&sum)[1]) {
        loop.head_products.data[(first + caption) * loop.head_products.row_stride + column + row] =
            sum[0];
      };
    };
    for (int t = 0;; ++t) {
      if (threadIdx.x == 0 && t < s.steps) *read_attend = loop.read_attend(t);
      const SharedOperand<T> h_dec(states, {columns.h_dec(t), n});
      multiply<W, 1>(clusters.query, share, h_dec, partials, keep_products(0));
      multiply<T, 1>(clusters.others, share, h_dec, partials, keep_products(int(s.units)));
      if (t == s.steps) return;
      group.sync();

      // The block that reads a channel of a glimpse hands it to the cluster.
      share.over_items(s.batch, 2 * s.channels, [&](int64_t i) {
        stages::read_attend(shared, *read_attend, s, int(i));
        if (i < s.batch) return;
        __syncthreads();
        const int channel = int(i - s.batch), b = channel / int(2 * s.channels);
        const int size = int(s.read_size * s.read_size), at = channel % int(2 * s.channels) * size;
        const T* const made = read_attend->encoder_in + b * s.encoder_in() + at;
        for (int j = threadIdx.x; j < size; j += threads)
          states.put(group, b - first, at + j, made[j]);
      });
      group.sync();

      const LstmStep<T> encode = loop.encode(t);
      multiply<W, 4>(
          clusters.encoder, share,
          SharedOperand<T>(states, {0, glimpse}, {columns.h_enc(t), e}, {columns.h_dec(t), n}),
          partials, [&](int unit, int caption, T(&gates)[4]) {
            lstm_unit(encode, e, first + caption, unit, gates);
            states.put(group, caption, columns.h_enc(t + 1) + unit,
                       encode.h[int64_t(first + caption) * e + unit]);
          });
      group.sync();

      const Infer<T> infer = loop.infer(t, {});
      multiply<T, 2>(clusters.posterior, share, SharedOperand<T>(states, {columns.h_enc(t + 1), e}),
                     partials, [&](int j, int caption, const T(&q)[2]) {
                       const int b = first + caption;
                       stages::infer(infer, latents, b, j, q[0], q[1]);
                       states.put(group, caption, columns.z + j,
                                  infer.z.data[b * infer.z.row_stride + j]);
                     });
      group.sync();

      const LstmStep<T> decode = loop.decode(t);
      multiply<W, 4>(clusters.decoder, share,
                     SharedOperand<T>(states, {columns.h_dec(t), n}, {columns.z, latents}),
                     partials, [&](int unit, int caption, T(&gates)[4]) {
                       lstm_unit(decode, n, first + caption, unit, gates);
                       states.put(group, caption, columns.h_dec(t + 1) + unit,
                                  decode.h[int64_t(first + caption) * n + unit]);
                     });
      group.sync();
    }
  }
}

}  // namespace

template <class T>
LaunchGrid cluster_forward_grid(const UnrollSizes& s, bool rounds) {
  const size_t shared = shared_bytes<T>(partial_numbers) + shared_bytes<ReadAttend<T>>(1) +
                        States<T>::bytes(ForwardColumns(s).count) + stages::read_attend_bytes<T>();
  return persistent::with_weight_type<T>(
      rounds, [&]<class W>() { return grid_of(forward<T, W>, s.batch, int64_t(shared)); });
}

template <class T>
const char* launch_clusters(const ClusterForward<T>& loop, bool rounds, const LaunchGrid& grid,
                            CUstream_st* stream) {
  if (loop.loop.in.sizes.batch == 0) return nullptr;
  return persistent::with_weight_type<T>(
      rounds, [&]<class W>() { return cluster::launch(forward<T, W>, grid, stream, loop); });
}

#define FOR(T)                                                                            \
  template LaunchGrid cluster_forward_grid<T>(const UnrollSizes&, bool);                  \
  template const char* launch_clusters(const ClusterForward<T>&, bool, const LaunchGrid&, \
                                       CUstream_st*);
FOR(float)
FOR(double)
#undef FOR

}  // namespace aligndraw::cuda
