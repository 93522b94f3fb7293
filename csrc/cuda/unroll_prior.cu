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
  stages::prior_attend(stage, int(stage.t), int(blockIdx.x));
}

// One block per tile of a channel, for all steps one after another.
template <class T>
__global__ void __launch_bounds__(threads, glimpse::blocks_at_once<Exact<T>>)
    draw_all(PriorLoop<T> loop) {
  const UnrollSizes& s = loop.in.sizes;
  const UnrollPriorOutputs<T>& out = loop.out;
  const GlimpseSizes sizes = glimpse_sizes(s, s.write_size);
  const glimpse::Tile tile(blockIdx.x, sizes);
  const int channels = int(s.channels), steps = int(s.steps);
  const int b = tile.channel / channels, c = tile.channel % channels;
  const int area = int(s.height * s.width), patch_size = int(s.write_size * s.write_size);
  T* const canvas = out.canvas + int64_t(tile.channel) * area;
  const T* const before = loop.in.canvas + c * area;
  glimpse::Drawing<T> drawing;
#pragma unroll 1
  for (int t = 0; t < steps; ++t) {
    const int64_t row = t * s.batch + b;
    SharedArrays shared;
    glimpse::Window<T> window(shared, [&](int i) { return out.windows[row * 5 + i]; }, sizes);
    const T* const patch = out.patches + (row * channels + c) * patch_size;
    drawing.add(window, tile.top, tile.left, [&](int n) { return patch[n] / window.grid.gamma; });
    if (t + 1 < steps) continue;
    T* const pixels = shared.allocate<T>(glimpse::tile_pixels * glimpse::stride);
    drawing.keep(pixels);
    window.for_pixels([&](int n, int at) { canvas[n] = before[n] + pixels[at]; });
  }
}

// ---- all steps in one launch ----

using persistent::SharedWeights, persistent::States, persistent::largest_part, persistent::Range,
    persistent::tile_captions;
static_assert(threads == persistent::threads, "captions and products share a launch");

// The largest number of head rows of any block.
__host__ __device__ __forceinline__ int64_t head_rows(const UnrollSizes& s, int64_t parts) {
  return largest_part(s.units, parts) + 2 * largest_part(s.latents, parts) +
         largest_part(s.patch() + 5, parts);
}

template <class T>
int64_t persistent_bytes(const UnrollSizes& s, int64_t parts) {
  return SharedWeights<T>::bytes(head_rows(s, parts), s.decoder, false) +
         SharedWeights<T>::bytes(4 * largest_part(s.decoder, parts), s.decoder + s.latents, false) +
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
  const int batch = int(s.batch), words = int(s.words), n = int(s.decoder), units = int(s.units);
  const int latents = int(s.latents), steps = int(s.steps);
  const int thread = threadIdx.x, warp = warp_index(), lane = thread % warp_threads;
  const persistent::BlockShare share(parts);
  const Range query = share.of(s.units), latent_part = share.of(latents),
              written = share.of(s.patch() + 5);
  const Range mine = share.of(n), all = share.captions(batch);
  const int mu_at = query.count, sigma_at = mu_at + latent_part.count;
  const int write_at = sigma_at + latent_part.count, output_rows = write_at + written.count;

  // head(r) is the column of the heads in row r of the block's weights, gate(r) that of the gates.
  // The gates are in the order of units, so that a tile of a product has all four of a unit.
  const auto head = [&](int r) {
    return r < mu_at      ? query.first + r
           : r < sigma_at ? int(s.prior_at()) + latent_part.first + r - mu_at
           : r < write_at ? int(s.prior_at()) + latents + latent_part.first + r - sigma_at
                          : int(s.patch_at()) + written.first + r - write_at;
  };
  const auto gate = [&](int r) { return r % 4 * n + mine.first + r / 4; };
  SharedArrays shared;
  const SharedWeights<T> heads(shared, head_rows(s, parts), output_rows, n, false,
                               [&](int r, int k) { return in.heads[int64_t(head(r)) * n + k]; });
  const SharedWeights<T> decoder(
      shared, 4 * largest_part(n, parts), 4 * mine.count, n + latents, false, [&](int r, int k) {
        const int64_t row = gate(r);
        return k < n ? in.decoder_hh[row * n + k] : in.decoder_ih[row * s.decoder_in() + k - n];
      });
  T* const results = shared.allocate<T>(head_rows(s, parts) * tile_captions);
  T* const alpha = shared.allocate<T>(tile_captions * words);
  __syncthreads();

  const int end = all.first + all.count;
  const auto captions_from = [&](int b0) {
    return Range{b0, end - b0 < tile_captions ? end - b0 : tile_captions};
  };
#pragma unroll 1
  for (int t = 0;; ++t) {
    T* const next = persistent.h + (t + 1) % 2 * int64_t(batch) * n;
    const Rows<const T> h = t ? Rows<const T>{persistent.h + t % 2 * int64_t(batch) * n, n}
                              : Rows<const T>{in.decoder_h0, 0};
#pragma unroll 1
    for (int b0 = all.first; b0 < end; b0 += tile_captions) {
      const Range some = captions_from(b0);
      multiply(heads, States<T>{h, n, h}, some, [&](int r, int b, bool inside, T sum) {
        if (inside) results[r * tile_captions + b - b0] = sum + in.heads_bias[head(r)];
      });
      __syncthreads();
      const auto output = [&](int r, int c) { return results[r * tile_captions + c]; };
      if (t > 0) {
#pragma unroll 1
        for (int i = thread; i < written.count * some.count; i += threads) {
          const int c = i / written.count, j = i % written.count;
          keep_write(out, s, t, b0 + c, written.first + j, output(write_at + j, c));
        }
      }
      if (t < steps) {
#pragma unroll 1
        for (int i = thread; i < latent_part.count * some.count; i += threads) {
          const int c = i / latent_part.count, j = i % latent_part.count;
          const int column = latent_part.first + j;
          persistent.z[int64_t(b0 + c) * latents + column] =
              latent(output(mu_at + j, c), output(sigma_at + j, c),
                     in.noise[((b0 + c) * s.steps + t) * latents + column], t == 0);
        }
#pragma unroll 1
        for (int i = thread; in.keys && i < words * some.count; i += threads) {
          const int c = i / words;
          const int64_t word = int64_t(b0) * words + i;
          const T* const key = in.keys + word * units;
          T energy = 0;
#pragma unroll 1
          for (int j = 0; j < query.count; ++j)
            energy += math::energy(output(j, c), key[query.first + j], in.score[query.first + j]);
          persistent.energies[word * parts + share.index] = energy;
        }
      }
      __syncthreads();
    }
    if (t == steps) return;
    grid.sync();
    persistent::converge();

#pragma unroll 1
    for (int b0 = all.first; b0 < end; b0 += tile_captions) {
      const Range some = captions_from(b0);
      const auto length_of = [&](int b) {
        return in.keys ? attention::clamped_length(in.lengths, b, words) : 1;
      };
#pragma unroll 1
      for (int i = warp; in.keys && i < words * some.count; i += warps) {  // one warp per word
        const T* const energies = persistent.energies + (int64_t(b0) * words + i) * parts;
        T energy = 0;
#pragma unroll 1
        for (int k = lane; k < parts; k += warp_threads) energy += energies[k];
        energy = warp_sum(energy);
        if (lane == 0) alpha[i] = energy;
      }
      __syncthreads();
#pragma unroll 1
      for (int c = warp; in.keys && c < some.count; c += warps) {  // one warp per caption
        const int length = length_of(b0 + c);
        T* const weights = alpha + c * words;
        T* const weights_out = out.weights + (int64_t(t) * batch + b0 + c) * words;
        T largest = -INFINITY, total = 0;
#pragma unroll 1
        for (int k = lane; k < length; k += warp_threads)
          largest = weights[k] > largest ? weights[k] : largest;
        largest = warp_max(largest);
#pragma unroll 1
        for (int k = lane; k < length; k += warp_threads) total += math::exp(weights[k] - largest);
        total = warp_sum(total);
#pragma unroll 1
        for (int k = lane; k < words; k += warp_threads) {
          weights[k] = k < length ? math::exp(weights[k] - largest) / total : T(0);
          if (share.index == 0) weights_out[k] = weights[k];
        }
      }
      __syncthreads();
      multiply(decoder, States<T>{h, n, {persistent.z, latents}}, some,
               [&](int r, int b, bool inside, T sum) {
                 if (inside) {  // one lane per gate
                   const int column = gate(r);
                   const T* const word_gates =
                       persistent.loop.word_gates + int64_t(b) * words * 4 * n + column;
                   sum += in.decoder_bias[column] +
                          (in.keys ? sum_of<T>(length_of(b),
                                               [&](int k) {
                                                 return alpha[(b - b0) * words + k] *
                                                        word_gates[k * 4 * n];
                                               })
                                   : word_gates[0]);
                 }
                 T gates[persistent::tile_rows];
                 persistent::gather(sum, gates);
                 if (!inside || lane >= tile_captions) return;
                 const int64_t unit = int64_t(b) * n + mine.first + r / 4;
                 const auto state = math::lstm_gates(gates[0], gates[1], gates[2], gates[3],
                                                     t ? persistent.c[unit] : T(0));
                 next[unit] = state.h;
                 persistent.c[unit] = state.c;
               });
      __syncthreads();
    }
    grid.sync();
    persistent::converge();
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
      launch(draw_all<T>, blocks, dim3(threads), glimpse::draw_bytes<T>(), stream, false, loop));
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
