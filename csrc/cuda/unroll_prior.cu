#include "unroll_prior.h"

#include "../math/lstm.h"
#include "attention.h"
#include "glimpse.h"
#include "launch.h"
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
__device__ __forceinline__ void keep_write(const Prior<T>& prior, const UnrollSizes& s, int64_t steps,
                                           int64_t b, int64_t j, T x) {
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
    glimpse::Window<T> window(
        shared, [&](int i) { return windows[row * 5 + i]; }, sizes);
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

constexpr int captions_at_once = 8;

// A block's part of `count` columns.
struct Part {
  int64_t first, count;

  __device__ __forceinline__ explicit Part(int64_t count)
      : first(count * blockIdx.x / gridDim.x),
        count(count * (blockIdx.x + 1) / gridDim.x - first) {}
};

__host__ __device__ __forceinline__ int64_t largest_part(int64_t count, int64_t blocks) {
  return (count + blocks - 1) / blocks;
}

// The most rows of weights that a block has: of the heads, and of the gates.
__host__ __device__ __forceinline__ int64_t head_rows(const UnrollSizes& s, int64_t blocks) {
  return largest_part(s.units, blocks) + 2 * largest_part(s.latents, blocks) +
         largest_part(s.patch() + 5, blocks);
}
__host__ __device__ __forceinline__ int64_t gate_rows(const UnrollSizes& s, int64_t blocks) {
  return 4 * largest_part(s.decoder, blocks);
}

template <class T>
int64_t persistent_bytes(const UnrollSizes& s, int64_t blocks) {
  const int64_t rows = std::max(head_rows(s, blocks), gate_rows(s, blocks));
  return shared_bytes<T>(head_rows(s, blocks) * s.decoder) +
         shared_bytes<T>(gate_rows(s, blocks) * (s.decoder + s.latents)) +
         shared_bytes<T>(rows * captions_at_once) + shared_bytes<T>(captions_at_once * s.words);
}

// results [rows, captions_at_once] = weights [rows, x_depth + y_depth] times rows of x and y: a warp a
// row of the weights.
template <class T>
__device__ __forceinline__ void multiply(const T* weights, int64_t rows, Rows<const T> x,
                                         int64_t x_depth, Rows<const T> y, int64_t y_depth,
                                         int captions, T* results) {
  const int warp = threadIdx.x / warp_threads, lane = threadIdx.x % warp_threads;
  for (int64_t r = warp; r < rows; r += warps) {
    const T* const row = weights + r * (x_depth + y_depth);
    T sums[captions_at_once] = {};
    const auto add = [&](const T* part, Rows<const T> states, int64_t depth) {
      for (int64_t k = lane; k < depth; k += warp_threads) {
        const T weight = part[k];
#pragma unroll
        for (int c = 0; c < captions_at_once; ++c)
          if (c < captions) sums[c] += weight * states.data[c * states.pitch + k];
      }
    };
    add(row, x, x_depth);
    add(row + x_depth, y, y_depth);
#pragma unroll
    for (int c = 0; c < captions_at_once; ++c) {
      const T sum = warp_sum(sums[c]);
      if (lane == 0) results[r * captions_at_once + c] = sum;
    }
  }
}

// A step is two stages. In the first a block makes its columns of what h_dec says: the latents at
// once, and what its units of the query add to the words' energies. In the second it adds these up
// over the blocks, and makes its units of h_dec.
template <class T>
__global__ void __launch_bounds__(threads, 1) persistent(Persistent<T> loop, UnrollSizes s) {
  const auto grid = cooperative_groups::this_grid();
  const Prior<T>& in = loop.prior;
  const int64_t batch = s.batch, words = s.words, n = s.decoder, latents = s.latents;
  const int64_t blocks = gridDim.x, write_size = s.patch() + 5;
  const int thread = threadIdx.x, warp = thread / warp_threads, lane = thread % warp_threads;
  const Part query(s.units), drawn(latents), written(write_size), mine(n);
  const int64_t mu_at = query.count, sigma_at = mu_at + drawn.count;
  const int64_t write_at = sigma_at + drawn.count, said_rows = write_at + written.count;

  SharedArrays shared;
  T* const said_weights = shared.take<T>(head_rows(s, blocks) * n);
  T* const gate_weights = shared.take<T>(gate_rows(s, blocks) * (n + latents));
  const int64_t said_most = head_rows(s, blocks), gates_most = gate_rows(s, blocks);
  T* const results =
      shared.take<T>((said_most > gates_most ? said_most : gates_most) * captions_at_once);
  T* const alpha = shared.take<T>(captions_at_once * words);

  // The column of the heads that row r of said_weights is. No barrier follows: each thread loads what
  // it multiplies.
  const auto column_of = [&](int64_t r) {
    return r < mu_at      ? query.first + r
           : r < sigma_at ? s.prior_at() + drawn.first + r - mu_at
           : r < write_at ? s.prior_at() + latents + drawn.first + r - sigma_at
                          : s.patch_at() + written.first + r - write_at;
  };
  for (int64_t r = warp; r < said_rows; r += warps)
    for (int64_t k = lane; k < n; k += warp_threads)
      said_weights[r * n + k] = loop.heads[column_of(r) * n + k];
  for (int64_t r = warp; r < 4 * mine.count; r += warps) {
    const int64_t gate = r / mine.count * n + mine.first + r % mine.count;
    T* const row = gate_weights + r * (n + latents);
    for (int64_t k = lane; k < n; k += warp_threads) row[k] = loop.decoder_hh[gate * n + k];
    for (int64_t k = lane; k < latents; k += warp_threads)
      row[n + k] = loop.decoder_ih[gate * (latents + s.word_size) + k];
  }

  for (int64_t t = 0;; ++t) {
    T* const next = loop.h + (t + 1) % 2 * batch * n;
    const Rows<const T> h = t ? Rows<const T>{loop.h + t % 2 * batch * n, n}
                              : Rows<const T>{loop.decoder_h0, 0};
    for (int64_t b0 = 0; b0 < batch; b0 += captions_at_once) {
      const int captions = int(batch - b0 < captions_at_once ? batch - b0 : captions_at_once);
      multiply(said_weights, said_rows, {h.data + b0 * h.pitch, h.pitch}, n, {}, 0, captions,
               results);
      __syncthreads();
      const auto said = [&](int64_t r, int c) {
        return results[r * captions_at_once + c] + in.heads_bias[column_of(r)];
      };
      if (t > 0)
        for (int64_t i = thread; i < written.count * captions; i += threads) {
          const int c = int(i / written.count);
          const int64_t j = i % written.count;
          keep_write(in, s, t, b0 + c, written.first + j, said(write_at + j, c));
        }
      if (t < s.steps) {
        for (int64_t i = thread; i < drawn.count * captions; i += threads) {
          const int c = int(i / drawn.count);
          const int64_t j = i % drawn.count, column = drawn.first + j;
          loop.z[(b0 + c) * latents + column] =
              latent(said(mu_at + j, c), said(sigma_at + j, c),
                     in.noise[((b0 + c) * s.steps + t) * latents + column], t == 0);
        }
        for (int64_t i = thread; in.keys && i < words * captions; i += threads) {
          const int c = int(i / words);
          const int64_t b = b0 + c, word = b * words + i % words;
          T energy = 0;
          for (int64_t j = 0; j < query.count; ++j)
            energy += math::energy(said(j, c), in.keys[word * s.units + query.first + j],
                                   in.score[query.first + j]);
          loop.energies[word * blocks + blockIdx.x] = energy;
        }
      }
      __syncthreads();
    }
    if (t == s.steps) return;
    grid.sync();

    for (int64_t b0 = 0; b0 < batch; b0 += captions_at_once) {
      const int captions = int(batch - b0 < captions_at_once ? batch - b0 : captions_at_once);
      const auto length_of = [&](int c) {
        return in.keys ? attention::clamped_length(in.lengths, b0 + c, words) : 1;
      };
      for (int64_t i = warp; in.keys && i < words * captions; i += warps) {  // a warp a word
        T energy = 0;
        for (int64_t k = lane; k < blocks; k += warp_threads)
          energy += loop.energies[(b0 * words + i) * blocks + k];
        energy = warp_sum(energy);
        if (lane == 0) alpha[i] = energy;
      }
      multiply(gate_weights, 4 * mine.count, {h.data + b0 * h.pitch, h.pitch}, n,
               {loop.z + b0 * latents, latents}, latents, captions, results);
      __syncthreads();
      for (int c = warp; in.keys && c < captions; c += warps) {  // a warp a caption
        const int64_t length = length_of(c);
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
          if (blockIdx.x == 0) in.weights[(t * batch + b0 + c) * words + k] = weights[k];
        }
      }
      __syncthreads();
      for (int64_t i = thread; i < mine.count * captions; i += threads) {
        const int c = int(i / mine.count);
        const int64_t b = b0 + c, u = i % mine.count, unit = mine.first + u;
        const int length = int(length_of(c));
        T gates[4];
#pragma unroll
        for (int g = 0; g < 4; ++g) {
          const int64_t column = g * n + unit;
          const auto push = [&](int k) { return in.pushes[(b * words + k) * 4 * n + column]; };
          gates[g] = results[(g * mine.count + u) * captions_at_once + c] + in.decoder_bias[column] +
                     (in.keys ? sum_of<T>(length, [&](int k) { return alpha[c * words + k] * push(k); })
                              : push(0));
        }
        const auto state = math::lstm_gates(gates[0], gates[1], gates[2], gates[3],
                                            t ? loop.c[b * n + unit] : T(0));
        next[b * n + unit] = state.h;
        loop.c[b * n + unit] = state.c;
      }
      __syncthreads();
    }
    grid.sync();
  }
}

}  // namespace

template <class T>
const char* launch_think(const Think<T>& step, const UnrollSizes& s, CUstream_st* stream) {
  if (s.batch == 0) return nullptr;
  return report(
      launch(think<T>, row_of(s.batch), dim3(threads), 0, stream, false, step, s));
}

template <class T>
const char* launch_writes(const T* first, const T* patches, const T* windows, T* canvas,
                          const UnrollSizes& s, CUstream_st* stream) {
  const dim3 blocks = glimpse::drawing_blocks(glimpse_sizes(s, s.write_size));
  if (blocks.x == 0) return nullptr;
  return report(launch(draw_all<T>, blocks, dim3(threads), glimpse::Window<T>::bytes(), stream, false,
                       first, patches, windows, canvas, s));
}

template <class T>
Fit persistent_fit(const UnrollSizes& s) {
  int device = 0, processors = 0, cooperates = 0, most = 0, blocks = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
  cudaDeviceGetAttribute(&cooperates, cudaDevAttrCooperativeLaunch, device);
  cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  if (!cooperates || processors < 1) return {0, 0, "the device launches no cooperative grids"};
  const int grid = int(std::clamp<int64_t>(s.decoder, 1, processors));
  const int64_t shared = persistent_bytes<T>(s, grid);
  if (shared > most) return {0, 0, "the weights are larger than the device's shared memory"};
  cudaError_t error = cudaFuncSetAttribute(
      persistent<T>, cudaFuncAttributeMaxDynamicSharedMemorySize, int(shared));
  if (error == cudaSuccess)
    error = cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, persistent<T>, threads,
                                                          size_t(shared));
  if (error != cudaSuccess) cudaGetLastError();
  if (error != cudaSuccess || blocks < 1) return {0, 0, "no block fits a multiprocessor"};
  return {grid, shared, nullptr};
}

template <class T>
const char* launch_persistent(const Persistent<T>& loop, const UnrollSizes& s, const Fit& fit,
                              CUstream_st* stream) {
  if (s.batch == 0) return nullptr;
  return report(launch(persistent<T>, dim3(unsigned(fit.blocks)), dim3(threads), size_t(fit.shared),
                       stream, true, loop, s));
}

#define FOR(T)                                                                                    \
  template const char* launch_think(const Think<T>&, const UnrollSizes&, CUstream_st*);           \
  template const char* launch_writes(const T*, const T*, const T*, T*, const UnrollSizes&,        \
                                     CUstream_st*);                                               \
  template Fit persistent_fit<T>(const UnrollSizes&);                                             \
  template const char* launch_persistent(const Persistent<T>&, const UnrollSizes&, const Fit&,    \
                                         CUstream_st*);
FOR(float)
FOR(double)
#undef FOR

}  // namespace aligndraw::cuda
