// All steps of a forward in one launch: the stages of unroll_stages.h and the products between
// them. Each block forms its own columns of every product. A barrier of the grid stands where the
// next stage reads results of other blocks.
#include "lstm_unit.h"
#include "persistent.h"
#include "unroll_stages.h"

namespace aligndraw::cuda {
namespace {

using namespace persistent;
static_assert(persistent::threads == stages::threads, "products and stages share a launch");

// The shared memory of a block; this struct lies there too, as registers are few. W is the type of
// the weights that may be rounded. The weights of priors, posteriors, windows and patches stay T.
template <class T, class W>
struct ForwardBlock {
  Range captions, query_part, others_part, encoder_part, latent_part, decoder_part;
  SharedWeights<W> query;
  SharedWeights<T> others;
  SharedWeights<W> encoder;
  SharedWeights<T> posterior;
  SharedWeights<W> decoder;
  ReadAttend<T> read_attend;  // of the step

  // Row r of a part has gate r % 4 of unit r / 4: this is its row in the matrix [4 count, depth].
  static __device__ __forceinline__ int64_t gate(Range units, int64_t count, int r) {
    return r % 4 * count + units.first + r / 4;
  }

  __device__ __forceinline__ ForwardBlock(SharedArrays& shared, const UnrollPointers<T>& in,
                                          const BlockShare& share)
      : captions(share.captions(in.sizes.batch)),
        query_part(share.of(in.sizes.units)),
        others_part(share.of(in.sizes.heads() - in.sizes.units)),
        encoder_part(share.of(in.sizes.encoder)),
        latent_part(share.of(in.sizes.latents)),
        decoder_part(share.of(in.sizes.decoder)),
        query(
            shared, largest_part(in.sizes.units, share.parts), query_part.count, in.sizes.decoder,
            [&](int r, int k) { return in.heads[(query_part.first + r) * in.sizes.decoder + k]; }),
        others(shared, largest_part(in.sizes.heads() - in.sizes.units, share.parts),
               others_part.count, in.sizes.decoder,
               [&](int r, int k) {
                 return in.heads[(in.sizes.units + others_part.first + r) * in.sizes.decoder + k];
               }),
        encoder(shared, 4 * largest_part(in.sizes.encoder, share.parts), 4 * encoder_part.count,
                in.sizes.encoder_in() + in.sizes.encoder,
                [&](int r, int k) {
                  const int64_t row = gate(encoder_part, in.sizes.encoder, r);
                  const int64_t inputs = in.sizes.encoder_in();
                  return k < inputs ? in.encoder_ih[row * inputs + k]
                                    : in.encoder_hh[row * in.sizes.encoder + k - inputs];
                }),
        posterior(shared, 2 * largest_part(in.sizes.latents, share.parts), 2 * latent_part.count,
                  in.sizes.encoder,
                  [&](int r, int k) {
                    const int64_t row = r % 2 * in.sizes.latents + latent_part.first + r / 2;
                    return in.posterior[row * in.sizes.encoder + k];
                  }),
        decoder(shared, 4 * largest_part(in.sizes.decoder, share.parts), 4 * decoder_part.count,
                in.sizes.latents + in.sizes.decoder, [&](int r, int k) {
                  const int64_t row = gate(decoder_part, in.sizes.decoder, r),
                                latents = in.sizes.latents;
                  return k < latents ? in.decoder_ih[row * in.sizes.decoder_in() + k]
                                     : in.decoder_hh[row * in.sizes.decoder + k - latents];
                }) {}

  static int64_t bytes(const UnrollSizes& s, int64_t parts) {
    const int64_t n = s.decoder, e = s.encoder;
    return shared_bytes<ForwardBlock>(1) + shared_bytes<W>(largest_part(s.units, parts) * n) +
           shared_bytes<T>(largest_part(s.heads() - s.units, parts) * n) +
           shared_bytes<W>(4 * largest_part(e, parts) * (s.encoder_in() + e)) +
           shared_bytes<T>(2 * largest_part(s.latents, parts) * e) +
           shared_bytes<W>(4 * largest_part(n, parts) * (s.latents + n)) +
           stages::read_attend_bytes<T>();
  }
};

// A step is five stages: head products; read-and-attend; h_enc; the latent; h_dec. The rows of
// gates are in the order of units, and mu and log sigma of the posterior alternate, so that one
// tile of a product has all rows of a unit.
template <class T, class W>
__global__ void __launch_bounds__(persistent::threads, 1) forward(Forward<T> loop, int parts) {
  const auto grid = cooperative_groups::this_grid();
  const UnrollSizes& s = loop.in.sizes;
  const int64_t n = s.decoder, e = s.encoder, inputs = s.encoder_in(), latents = s.latents;
  SharedArrays shared;
  auto& block =
      in_shared(shared, [&] { return ForwardBlock<T, W>(shared, loop.in, BlockShare(parts)); });

  // A tile is the gates of a unit.
  const auto lstm = [&](const LstmStep<T>& step, int64_t units, int64_t unit, int64_t b,
                        bool inside, T sum) {
    T gates[tile_rows];
    gather(sum, gates);
    if (inside && threadIdx.x % warp_threads < tile_captions)
      lstm_unit(step, units, b, unit, gates);
  };
  for (int64_t t = 0;; ++t) {
    if (threadIdx.x == 0 && t < s.steps) block.read_attend = loop.read_attend(t);
    const int64_t row = t * s.batch;
    const Rows<const T> h_dec{loop.out.decoder_h + row * n, n};
    const auto keep_products = [&](int64_t first) {
      return [&, first](int r, int64_t b, bool inside, T sum) {
        if (inside) loop.head_products.data[b * loop.head_products.row_stride + first + r] = sum;
      };
    };
    multiply(block.query, h_dec, block.captions, keep_products(block.query_part.first));
    multiply(block.others, h_dec, block.captions, keep_products(s.units + block.others_part.first));
    if (t == s.steps) return;
    grid.sync();

    over_blocks(stages::read_attend_blocks(s),
                [&](int64_t i) { stages::read_attend(shared, block.read_attend, s, i); });
    grid.sync();

    const LstmStep<T> encode = loop.encode(t);
    multiply(block.encoder, Rows<const T>{block.read_attend.encoder_in, inputs}, int(inputs),
             {loop.out.encoder_h + row * e, e}, block.captions,
             [&](int r, int64_t b, bool inside, T sum) {
               lstm(encode, e, block.encoder_part.first + r / 4, b, inside, sum);
             });
    grid.sync();

    const Infer<T> infer = loop.infer(t, {});
    multiply(block.posterior, Rows<const T>{encode.h, e}, block.captions,
             [&](int r, int64_t b, bool inside, T mu) {
               const T log_sigma = __shfl_xor_sync(~0u, mu, tile_captions);
               if (inside && r % 2 == 0)
                 stages::infer(infer, latents, b, block.latent_part.first + r / 2, mu, log_sigma);
             });
    grid.sync();

    const LstmStep<T> decode = loop.decode(t);
    multiply(block.decoder, Rows<const T>{infer.z.data, infer.z.row_stride}, int(latents), h_dec,
             block.captions, [&](int r, int64_t b, bool inside, T sum) {
               lstm(decode, n, block.decoder_part.first + r / 4, b, inside, sum);
             });
    grid.sync();
  }
}

}  // namespace

template <class T>
LaunchGrid forward_grid(const UnrollSizes& s, bool rounds) {
  return with_weight_type<T>(rounds, [&]<class W>() {
    return largest_grid(forward<T, W>, s.batch, INT32_MAX,
                        [&](int64_t parts) { return ForwardBlock<T, W>::bytes(s, parts); });
  });
}

template <class T>
const char* launch_forward(const Forward<T>& loop, bool rounds, const LaunchGrid& grid,
                           CUstream_st* stream) {
  if (loop.in.sizes.batch == 0) return nullptr;
  return with_weight_type<T>(
      rounds, [&]<class W>() { return persistent::launch(forward<T, W>, grid, stream, loop); });
}

template LaunchGrid forward_grid<float>(const UnrollSizes&, bool);
template LaunchGrid forward_grid<double>(const UnrollSizes&, bool);
template const char* launch_forward(const Forward<float>&, bool, const LaunchGrid&, CUstream_st*);
template const char* launch_forward(const Forward<double>&, bool, const LaunchGrid&, CUstream_st*);

}  // namespace aligndraw::cuda
