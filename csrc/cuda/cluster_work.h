// The cluster form of the loops, for their drivers: the weights are packed once per call, then one
// launch takes all steps.
#pragma once
#include "cluster_loops.h"
#include "work.h"

namespace aligndraw::cuda::cluster {

// Packs weights, rounded to bfloat16 where the call rounds and they `may_round`.
template <class T>
PackedWeights pack(Work<T>& work, const WeightLayout<T>& layout, bool may_round) {
  const bool rounds = may_round && work.rounds();
  void* packed = nullptr;
  if (rounds)
    packed = work.allocate_rounded(1, layout.numbers());
  else
    packed = work.allocate(layout.numbers());
  work.check(launch_pack(layout, packed, rounds, work.stream()));
  return {packed, int(layout.units), layout.groups, int(layout.tiles()), int(layout.chunks()),
          rounds};
}

// The weights of the decoder's gates, of h_dec and of the latent.
template <class T, class Inputs>
WeightLayout<T> decoder_layout(const Inputs& in) {
  const UnrollSizes& s = in.sizes;
  return {s.decoder,
          4,
          {{in.decoder_hh, s.decoder, 1, s.decoder, 0},
           {in.decoder_ih, s.decoder_in(), 1, s.latents, whole_chunks(s.decoder)}}};
}

template <class T>
void sample(const PriorLoop<T>& loop, T* z, const LaunchGrid& grid, Work<T>& work) {
  const UnrollPriorPointers<T>& in = loop.in;
  const UnrollSizes& s = in.sizes;
  const int64_t B = s.batch, n = s.decoder, heads = s.read_window_at();  // without the read window
  T* const products = work.allocate(B * heads);
  T* const context_gates = work.allocate(s.attends ? B * 4 * n : 0);
  T* const c = work.allocate(B * n);
  work.zero(c, B * n);
  const ClusterPrior<T> clusters{
      .stage = {.loop = loop,
                .head_products = {products, heads},
                .z = z,
                .context_gates = context_gates,
                .t = 0},
      .decode = {.terms = {{s.attends ? context_gates : loop.word_gates, 4 * n}, {}, {}},
                 .bias = in.decoder_bias,
                 .c = c,
                 .gates = nullptr,
                 .h = {work.allocate(B * n), n},
                 .c_next = c},
      .head_products = {products, heads},
      .weights = {pack<T>(work, {heads, 1, {{in.heads, n, 1, n, 0}}}, false),
                  pack(work, decoder_layout<T>(in), false)}};
  work.check(launch_clusters(clusters, grid, work.stream()));
}

template <class T>
void forward(Forward<T>& loop, const LaunchGrid& grid, Work<T>& work) {
  const UnrollPointers<T>& in = loop.in;
  const UnrollSizes& s = in.sizes;
  const int64_t l = s.units, n = s.decoder, e = s.encoder, G = s.glimpse();
  loop.head_products = {work.allocate(s.batch * s.heads()), s.heads()};
  const ClusterForward<T> clusters{
      .loop = loop,
      .weights = {
          pack<T>(work, {l, 1, {{in.heads, n, 1, n, 0}}}, true),
          pack<T>(work, {s.heads() - l, 1, {{in.heads + l * n, n, 1, n, 0}}}, false),
          pack<T>(work,
                  {e,
                   4,
                   {{in.encoder_ih, s.encoder_in(), 1, G, 0},
                    {in.encoder_hh, e, 1, e, whole_chunks(G)},
                    {in.encoder_ih + G, s.encoder_in(), 1, n, whole_chunks(G) + whole_chunks(e)}}},
                  true),
          pack<T>(work, {s.latents, 2, {{in.posterior, e, 1, e, 0}}}, false),
          pack(work, decoder_layout<T>(in), true)}};
  work.check(launch_clusters(clusters, grid, work.stream()));
}

// Row u of a backward's weights has the weights from unit u to all its outputs.
template <class T>
void backward(const Backward<T>& loop, const LaunchGrid& grid, Work<T>& work) {
  const UnrollPointers<T>& in = loop.in;
  const UnrollSizes& s = in.sizes;
  const int64_t n = s.decoder, e = s.encoder, z = s.latents, G = s.glimpse();
  const ClusterBackward<T> clusters{
      .loop = loop,
      .weights = {pack<T>(work,
                          {n,
                           1,
                           {{in.decoder_hh, 1, n, 4 * n, 0},
                            {in.encoder_ih + G, 1, s.encoder_in(), 4 * e, loop.encoder_at()},
                            {in.heads, 1, n, s.heads(), loop.heads_at()}}},
                          true),
                  pack<T>(work, {z, 1, {{in.decoder_ih, 1, s.decoder_in(), 4 * n, 0}}}, true),
                  pack<T>(work,
                          {e,
                           1,
                           {{in.encoder_hh, 1, e, 4 * e, 0},
                            {in.posterior, 1, e, 2 * z, loop.posterior_at()}}},
                          true),
                  pack<T>(work, {G, 1, {{in.encoder_ih, 1, s.encoder_in(), 4 * e, 0}}}, true)}};
  work.check(launch_clusters(clusters, grid, work.stream()));
}

}  // namespace aligndraw::cuda::cluster
