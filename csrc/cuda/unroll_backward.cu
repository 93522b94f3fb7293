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

// The shared memory of a block. Row u of the weights holds the weights from unit u to all its
// outputs.
template <class T, class W>
struct BackwardBlock {
  Range captions, decoder_part, latent_part, encoder_part, glimpse_part;
  SharedWeights<W> of_decoder, of_latent, of_encoder, of_glimpse;

  __device__ __forceinline__ BackwardBlock(SharedArrays& shared, const Backward<T>& loop,
                                           const BlockShare& share)
      : captions(share.captions(loop.in.sizes.batch)),
        decoder_part(share.of(loop.in.sizes.decoder)),
        latent_part(share.of(loop.in.sizes.latents)),
        encoder_part(share.of(loop.in.sizes.encoder)),
        glimpse_part(share.of(loop.in.sizes.glimpse())),
        of_decoder(
            shared, largest_part(loop.in.sizes.decoder, share.parts), decoder_part.count,
            loop.decoder_columns(),
            [&](int r, int k) {
              const auto& in = loop.in;
              const UnrollSizes& s = in.sizes;
              const int64_t unit = decoder_part.first + r, encoder_at = s.heads();
              const int64_t decoder_at = encoder_at + 4 * s.encoder;
              return k < encoder_at ? in.heads[k * s.decoder + unit]
                     : k < decoder_at
                         ? in.encoder_ih[(k - encoder_at) * s.encoder_in() + s.glimpse() + unit]
                         : in.decoder_hh[(k - decoder_at) * s.decoder + unit];
            }),
        of_latent(
            shared, largest_part(loop.in.sizes.latents, share.parts), latent_part.count,
            4 * loop.in.sizes.decoder,
            [&](int r, int k) {
              return loop.in.decoder_ih[k * loop.in.sizes.decoder_in() + latent_part.first + r];
            }),
        of_encoder(shared, largest_part(loop.in.sizes.encoder, share.parts), encoder_part.count,
                   loop.encoder_columns(),
                   [&](int r, int k) {
                     const int64_t e = loop.in.sizes.encoder, gates_at = 2 * loop.in.sizes.latents;
                     const int64_t unit = encoder_part.first + r;
                     return k < gates_at ? loop.in.posterior[k * e + unit]
                                         : loop.in.encoder_hh[(k - gates_at) * e + unit];
                   }),
        of_glimpse(
            shared, largest_part(loop.in.sizes.glimpse(), share.parts), glimpse_part.count,
            4 * loop.in.sizes.encoder, [&](int r, int k) {
              return loop.in.encoder_ih[k * loop.in.sizes.encoder_in() + glimpse_part.first + r];
            }) {}

  static int64_t bytes(const UnrollSizes& s, int64_t parts) {
    const Backward<T> loop{.in = {.sizes = s}};
    return shared_bytes<BackwardBlock>(1) +
           shared_bytes<W>(largest_part(s.decoder, parts) * loop.decoder_columns()) +
           shared_bytes<W>(largest_part(s.latents, parts) * 4 * s.decoder) +
           shared_bytes<W>(largest_part(s.encoder, parts) * loop.encoder_columns()) +
           shared_bytes<W>(largest_part(s.glimpse(), parts) * 4 * s.encoder) +
           glimpse::window_grads_bytes<T>();
  }
};

// A step is six stages: back through the read of the next step; the write; h_dec; latent and
// attention; h_enc; and to the glimpse.
template <class T, class W>
__global__ void __launch_bounds__(persistent::threads, 1) backward(Backward<T> loop, int parts) {
  const auto grid = cooperative_groups::this_grid();
  const UnrollSizes& s = loop.in.sizes;
  const int64_t n = s.decoder, e = s.encoder;
  SharedArrays shared;
  auto& block =
      in_shared(shared, [&] { return BackwardBlock<T, W>(shared, loop, BlockShare(parts)); });

  const auto constant = [](Rows<T> rows) { return Rows<const T>{rows.data, rows.row_stride}; };
  for (int64_t t = s.steps - 1;; --t) {
    if (t + 1 < s.steps) {
      const ReadBackward<T> read = loop.read(t + 1);
      over_blocks(stages::read_backward_blocks(s),
                  [&](int64_t i) { stages::read_backward(shared, read, s, i); });
      grid.sync();
    }
    if (t < 0) break;
    const WriteBackward<T> write = loop.write(t);
    over_blocks(s.batch, [&](int64_t b) { stages::write_backward(shared, write, s, b); });
    grid.sync();

    const LstmStepBackward<T> decode = loop.decode(t);
    multiply(block.of_decoder, constant(loop.decoder(t + 1)), block.captions,
             [&](int r, int64_t b, bool inside, T grad) {
               if (inside) lstm_unit_backward(decode, n, b, block.decoder_part.first + r, grad);
             });
    grid.sync();

    const AttentionBackward<T> attention = loop.attention(t, {});
    multiply(block.of_latent, attention.grad_context_gates, block.captions,
             [&](int r, int64_t b, bool inside, T grad) {
               if (inside)
                 stages::latent_backward(attention, s.latents, s.prior_at(), b,
                                         block.latent_part.first + r, grad);
             });
    if (loop.in.keys)
      over_blocks(s.batch, [&](int64_t b) { stages::caption_backward(attention, s, b); });
    grid.sync();

    const LstmStepBackward<T> encode = loop.encode(t);
    multiply(block.of_encoder, constant(loop.encoder(t + 1)), block.captions,
             [&](int r, int64_t b, bool inside, T grad) {
               if (inside) lstm_unit_backward(encode, e, b, block.encoder_part.first + r, grad);
             });
    grid.sync();

    multiply(block.of_glimpse, constant(loop.encoder_gates(t)), block.captions,
             [&](int r, int64_t b, bool inside, T grad) {
               if (inside) loop.glimpse[b * s.glimpse() + block.glimpse_part.first + r] = grad;
             });
    grid.sync();
  }
  multiply(block.of_decoder, constant(loop.decoder(0)), block.captions,
           [&](int r, int64_t b, bool inside, T grad) {
             if (inside) loop.h_dec[b * n + block.decoder_part.first + r] = grad;
           });
  multiply(block.of_encoder, constant(loop.encoder(0)), block.captions,
           [&](int r, int64_t b, bool inside, T grad) {
             if (inside) loop.h_enc[b * e + block.encoder_part.first + r] = grad;
           });
}

}  // namespace

template <class T>
LaunchGrid backward_grid(const UnrollSizes& s, bool rounds) {
  return with_weight_type<T>(rounds, [&]<class W>() {
    return largest_grid(backward<T, W>, s.batch, INT32_MAX,
                        [&](int64_t parts) { return BackwardBlock<T, W>::bytes(s, parts); });
  });
}

template <class T>
const char* launch_backward(const Backward<T>& loop, bool rounds, const LaunchGrid& grid,
                            CUstream_st* stream) {
  if (loop.in.sizes.batch == 0) return nullptr;
  return with_weight_type<T>(
      rounds, [&]<class W>() { return persistent::launch(backward<T, W>, grid, stream, loop); });
}

template LaunchGrid backward_grid<float>(const UnrollSizes&, bool);
template LaunchGrid backward_grid<double>(const UnrollSizes&, bool);
template const char* launch_backward(const Backward<float>&, bool, const LaunchGrid&, CUstream_st*);
template const char* launch_backward(const Backward<double>&, bool, const LaunchGrid&,
                                     CUstream_st*);

}  // namespace aligndraw::cuda
