// All steps of a backward in one launch: the stages of unroll_stages.h and the products between
// them. Each block forms its own columns of every product. A barrier of the grid stands where the
// next stage reads results of other blocks.
#include "lstm_unit.h"
#include "persistent.h"
#include "unroll_stages.h"

namespace aligndraw::cuda {
namespace {

using namespace persistent;
static_assert(persistent::threads == stages::threads, "products and stages share a launch");

// The products of a step, in their order, by the result whose gradient they bring back.
enum Product { decoder, latent, encoder, glimpse_in, products };

// What a block keeps in shared memory; this struct lies there too, so that one code multiplies by
// any of the weights. Row u of the weights holds the weights from unit u to all its outputs.
template <class T>
struct BackwardBlock {
  Range captions;
  Range parts[products];
  SharedWeights<T> weights[products];

  __device__ __forceinline__ BackwardBlock(SharedArrays& shared, const Backward<T>& loop,
                                           bool rounds, const BlockShare& share)
      : captions(share.captions(loop.in.sizes.batch)),
        parts{share.of(loop.in.sizes.decoder), share.of(loop.in.sizes.latents),
              share.of(loop.in.sizes.encoder), share.of(loop.in.sizes.glimpse())},
        weights{
            {shared, largest_part(loop.in.sizes.decoder, share.parts), parts[decoder].count,
             int(loop.decoder_columns()), rounds,
             [&](int r, int k) {
               const auto& in = loop.in;
               const UnrollSizes& s = in.sizes;
               const int unit = parts[decoder].first + r, heads_at = int(loop.heads_at());
               const int encoder_at = int(loop.encoder_at());
               return k < encoder_at ? in.decoder_hh[k * s.decoder + unit]
                      : k < heads_at
                          ? in.encoder_ih[(k - encoder_at) * s.encoder_in() + s.glimpse() + unit]
                          : in.heads[(k - heads_at) * s.decoder + unit];
             }},
            {shared, largest_part(loop.in.sizes.latents, share.parts), parts[latent].count,
             int(4 * loop.in.sizes.decoder), rounds,
             [&](int r, int k) {
               return loop.in.decoder_ih[k * loop.in.sizes.decoder_in() + parts[latent].first + r];
             }},
            {shared, largest_part(loop.in.sizes.encoder, share.parts), parts[encoder].count,
             int(loop.encoder_columns()), rounds,
             [&](int r, int k) {
               const int64_t e = loop.in.sizes.encoder;
               const int posterior_at = int(loop.posterior_at());
               const int unit = parts[encoder].first + r;
               return k < posterior_at ? loop.in.encoder_hh[k * e + unit]
                                       : loop.in.posterior[(k - posterior_at) * e + unit];
             }},
            {shared, largest_part(loop.in.sizes.glimpse(), share.parts), parts[glimpse_in].count,
             int(4 * loop.in.sizes.encoder), rounds, [&](int r, int k) {
               return loop.in
                   .encoder_ih[k * loop.in.sizes.encoder_in() + parts[glimpse_in].first + r];
             }}} {}

  static int64_t bytes(const UnrollSizes& s, bool rounds, int64_t parts) {
    using Weights = SharedWeights<T>;
    const Backward<T> loop{.in = {.sizes = s}};
    return shared_bytes<BackwardBlock>(1) +
           Weights::bytes(largest_part(s.decoder, parts), loop.decoder_columns(), rounds) +
           Weights::bytes(largest_part(s.latents, parts), 4 * s.decoder, rounds) +
           Weights::bytes(largest_part(s.encoder, parts), loop.encoder_columns(), rounds) +
           Weights::bytes(largest_part(s.glimpse(), parts), 4 * s.encoder, rounds) +
           glimpse::window_grads_bytes<T>();
  }
};

// A step is six stages: back through the read of the next step; the write; h_dec; latent and
// attention; h_enc; and to the glimpse.
template <class T>
__global__ void __launch_bounds__(persistent::threads, 1)
    backward(Backward<T> loop, bool rounds, int parts) {
  const auto grid = cooperative_groups::this_grid();
  const UnrollSizes& s = loop.in.sizes;
  const int n = int(s.decoder), e = int(s.encoder), latents = int(s.latents);
  const int steps = int(s.steps), glimpse_size = int(s.glimpse());
  SharedArrays shared;
  const auto& block =
      in_shared(shared, [&] { return BackwardBlock<T>(shared, loop, rounds, BlockShare(parts)); });

  const Rows<const T> of_decoder = loop.of_decoder.unrounded();
  const Rows<const T> of_encoder = loop.of_encoder.unrounded();
  // With t = -1 it brings the gradients back to the first states alone.
#pragma unroll 1
  for (int t = steps - 1; t >= -1; --t) {
    if (t + 1 < steps) {
      const ReadBackward<T> read = loop.read(t + 1);
      over_blocks(stages::read_backward_blocks(s),
                  [&](int i) { stages::read_backward(shared, read, s, i); });
      grid.sync();
      converge();
    }
    if (t >= 0) {
      const WriteBackward<T> write = loop.write(t);
      over_blocks(s.batch, [&](int b) { stages::write_backward(shared, write, s, b); });
      grid.sync();
      converge();
    }
    const int step = t < 0 ? 0 : t;  // the first states have no step before them
    const AttentionBackward<T> attention = loop.attention(step, {});
#pragma unroll 1
    for (int product = decoder; product < products; ++product) {
      if (t < 0 && (product == latent || product == glimpse_in)) continue;
      // Gradients of the step after for both states, gates of this step for what they read.
      const int64_t row = (t + (product == decoder || product == encoder)) * s.batch;
      const Rows<const T> of = product < encoder ? of_decoder : of_encoder;
      const Rows<const T> x{of.data + row * of.row_stride, of.row_stride};
      const LstmStepBackward<T> lstm = product == decoder ? loop.decode(step) : loop.encode(step);
      T* const first_state = product == decoder ? loop.h_dec : loop.h_enc;
      const int units = product == decoder ? n : e, first = block.parts[product].first;
      multiply(block.weights[product], States<T>{x, block.weights[product].depth, x},
               block.captions, [&](int r, int b, bool inside, T grad) {
                 if (!inside) return;
                 const int unit = first + r;
                 if (product == latent)
                   stages::latent_backward(attention, latents, int(s.prior_at()), b, unit, grad);
                 else if (product == glimpse_in)
                   loop.glimpse[int64_t(b) * glimpse_size + unit] = grad;
                 else if (t < 0)
                   first_state[int64_t(b) * units + unit] = grad;
                 else
                   lstm_unit_backward(lstm, units, b, unit, grad);
               });
      if (product == latent && loop.in.keys)
        over_blocks(s.batch, [&](int b) { stages::caption_backward(attention, s, b); });
      if (t < 0) continue;
      grid.sync();
      converge();
    }
  }
}

}  // namespace

template <class T>
LaunchGrid backward_grid(const UnrollSizes& s, bool rounds) {
  return largest_grid(backward<T>, s.batch, INT32_MAX,
                      [&](int64_t parts) { return BackwardBlock<T>::bytes(s, rounds, parts); });
}

template <class T>
const char* launch_backward(const Backward<T>& loop, bool rounds, const LaunchGrid& grid,
                            CUstream_st* stream) {
  if (loop.in.sizes.batch == 0) return nullptr;
  return persistent::launch(backward<T>, grid, stream, loop, rounds);
}

template LaunchGrid backward_grid<float>(const UnrollSizes&, bool);
template LaunchGrid backward_grid<double>(const UnrollSizes&, bool);
template const char* launch_backward(const Backward<float>&, bool, const LaunchGrid&, CUstream_st*);
template const char* launch_backward(const Backward<double>&, bool, const LaunchGrid&,
                                     CUstream_st*);

}  // namespace aligndraw::cuda
