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
      : glimpse(int(whole_chunks(s.glimpse()))),
        e(int(whole_chunks(s.encoder))),
        n(int(whole_chunks(s.decoder))),
        z(glimpse + 2 * e + 2 * n),
        count(z + whole_chunks(s.latents)) {}
  ALIGNDRAW_INLINE int h_enc(int t) const { return glimpse + t % 2 * e; }
  ALIGNDRAW_INLINE int h_dec(int t) const { return glimpse + 2 * e + t % 2 * n; }
};

// A step is five stages: head products; read-and-attend; h_enc; the latent; h_dec.
template <class T>
__global__ void __launch_bounds__(cluster::threads, 1) forward(ClusterForward<T> clusters) {
  if constexpr (cluster::exist) {
    using Loop = ClusterForward<T>;
    const auto group = this_cluster();
    const Forward<T>& loop = clusters.loop;
    const UnrollSizes& s = loop.in.sizes;
    const int n = int(s.decoder), e = int(s.encoder), latents = int(s.latents);
    const int glimpse = int(s.glimpse()), steps = int(s.steps);
    const Share share(group, s.batch);
    const int first = share.captions.first;
    const ForwardColumns columns(s);
    SharedArrays shared;
    T* const partials = shared.allocate<T>(partial_numbers);
    const States<T> states(shared, columns.count);
    __syncthreads();
    states.fill(columns.h_enc(0), loop.in.encoder_h0, e);
    states.fill(columns.h_dec(0), loop.in.decoder_h0, n);

#pragma unroll 1
    for (int t = 0, product = Loop::query;; ++product) {
      if (product == Loop::products) product = Loop::query, ++t;
      if (product == Loop::encoder) {
        // The block that reads a channel of a glimpse hands it to the cluster.
        const ReadAttend<T> read_attend = loop.read_attend(t);
        share.over_items(s.batch, 2 * s.channels, [&](int i) {
          stages::read_attend(shared, read_attend, s, i);
          if (i < s.batch) return;
          __syncthreads();
          const int channel = i - int(s.batch), b = channel / int(2 * s.channels);
          const int size = int(s.read_size * s.read_size);
          const int at = channel % int(2 * s.channels) * size;
          const T* const made = read_attend.encoder_in.data + b * s.encoder_in() + at;
#pragma unroll 1
          for (int j = threadIdx.x; j < size; j += threads)
            states.put(group, b - first, at + j, made[j]);
        });
        group.sync();
      }

      const Segment h_dec{columns.h_dec(t), n};
      const SharedOperand<T> operand =
          product == Loop::encoder
              ? SharedOperand<T>(states, {0, glimpse}, {columns.h_enc(t), e}, h_dec)
          : product == Loop::posterior ? SharedOperand<T>(states, {columns.h_enc(t + 1), e})
                                       : SharedOperand<T>(states, h_dec, {columns.z, latents});
      const int step = t < steps ? t : t - 1;  // the last states have no step after them
      const LstmStep<T> lstm = product == Loop::encoder ? loop.encode(step) : loop.decode(step);
      const Infer<T> infer = loop.infer(step, {});
      multiply(
          clusters.weights[product], share, operand, partials,
          [&](int unit, int caption, T(&sums)[4]) {
            const int b = first + caption;
            if (product < Loop::encoder) {
              const int column = product == Loop::others ? int(s.units) : 0;
              loop.head_products.data[b * loop.head_products.row_stride + column + unit] = sums[0];
            } else if (product == Loop::posterior) {
              stages::infer(infer, latents, b, unit, sums[0], sums[1]);
              states.put(group, caption, columns.z + unit,
                         infer.z.data[b * infer.z.row_stride + unit]);
            } else {
              const int units = product == Loop::encoder ? e : n;
              lstm_unit(lstm, units, b, unit, sums);
              states.put(
                  group, caption,
                  unit + (product == Loop::encoder ? columns.h_enc(t + 1) : columns.h_dec(t + 1)),
                  lstm.h.data[b * lstm.h.row_stride + unit]);
            }
          });
      if (product == Loop::others && t == steps) return;
      if (product != Loop::query) group.sync();
    }
  }
}

}  // namespace

template <class T>
LaunchGrid cluster_forward_grid(const UnrollSizes& s) {
  const size_t shared = shared_bytes<T>(partial_numbers) +
                        States<T>::bytes(ForwardColumns(s).count) + stages::read_attend_bytes<T>();
  return grid_of(forward<T>, s.batch, int64_t(shared));
}

template <class T>
const char* launch_clusters(const ClusterForward<T>& loop, const LaunchGrid& grid,
                            CUstream_st* stream) {
  if (loop.loop.in.sizes.batch == 0) return nullptr;
  return cluster::launch(forward<T>, grid, stream, loop);
}

#define FOR(T)                                                     \
  template LaunchGrid cluster_forward_grid<T>(const UnrollSizes&); \
  template const char* launch_clusters(const ClusterForward<T>&, const LaunchGrid&, CUstream_st*);
FOR(float)
FOR(double)
#undef FOR

}  // namespace aligndraw::cuda
