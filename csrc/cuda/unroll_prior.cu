#include "unroll_prior.h"

#include "../math/lstm.h"
#include "attention.h"
#include "glimpse.h"
#include "persistent.h"
#include "spoken.h"

namespace aligndraw::cuda {
namespace {

using attention::threads, attention::warps;

// mu + sigma noise for column j of the latent; the first prior is N(0, I).
template <class T>
__device__ __forceinline__ T latent(T mu, T log_sigma, T noise, bool is_first) {
  return is_first ? noise : math::tanh(mu) + math::exp(math::tanh(log_sigma)) * noise;
}

// Column j, from the patch on, of what h_dec says after `steps` steps, into the results.
template <class T>
__device__ __forceinline__ void keep_write(const Prior<T>& prior, const UnrollSizes& s,
                                           int64_t steps, int64_t b, int64_t j, T x) {
  const int64_t row = (steps - 1) * s.batch + b, patch = s.patch();
  if (j < patch)
    prior.patches[row * patch + j] = x;
  else
    prior.windows[row * 5 + j - patch] = x;
}

// A block a caption.
template <class T>
__global__ void __launch_bounds__(threads, 1) think(Think<T> step, UnrollSizes s) {
  const Prior<T>& in = step.prior;
  const int64_t b = blockIdx.x, words = s.words, units = s.units, gates = 4 * s.decoder;
  const int64_t latents = s.latents;
  const Spoken<T> spoken{step.spoken, in.heads_bias};
  if (step.t > 0)
    for (int64_t j = threadIdx.x; j < s.patch() + 5; j += threads)
      keep_write(in, s, step.t, b, j, spoken(b, s.patch_at() + j));
  if (step.t == s.steps) return;
  for (int64_t j = threadIdx.x; j < latents; j += threads)
    step.z[b * latents + j] =
        latent(spoken(b, s.prior_at() + j), spoken(b, s.prior_at() + latents + j),
               in.noise[(b * s.steps + step.t) * latents + j], step.t == 0);
  if (!in.keys) return;
  attention::forward<T>(
      attention::clamped_length(in.lengths, b, words), words, units, gates,
      [&](int64_t j) { return spoken(b, j); },
      [&](int64_t k, int64_t j) { return in.keys[(b * words + k) * units + j]; },
      [&](int64_t j) { return in.score[j]; },
      [&](int64_t k, int64_t j) { return in.pushes[(b * words + k) * gates + j]; },
      in.weights + (step.t * s.batch + b) * words,
      [&](int64_t j, T sum) { step.push[b * gates + j] = sum; });
}

// A block a tile of a channel, all steps one after another.
template <class T>
__global__ void __launch_bounds__(threads, glimpse::blocks_at_once<Exact<T>>)
    draw_all(const T* first, const T* patches, const T* windows, T* canvas, UnrollSizes s) {
  const GlimpseSizes sizes = glimpse_sizes(s, s.write_size);
  const glimpse::Tile tile(blockIdx.x, sizes);
  const int64_t b = tile.plane / s.channels, c = tile.plane % s.channels;
  const int64_t area = s.height * s.width, patch_size = s.write_size * s.write_size;
  glimpse::Drawing<T> drawing;
  for (int64_t t = 0; t < s.steps; ++t) {
    const int64_t row = t * s.batch + b;
    SharedArrays shared;
    glimpse::Window<T> window(shared, [&](int i) { return windows[row * 5 + i]; }, sizes);
    drawing.add(window, s.write_size, tile.top, tile.left,
                [&](const math::Grid<T>& grid, int64_t n) {
                  return patches[(row * s.channels + c) * patch_size + n] / grid.gamma;
                });
    if (t + 1 == s.steps)
      drawing.for_pixels(window, [&](int64_t n, int, T drawn) {
        canvas[tile.plane * area + n] = first[c * area + n] + drawn;
      });
  }
}

// ---- all steps in one launch ----

using persistent::Kept, persistent::largest_part, persistent::Part, persistent::tile_captions;
static_assert(threads == persistent::threads, "captions and products share a launch");

// The most rows of the heads that a block has.
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

// A step is two stages. In the first a block makes its columns of what h_dec says: the latents at
// once, and what its units of the query add to the words' energies. In the second it adds these up
// over the blocks, and makes its units of h_dec.
template <class T>
__global__ void __launch_bounds__(threads, 1)
    all_steps(Persistent<T> loop, UnrollSizes s, int parts) {
  const auto grid = cooperative_groups::this_grid();
  const Prior<T>& in = loop.prior;
  const int64_t batch = s.batch, words = s.words, n = s.decoder, latents = s.latents;
  const int thread = threadIdx.x, warp = thread / warp_threads, lane = thread % warp_threads;
  const persistent::Place place(parts);
  const Part query = place.of(s.units), drawn = place.of(latents),
             written = place.of(s.patch() + 5);
  const Part mine = place.of(n), all = place.captions(batch);
  const int64_t mu_at = query.count, sigma_at = mu_at + drawn.count;
  const int64_t write_at = sigma_at + drawn.count, said_rows = write_at + written.count;

  // The columns of the heads and of the gates that the rows of the weights are; those of the gates
  // are in the order of units, so that a tile of a product has all four.
  const auto head = [&](int64_t r) {
    return r < mu_at      ? query.first + r
           : r < sigma_at ? s.prior_at() + drawn.first + r - mu_at
           : r < write_at ? s.prior_at() + latents + drawn.first + r - sigma_at
                          : s.patch_at() + written.first + r - write_at;
  };
  const auto gate = [&](int64_t r) { return r % 4 * n + mine.first + r / 4; };
  SharedArrays shared;
  const Kept<T> heads(shared, head_rows(s, parts), said_rows, n,
                      [&](int64_t r, int64_t k) { return loop.heads[head(r) * n + k]; });
  const Kept<T> decoder(shared, 4 * largest_part(n, parts), 4 * mine.count, n + latents,
                        [&](int64_t r, int64_t k) {
                          return k < n ? loop.decoder_hh[gate(r) * n + k]
                                       : loop.decoder_ih[gate(r) * s.decoder_in() + k - n];
                        });
  T* const results = shared.take<T>(head_rows(s, parts) * tile_captions);
  T* const alpha = shared.take<T>(tile_captions * words);
  __syncthreads();

  const int end = all.first + all.count;
  const auto captions_from = [&](int b0) {
    return Part{b0, end - b0 < tile_captions ? end - b0 : tile_captions};
  };
  for (int64_t t = 0;; ++t) {
    T* const next = loop.h + (t + 1) % 2 * batch * n;
    const Rows<const T> h =
        t ? Rows<const T>{loop.h + t % 2 * batch * n, n} : Rows<const T>{loop.decoder_h0, 0};
    for (int b0 = all.first; b0 < end; b0 += tile_captions) {
      const Part some = captions_from(b0);
      multiply(heads, h, some, [&](int r, int64_t b, bool inside, T sum) {
        if (inside) results[r * tile_captions + b - b0] = sum + in.heads_bias[head(r)];
      });
      __syncthreads();
      const auto said = [&](int64_t r, int64_t c) { return results[r * tile_captions + c]; };
      if (t > 0)
        for (int64_t i = thread; i < written.count * some.count; i += threads) {
          const int64_t c = i / written.count, j = i % written.count;
          keep_write(in, s, t, b0 + c, written.first + j, said(write_at + j, c));
        }
      if (t < s.steps) {
        for (int64_t i = thread; i < drawn.count * some.count; i += threads) {
          const int64_t c = i / drawn.count, j = i % drawn.count, column = drawn.first + j;
          loop.z[(b0 + c) * latents + column] =
              latent(said(mu_at + j, c), said(sigma_at + j, c),
                     in.noise[((b0 + c) * s.steps + t) * latents + column], t == 0);
        }
        for (int64_t i = thread; in.keys && i < words * some.count; i += threads) {
          const int64_t c = i / words, word = b0 * words + i;
          T energy = 0;
          for (int64_t j = 0; j < query.count; ++j)
            energy += math::energy(said(j, c), in.keys[word * s.units + query.first + j],
                                   in.score[query.first + j]);
          loop.energies[word * parts + place.index] = energy;
        }
      }
      __syncthreads();
    }
    if (t == s.steps) return;
    grid.sync();

    for (int b0 = all.first; b0 < end; b0 += tile_captions) {
      const Part some = captions_from(b0);
      const auto length_of = [&](int64_t b) {
        return in.keys ? attention::clamped_length(in.lengths, b, words) : 1;
      };
      for (int64_t i = warp; in.keys && i < words * some.count; i += warps) {  // a warp a word
        T energy = 0;
        for (int64_t k = lane; k < parts; k += warp_threads)
          energy += loop.energies[(b0 * words + i) * parts + k];
        energy = warp_sum(energy);
        if (lane == 0) alpha[i] = energy;
      }
      __syncthreads();
      for (int64_t c = warp; in.keys && c < some.count; c += warps) {  // a warp a caption
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
          if (place.index == 0) in.weights[(t * batch + b0 + c) * words + k] = weights[k];
        }
      }
      __syncthreads();
      multiply(decoder, h, n, {loop.z, latents}, some, [&](int r, int64_t b, bool inside, T sum) {
        if (inside) {  // a lane a gate
          const int64_t column = gate(r);
          const auto push = [&](int k) { return in.pushes[(b * words + k) * 4 * n + column]; };
          sum += in.decoder_bias[column] +
                 (in.keys ? sum_of<T>(int(length_of(b)),
                                      [&](int k) { return alpha[(b - b0) * words + k] * push(k); })
                          : push(0));
        }
        T gates[persistent::tile_rows];
        persistent::gather(sum, gates);
        if (!inside || lane >= tile_captions) return;
        const int64_t unit = mine.first + r / 4;
        const auto state = math::lstm_gates(gates[0], gates[1], gates[2], gates[3],
                                            t ? loop.c[b * n + unit] : T(0));
        next[b * n + unit] = state.h;
        loop.c[b * n + unit] = state.c;
      });
      __syncthreads();
    }
    grid.sync();
  }
}

}  // namespace

template <class T>
const char* launch_think(const Think<T>& step, const UnrollSizes& s, CUstream_st* stream) {
  if (s.batch == 0) return nullptr;
  return report(launch(think<T>, row_of(s.batch), dim3(threads), 0, stream, false, step, s));
}

template <class T>
const char* launch_writes(const T* first, const T* patches, const T* windows, T* canvas,
                          const UnrollSizes& s, CUstream_st* stream) {
  const dim3 blocks = glimpse::drawing_blocks(glimpse_sizes(s, s.write_size));
  if (blocks.x == 0) return nullptr;
  return report(launch(draw_all<T>, blocks, dim3(threads), glimpse::Window<T>::bytes(), stream,
                       false, first, patches, windows, canvas, s));
}

template <class T>
Fit persistent_fit(const UnrollSizes& s) {
  return persistent::fit(all_steps<T>, s.batch, s.decoder,
                         [&](int64_t parts) { return persistent_bytes<T>(s, parts); });
}

template <class T>
const char* launch_persistent(const Persistent<T>& loop, const UnrollSizes& s, const Fit& fit,
                              CUstream_st* stream) {
  if (s.batch == 0) return nullptr;
  return persistent::launch(all_steps<T>, fit, stream, loop, s);
}

#define FOR(T)                                                                                 \
  template const char* launch_think(const Think<T>&, const UnrollSizes&, CUstream_st*);        \
  template const char* launch_writes(const T*, const T*, const T*, T*, const UnrollSizes&,     \
                                     CUstream_st*);                                            \
  template Fit persistent_fit<T>(const UnrollSizes&);                                          \
  template const char* launch_persistent(const Persistent<T>&, const UnrollSizes&, const Fit&, \
                                         CUstream_st*);
FOR(float)
FOR(double)
#undef FOR

}  // namespace aligndraw::cuda
