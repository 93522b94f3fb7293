#include "unroll_prior.h"

#include "glimpse.h"
#include "persistent.h"
#include "prior_stage.h"

namespace aligndraw::cuda {
namespace {

using attention::threads, attention::warps, stages::keep_write, stages::latent;

// One block per caption.
template <class T>
__global__ void __launch_bounds__(threads, 1) prior_attend(PriorAttend<T> stage) {
  stages::prior_attend(stage, blockIdx.x);
}

// One block per tile of a channel, for all steps one after another.
template <class T>
__global__ void __launch_bounds__(threads, glimpse::blocks_at_once<Exact<T>>)
    draw_all(PriorLoop<T> loop) {
  const UnrollSizes& s = loop.in.sizes;
  const UnrollPriorOutputs<T>& out = loop.out;
  const GlimpseSizes sizes = glimpse_sizes(s, s.write_size);
  const glimpse::Tile tile(blockIdx.x, sizes);
  const int64_t b = tile.channel / s.channels, c = tile.channel % s.channels;
  const int64_t area = s.height * s.width, patch_size = s.write_size * s.write_size;
  glimpse::Drawing<T> drawing;
  for (int64_t t = 0; t < s.steps; ++t) {
    const int64_t row = t * s.batch + b;
    SharedArrays shared;
    glimpse::Window<T> window(shared, [&](int i) { return out.windows[row * 5 + i]; }, sizes);
    drawing.add(window, s.write_size, tile.top, tile.left,
                [&](const math::Grid<T>& grid, int64_t n) {
                  return out.patches[(row * s.channels + c) * patch_size + n] / grid.gamma;
                });
    if (t + 1 == s.steps)
      drawing.for_pixels(window, [&](int64_t n, int, T drawn) {
        out.canvas[tile.channel * area + n] = loop.in.canvas[c * area + n] + drawn;
      });
  }
}

// ---- all steps in one launch ----

using persistent::SharedWeights, persistent::largest_part, persistent::Range,
    persistent::tile_captions;
static_assert(threads == persistent::threads, "captions and products share a launch");

// The largest number of head rows of any block.
__host__ __device__ __forceinline__ int64_t head_rows(const UnrollSizes& s, int64_t parts) {
  return largest_part(s.units, parts) + 2 * largest_part(s.latents, parts) +
         largest_part(s.patch() + 5, parts);
}

template <class T>
int64_t persistent_bytes(const UnrollSizes& s, int64_t parts) {
  return shared_bytes<T>(head_rows(s, parts) * s.decoder) +
         shared_bytes<T>(4 * largest_part(s.decoder, parts) * (s.decoder + s.latents)) +
         shared_bytes<T>(head_rows(s, parts) * tile_captions) +
         shared_bytes<T>(tile_captions * s.words);
}

// A step is two stages. In the first a block makes its columns of the head outputs, from them its
// columns of the latents, and its query units' part of each word's energy. In the second it sums
// the energies over the blocks, and makes its units of h_dec.
template <class T>
__global__ void __launch_bounds__(threads, 1) all_steps(PersistentPrior<T> persistent, int parts) {
  const auto grid = cooperative_groups::this_grid();
  const UnrollPriorPointers<T>& in = persistent.loop.in;
  const UnrollPriorOutputs<T>& out = persistent.loop.out;
  const UnrollSizes& s = in.sizes;
  const int64_t batch = s.batch, words = s.words, n = s.decoder, latents = s.latents;
  const int thread = threadIdx.x, warp = thread / warp_threads, lane = thread % warp_threads;
  const persistent::BlockShare share(parts);
  const Range query = share.of(s.units), latent_part = share.of(latents),
              written = share.of(s.patch() + 5);
  const Range mine = share.of(n), all = share.captions(batch);
  const int64_t mu_at = query.count, sigma_at = mu_at + latent_part.count;
  const int64_t write_at = sigma_at + latent_part.count, output_rows = write_at + written.count;

  // head(r) is the column of the heads in row r of the block's weights, gate(r) that of the gates.
  // The gates are in the order of units, so that a tile of a product has all four of a unit.
  const auto head = [&](int64_t r) {
    return r < mu_at      ? query.first + r
           : r < sigma_at ? s.prior_at() + latent_part.first + r - mu_at
           : r < write_at ? s.prior_at() + latents + latent_part.first + r - sigma_at
                          : s.patch_at() + written.first + r - write_at;
  };
  const auto gate = [&](int64_t r) { return r % 4 * n + mine.first + r / 4; };
  SharedArrays shared;
  const SharedWeights<T> heads(shared, head_rows(s, parts), output_rows, n,
                               [&](int64_t r, int64_t k) { return in.heads[head(r) * n + k]; });
  const SharedWeights<T> decoder(shared, 4 * largest_part(n, parts), 4 * mine.count, n + latents,
                                 [&](int64_t r, int64_t k) {
                                   return k < n ? in.decoder_hh[gate(r) * n + k]
                                                : in.decoder_ih[gate(r) * s.decoder_in() + k - n];
                                 });
  T* const results = shared.allocate<T>(head_rows(s, parts) * tile_captions);
  T* const alpha = shared.allocate<T>(tile_captions * words);
  __syncthreads();

  const int end = all.first + all.count;
  const auto captions_from = [&](int b0) {
    return Range{b0, end - b0 < tile_captions ? end - b0 : tile_captions};
  };
  for (int64_t t = 0;; ++t) {
    T* const next = persistent.h + (t + 1) % 2 * batch * n;
    const Rows<const T> h =
        t ? Rows<const T>{persistent.h + t % 2 * batch * n, n} : Rows<const T>{in.decoder_h0, 0};
    for (int b0 = all.first; b0 < end; b0 += tile_captions) {
      const Range some = captions_from(b0);
      multiply(heads, h, some, [&](int r, int64_t b, bool inside, T sum) {
        if (inside) results[r * tile_captions + b - b0] = sum + in.heads_bias[head(r)];
      });
      __syncthreads();
      const auto output = [&](int64_t r, int64_t c) { return results[r * tile_captions + c]; };
      if (t > 0)
        for (int64_t i = thread; i < written.count * some.count; i += threads) {
          const int64_t c = i / written.count, j = i % written.count;
          keep_write(out, s, t, b0 + c, written.first + j, output(write_at + j, c));
        }
      if (t < s.steps) {
        for (int64_t i = thread; i < latent_part.count * some.count; i += threads) {
          const int64_t c = i / latent_part.count, j = i % latent_part.count,
                        column = latent_part.first + j;
          persistent.z[(b0 + c) * latents + column] =
              latent(output(mu_at + j, c), output(sigma_at + j, c),
                     in.noise[((b0 + c) * s.steps + t) * latents + column], t == 0);
        }
        for (int64_t i = thread; in.keys && i < words * some.count; i += threads) {
          const int64_t c = i / words, word = b0 * words + i;
          T energy = 0;
          for (int64_t j = 0; j < query.count; ++j)
            energy += math::energy(output(j, c), in.keys[word * s.units + query.first + j],
                                   in.score[query.first + j]);
          persistent.energies[word * parts + share.index] = energy;
        }
      }
      __syncthreads();
    }
    if (t == s.steps) return;
    grid.sync();

    for (int b0 = all.first; b0 < end; b0 += tile_captions) {
      const Range some = captions_from(b0);
      const auto length_of = [&](int64_t b) {
        return in.keys ? attention::clamped_length(in.lengths, b, words) : 1;
      };
      for (int64_t i = warp; in.keys && i < words * some.count; i += warps) {  // one warp per word
        T energy = 0;
        for (int64_t k = lane; k < parts; k += warp_threads)
          energy += persistent.energies[(b0 * words + i) * parts + k];
        energy = warp_sum(energy);
        if (lane == 0) alpha[i] = energy;
      }
      __syncthreads();
      for (int64_t c = warp; in.keys && c < some.count; c += warps) {  // one warp per caption
        const int64_t length = length_of(b0 + c);
        T* const weights = alpha + c * words;
        T largest = -INFINITY, total = 0;
        for (int64_t k = lane; k < length; k += warp_threads)
          largest = weights[k] > largest ? weights[k] : largest;
        largest = warp_max(largest);
        for (int64_t k = lane; k < length; k += warp_threads)
          total += math::exp(weights[k] - largest);
        total = warp_sum(total);
        for (int64_t k = lane; k < words; k += warp_threads) {
          weights[k] = k < length ? math::exp(weights[k] - largest) / total : T(0);
          if (share.index == 0) out.weights[(t * batch + b0 + c) * words + k] = weights[k];
        }
      }
      __syncthreads();
      multiply(decoder, h, n, {persistent.z, latents}, some,
               [&](int r, int64_t b, bool inside, T sum) {
                 if (inside) {  // one lane per gate
                   const int64_t column = gate(r);
                   const auto word_gate = [&](int k) {
                     return persistent.loop.word_gates[(b * words + k) * 4 * n + column];
                   };
                   sum += in.decoder_bias[column] +
                          (in.keys ? sum_of<T>(int(length_of(b)),
                                               [&](int k) {
                                                 return alpha[(b - b0) * words + k] * word_gate(k);
                                               })
                                   : word_gate(0));
                 }
                 T gates[persistent::tile_rows];
                 persistent::gather(sum, gates);
                 if (!inside || lane >= tile_captions) return;
                 const int64_t unit = mine.first + r / 4;
                 const auto state = math::lstm_gates(gates[0], gates[1], gates[2], gates[3],
                                                     t ? persistent.c[b * n + unit] : T(0));
                 next[b * n + unit] = state.h;
                 persistent.c[b * n + unit] = state.c;
               });
      __syncthreads();
    }
    grid.sync();
  }
}

}  // namespace

template <class T>
const char* launch_stage(const PriorAttend<T>& stage, CUstream_st* stream) {
  const int64_t batch = stage.loop.in.sizes.batch;
  if (batch == 0) return nullptr;
  return report(launch(prior_attend<T>, row_of(batch), dim3(threads), 0, stream, false, stage));
}

template <class T>
const char* launch_writes(const PriorLoop<T>& loop, CUstream_st* stream) {
  const UnrollSizes& s = loop.in.sizes;
  const dim3 blocks = glimpse::drawing_blocks(glimpse_sizes(s, s.write_size));
  if (blocks.x == 0) return nullptr;
  return report(
      launch(draw_all<T>, blocks, dim3(threads), glimpse::Window<T>::bytes(), stream, false, loop));
}

template <class T>
LaunchGrid persistent_grid(const UnrollSizes& s) {
  return persistent::largest_grid(all_steps<T>, s.batch, s.decoder,
                                  [&](int64_t parts) { return persistent_bytes<T>(s, parts); });
}

template <class T>
const char* launch_persistent(const PersistentPrior<T>& loop, const LaunchGrid& grid,
                              CUstream_st* stream) {
  if (loop.loop.in.sizes.batch == 0) return nullptr;
  return persistent::launch(all_steps<T>, grid, stream, loop);
}

#define FOR(T)                                                                         \
  template const char* launch_stage(const PriorAttend<T>&, CUstream_st*);              \
  template const char* launch_writes(const PriorLoop<T>&, CUstream_st*);               \
  template LaunchGrid persistent_grid<T>(const UnrollSizes&);                          \
  template const char* launch_persistent(const PersistentPrior<T>&, const LaunchGrid&, \
                                         CUstream_st*);
FOR(float)
FOR(double)
#undef FOR

}  // namespace aligndraw::cuda
