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

// The products of a step, in their order: two of the heads, then three that a stage finishes.
enum Product { query, others, encoder, posterior, decoder, products };

// What a block keeps in shared memory; this struct lies there too, so that one code multiplies by
// any of the weights. Those of priors, posteriors, windows and patches are never rounded.
template <class T>
struct ForwardBlock {
  Range captions;
  Range parts[products];  // query units, columns of other heads, units of h_enc, latents, of h_dec
  SharedWeights<T> weights[products];

  // Row r of a part has gate r % 4 of unit r / 4: this is its row in the matrix [4 count, depth].
  static __device__ __forceinline__ int gate(Range units, int64_t count, int r) {
    return r % 4 * int(count) + units.first + r / 4;
  }

  __device__ __forceinline__ ForwardBlock(SharedArrays& shared, const UnrollPointers<T>& in,
                                          bool rounds, const BlockShare& share)
      : captions(share.captions(in.sizes.batch)),
        parts{share.of(in.sizes.units), share.of(in.sizes.heads() - in.sizes.units),
              share.of(in.sizes.encoder), share.of(in.sizes.latents), share.of(in.sizes.decoder)},
        weights{
            {shared, largest_part(in.sizes.units, share.parts), parts[query].count,
             int(in.sizes.decoder), rounds,
             [&](int r, int k) {
               return in.heads[(parts[query].first + r) * in.sizes.decoder + k];
             }},
            {shared, largest_part(in.sizes.heads() - in.sizes.units, share.parts),
             parts[others].count, int(in.sizes.decoder), false,
             [&](int r, int k) {
               return in.heads[(in.sizes.units + parts[others].first + r) * in.sizes.decoder + k];
             }},
            {shared, 4 * largest_part(in.sizes.encoder, share.parts), 4 * parts[encoder].count,
             int(in.sizes.encoder_in() + in.sizes.encoder), rounds,
             [&](int r, int k) {
               const int64_t row = gate(parts[encoder], in.sizes.encoder, r);
               const int inputs = int(in.sizes.encoder_in());
               return k < inputs ? in.encoder_ih[row * inputs + k]
                                 : in.encoder_hh[row * in.sizes.encoder + k - inputs];
             }},
            {shared, 2 * largest_part(in.sizes.latents, share.parts), 2 * parts[posterior].count,
             int(in.sizes.encoder), false,
             [&](int r, int k) {
               const int64_t row = r % 2 * in.sizes.latents + parts[posterior].first + r / 2;
               return in.posterior[row * in.sizes.encoder + k];
             }},
            {shared, 4 * largest_part(in.sizes.decoder, share.parts), 4 * parts[decoder].count,
             int(in.sizes.latents + in.sizes.decoder), rounds, [&](int r, int k) {
               const int64_t row = gate(parts[decoder], in.sizes.decoder, r);
               const int latents = int(in.sizes.latents);
               return k < latents ? in.decoder_ih[row * in.sizes.decoder_in() + k]
                                  : in.decoder_hh[row * in.sizes.decoder + k - latents];
             }}} {}

  static int64_t bytes(const UnrollSizes& s, bool rounds, int64_t parts) {
    using Weights = SharedWeights<T>;
    const int64_t n = s.decoder, e = s.encoder;
    return shared_bytes<ForwardBlock>(1) + Weights::bytes(largest_part(s.units, parts), n, rounds) +
           Weights::bytes(largest_part(s.heads() - s.units, parts), n, false) +
           Weights::bytes(4 * largest_part(e, parts), s.encoder_in() + e, rounds) +
           Weights::bytes(2 * largest_part(s.latents, parts), e, false) +
           Weights::bytes(4 * largest_part(n, parts), s.latents + n, rounds) +
           stages::read_attend_bytes<T>();
  }
};

// A step is five stages: head products; read-and-attend; h_enc; the latent; h_dec. The rows of
// gates are in the order of units, and mu and log sigma of the posterior alternate, so that one
// tile of a product has all rows of a unit.
template <class T>
__global__ void __launch_bounds__(persistent::threads, 1)
    forward(Forward<T> loop, bool rounds, int parts) {
  const auto grid = cooperative_groups::this_grid();
  const UnrollSizes& s = loop.in.sizes;
  const int n = int(s.decoder), e = int(s.encoder), latents = int(s.latents);
  const int steps = int(s.steps), inputs = int(s.encoder_in());
  SharedArrays shared;
  const auto& block = in_shared(
      shared, [&] { return ForwardBlock<T>(shared, loop.in, rounds, BlockShare(parts)); });

#pragma unroll 1
  for (int t = 0;; ++t) {
    const int64_t row = t * s.batch;
    const Rows<const T> h_dec{loop.out.decoder_h + row * n, n};
    const Rows<const T> h_enc{loop.out.encoder_h + row * e, e};
    const int step = t < steps ? t : t - 1;  // the last states have no step after them
    const Infer<T> infer = loop.infer(step, {});
#pragma unroll 1
    for (int product = query; product < products; ++product) {
      if (product >= encoder) {
        grid.sync();
        converge();
      }
      if (product == encoder) {
        const ReadAttend<T> read_attend = loop.read_attend(t);
        over_blocks(stages::read_attend_blocks(s),
                    [&](int i) { stages::read_attend(shared, read_attend, s, i); });
        grid.sync();
        converge();
      }
      const States<T> states =
          product < encoder ? States<T>{h_dec, n, h_dec}
          : product == encoder
              ? States<T>{{loop.out.encoder_in + row * inputs, inputs}, inputs, h_enc}
          : product == posterior ? States<T>{{h_enc.data + s.batch * e, e}, e, h_enc}
                                 : States<T>{{infer.z.data, infer.z.row_stride}, latents, h_dec};
      const int first = block.parts[product].first;
      const LstmStep<T> lstm = product == encoder ? loop.encode(step) : loop.decode(step);
      const int units = product == encoder ? e : n;
      multiply(block.weights[product], states, block.captions,
               [&](int r, int b, bool inside, T sum) {
                 if (product < encoder) {
                   const int column = (product == others ? int(s.units) : 0) + first + r;
                   if (inside)
                     loop.head_products.data[b * loop.head_products.row_stride + column] = sum;
                 } else if (product == posterior) {
                   const T log_sigma = __shfl_xor_sync(~0u, sum, tile_captions);
                   if (inside && r % 2 == 0)
                     stages::infer(infer, latents, b, first + r / 2, sum, log_sigma);
                 } else {  // a tile is the gates of a unit
                   T gates[tile_rows];
                   gather(sum, gates);
                   if (inside && threadIdx.x % warp_threads < tile_captions)
                     lstm_unit(lstm, units, b, first + r / 4, gates);
                 }
               });
      if (product == others && t == steps) return;
    }
    grid.sync();
    converge();
  }
}

}  // namespace

template <class T>
LaunchGrid forward_grid(const UnrollSizes& s, bool rounds) {
  return largest_grid(forward<T>, s.batch, INT32_MAX,
                      [&](int64_t parts) { return ForwardBlock<T>::bytes(s, rounds, parts); });
}

template <class T>
const char* launch_forward(const Forward<T>& loop, bool rounds, const LaunchGrid& grid,
                           CUstream_st* stream) {
  if (loop.in.sizes.batch == 0) return nullptr;
  return persistent::launch(forward<T>, grid, stream, loop, rounds);
}

template LaunchGrid forward_grid<float>(const UnrollSizes&, bool);
template LaunchGrid forward_grid<double>(const UnrollSizes&, bool);
template const char* launch_forward(const Forward<float>&, bool, const LaunchGrid&, CUstream_st*);
template const char* launch_forward(const Forward<double>&, bool, const LaunchGrid&, CUstream_st*);

}  // namespace aligndraw::cuda
