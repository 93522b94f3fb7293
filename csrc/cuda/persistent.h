// Parts of kernels that take all steps of a loop in one launch. Their blocks keep the weights in
// shared memory from the first step to the last. They wait for each other where a stage needs the
// results of all blocks.
#pragma once
#include <cooperative_groups.h>

#include <type_traits>
#include <utility>

#include "launch_grid.h"
#include "launch.h"
#include "loop.h"
#include "number.h"
#include "sum.h"

namespace aligndraw::cuda::persistent {

constexpr int threads = 256, warps = threads / warp_threads;
// The tile of a product that a warp makes at once, one element per lane.
constexpr int tile_rows = 4, tile_captions = 8;
static_assert(tile_rows * tile_captions == warp_threads);

// The items [first, first + count).
struct Range {
  int first, count;
};

__device__ __forceinline__ Range part_of(int64_t count, int index, int parts) {
  const int first = int(count * index / parts);
  return {first, int(count * (index + 1) / parts) - first};
}

__host__ __device__ __forceinline__ int64_t largest_part(int64_t count, int64_t parts) {
  return (count + parts - 1) / parts;
}

// Rows of a matrix in shared memory. The block has `rows` of them; its memory holds `capacity`, the
// largest count of any block. Rows of bfloat16 are rounded, and so are the states that they are
// multiplied with.
template <class W>
struct SharedWeights {
  W* data;
  int rows, depth;

  // element(r, k) is the matrix. Other warps see the rows after a barrier.
  template <class Element>
  __device__ __forceinline__ SharedWeights(SharedArrays& shared, int64_t capacity, int rows,
                                           int64_t depth, const Element& element)
      : data(shared.allocate<W>(capacity * depth)), rows(rows), depth(int(depth)) {
    const int warp = threadIdx.x / warp_threads, lane = threadIdx.x % warp_threads;
    for (int r = warp; r < rows; r += warps)
      for (int k = lane; k < depth; k += warp_threads) store(data + r * depth + k, element(r, k));
  }
};

template <class W, class T>
__device__ __forceinline__ T rounded_as(T x) {
  if constexpr (std::is_same_v<W, __nv_bfloat16>)
    return rounded_to_bfloat16(x);
  else
    return x;
}

// Multiplies rows of `weights` with the states of some captions. A state is x_depth numbers of x
// and then the numbers of y. In the lane of row r and caption b of each tile it calls use(r, b,
// inside, sum). All lanes of a warp make the call together; a lane beyond the last row or caption
// is not `inside`.
template <class T, class W, class Use>
__device__ __forceinline__ void multiply(SharedWeights<W> weights, Rows<const T> x, int x_depth,
                                         Rows<const T> y, Range captions, const Use& use) {
  const int warp = threadIdx.x / warp_threads, lane = threadIdx.x % warp_threads;
  const int across = (captions.count + tile_captions - 1) / tile_captions;
  const int tiles = (weights.rows + tile_rows - 1) / tile_rows * across;
  for (int tile = warp; tile < tiles; tile += warps) {
    const int r0 = tile / across * tile_rows, b0 = tile % across * tile_captions;
    const int rows = weights.rows - r0, count = captions.count - b0;
    const W* const row = weights.data + r0 * weights.depth;
    T sums[warp_threads] = {};
#pragma unroll 1
    for (int part = 0; part < 2; ++part) {
      const Rows<const T>& states = part ? y : x;
      const int from = part ? x_depth : 0, depth = part ? weights.depth - x_depth : x_depth;
      const T* const state = states.data + (captions.first + b0) * states.row_stride;
      for (int k = lane; k < depth; k += warp_threads) {
        T weight[tile_rows];
#pragma unroll
        for (int r = 0; r < tile_rows; ++r)
          weight[r] = r < rows ? widen(row[r * weights.depth + from + k]) : T(0);
#pragma unroll
        for (int c = 0; c < tile_captions; ++c) {
          if (c >= count) continue;
          const T factor = rounded_as<W>(state[c * states.row_stride + k]);
#pragma unroll
          for (int r = 0; r < tile_rows; ++r) sums[r * tile_captions + c] += weight[r] * factor;
        }
      }
    }
    const int r = lane / tile_captions, c = lane % tile_captions;
    use(r0 + r, captions.first + b0 + c, r < rows && c < count, warp_sums(sums));
  }
}
template <class T, class W, class Use>
__device__ __forceinline__ void multiply(SharedWeights<W> weights, Rows<const T> states,
                                         Range captions, const Use& use) {
  multiply(weights, states, weights.depth, {}, captions, use);
}

// Returns, in each lane of a caption, the x of all its lanes: one element per row of the tile.
template <class T>
__device__ __forceinline__ void gather(T x, T (&rows)[tile_rows]) {
  const int lane = threadIdx.x % warp_threads;
#pragma unroll
  for (int r = 0; r < tile_rows; ++r)
    rows[r] = __shfl_sync(~0u, x, r * tile_captions + lane % tile_captions);
}

// Returns the grid with the most groups that fit the device, since groups multiply their captions
// independently. A group has at most `most_parts` blocks, each with bytes(parts) of shared memory.
template <class... Parameters, class Bytes>
LaunchGrid largest_grid(void (*kernel)(Parameters...), int64_t batch, int64_t most_parts,
                        const Bytes& bytes) {
  int device = 0, processors = 0, cooperates = 0, most = 0, blocks = 0;
  const auto none = [](const char* reason) { return LaunchGrid{0, 0, 0, reason}; };
  cudaError_t error = cudaGetDevice(&device);
  for (const auto& [number, attribute] :
       {std::pair{&processors, cudaDevAttrMultiProcessorCount},
        std::pair{&cooperates, cudaDevAttrCooperativeLaunch},
        std::pair{&most, cudaDevAttrMaxSharedMemoryPerBlockOptin}})
    if (error == cudaSuccess) error = cudaDeviceGetAttribute(number, attribute, device);
  if (error != cudaSuccess) {
    cudaGetLastError();
    return none(cudaGetErrorString(error));
  }
  if (!cooperates || processors < 1) return none("the device launches no cooperative grids");
  const auto parts_of = [&](int64_t groups) {
    return std::clamp<int64_t>(processors / groups, 1, std::max<int64_t>(most_parts, 1));
  };
  int64_t groups = std::clamp<int64_t>((batch + tile_captions - 1) / tile_captions, 1, processors);
  while (groups > 1 && int64_t(bytes(parts_of(groups))) > most) --groups;
  const int64_t parts = parts_of(groups), shared = int64_t(bytes(parts));
  if (shared > most) return none("the weights are larger than the device's shared memory");
  const std::lock_guard lock(setting_shared());
  error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(shared));
  if (error == cudaSuccess)
    error = cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, threads, size_t(shared));
  if (error != cudaSuccess) cudaGetLastError();
  if (error != cudaSuccess || blocks < 1) return none("no block fits a multiprocessor");
  return {int(parts), int(groups), shared, nullptr};
}

// Calls call<W>() with the type in which shared memory holds weights that may be rounded.
template <class T, class Call>
auto with_weight_type(bool rounds, const Call& call) {
  if constexpr (sizeof(T) == sizeof(float))
    if (rounds) return call.template operator()<__nv_bfloat16>();
  return call.template operator()<T>();
}

// Launches a kernel, whose last parameter is the number of parts, on `grid`.
template <class... Parameters, class... Arguments>
const char* launch(void (*kernel)(Parameters...), const LaunchGrid& grid, CUstream_st* stream,
                   const Arguments&... arguments) {
  return report(cuda::launch(kernel, row_of(int64_t(grid.parts) * grid.groups), dim3(threads),
                             size_t(grid.shared), stream, true, arguments..., grid.parts));
}

// The part of the weights and the captions that belong to a block of the grid.
struct BlockShare {
  int parts, index, groups, group;

  __device__ __forceinline__ explicit BlockShare(int parts)
      : parts(parts),
        index(blockIdx.x % parts),
        groups(gridDim.x / parts),
        group(blockIdx.x / parts) {}

  __device__ __forceinline__ Range of(int64_t count) const { return part_of(count, index, parts); }
  __device__ __forceinline__ Range captions(int64_t batch) const {
    return part_of(batch, group, groups);
  }
};

// Stores the result of make(), which all threads call, in the block's shared memory.
template <class Make>
__device__ __forceinline__ auto& in_shared(SharedArrays& shared, const Make& make) {
  const auto made = make();
  auto* const place = shared.allocate<std::remove_const_t<decltype(made)>>(1);
  if (threadIdx.x == 0) *place = made;
  __syncthreads();
  return *place;
}

// Calls stage(i) for each of `count` items, spread over the blocks of the grid.
template <class Stage>
__device__ __forceinline__ void over_blocks(int64_t count, const Stage& stage) {
  for (int64_t i = blockIdx.x; i < count; i += gridDim.x) stage(i);
}

}  // namespace aligndraw::cuda::persistent
