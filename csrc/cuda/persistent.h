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

// Tells the compiler that the lanes of each warp are together, where all threads of a block are. A
// barrier of the grid lets them come one by one, and behind it each warp operation would have a
// second form for lanes that have parted.
__device__ __forceinline__ void converge() {
#ifndef CUDA_ON_CPU
  asm volatile("barrier.sync.aligned 0;" ::: "memory");
#endif
}

// The items [first, first + count).
struct Range {
  int first, count;
};

// Part `index` of the items, in parts whose sizes differ by one at most.
__device__ __forceinline__ Range part_of(int count, int index, int parts) {
  const int each = count / parts, more = count % parts;
  return {each * index + (index < more ? index : more), each + (index < more ? 1 : 0)};
}

__host__ __device__ __forceinline__ int64_t largest_part(int64_t count, int64_t parts) {
  return (count + parts - 1) / parts;
}

// The bytes of a number of the weights.
template <class T>
__host__ __device__ __forceinline__ size_t weight_bytes(bool rounded) {
  return rounded ? sizeof(__nv_bfloat16) : sizeof(T);
}

// Rows of a matrix in shared memory. The block has `rows` of them; its memory holds `capacity`, the
// largest count of any block. Rounded rows are bfloat16, and the states that they are multiplied
// with are rounded too.
template <class T>
struct SharedWeights {
  SharedPlace<unsigned char> data;
  int rows, depth;
  bool rounded;

  // element(r, k) is the matrix. Other warps see the rows after a barrier.
  template <class Element>
  __device__ __forceinline__ SharedWeights(SharedArrays& shared, int64_t capacity, int rows,
                                           int depth, bool rounded, const Element& element)
      : data(shared.place<unsigned char>(capacity * depth * weight_bytes<T>(rounded))),
        rows(rows),
        depth(depth),
        rounded(rounded) {
    const int warp = threadIdx.x / warp_threads, lane = threadIdx.x % warp_threads;
#pragma unroll 1
    for (int r = warp; r < rows; r += warps)
#pragma unroll 1
      for (int k = lane; k < depth; k += warp_threads)
        if (rounded)
          store(at<__nv_bfloat16>() + r * depth + k, float(element(r, k)));
        else
          store(at<T>() + r * depth + k, element(r, k));
  }

  static size_t bytes(int64_t capacity, int64_t depth, bool rounded) {
    return shared_bytes<unsigned char>(capacity * depth * weight_bytes<T>(rounded));
  }

  template <class W>
  __device__ __forceinline__ W* at() const {
    return reinterpret_cast<W*>(data.get());
  }
};

template <class W, class T>
__device__ __forceinline__ T rounded_as(T x) {
  if constexpr (std::is_same_v<W, __nv_bfloat16>)
    return rounded_to_bfloat16(x);
  else
    return x;
}

// The states of captions: x_depth numbers of x, and then the numbers of y.
template <class T>
struct States {
  Rows<const T> x;
  int x_depth;
  Rows<const T> y;
};

// Adds to the sums the products of rows and states over `depth` numbers. Element (r, c) of the tile
// is sums[r tile_captions + c], and a lane takes every warp_threads-th number. Beyond the last row
// and the last caption these stand again: so all loads of an iteration are under way at once, and
// none waits for a branch.
template <class W, class T>
__device__ __forceinline__ void add_products(const W* rows, int row_stride, int last_row,
                                             const T* states, int state_stride, int last_caption,
                                             int depth, T (&sums)[warp_threads]) {
  const int lane = threadIdx.x % warp_threads;
  const T* state[tile_captions];
#pragma unroll
  for (int c = 0; c < tile_captions; ++c)
    state[c] = states + (c < last_caption ? c : last_caption) * state_stride + lane;
  const W* row[tile_rows];
#pragma unroll
  for (int r = 0; r < tile_rows; ++r)
    row[r] = rows + (r < last_row ? r : last_row) * row_stride + lane;
  const auto add = [&](int k) {
    T weight[tile_rows], factor[tile_captions];
#pragma unroll
    for (int c = 0; c < tile_captions; ++c) factor[c] = state[c][k];
#pragma unroll
    for (int r = 0; r < tile_rows; ++r) weight[r] = widen(row[r][k]);
#pragma unroll
    for (int c = 0; c < tile_captions; ++c)
#pragma unroll
      for (int r = 0; r < tile_rows; ++r)
        sums[r * tile_captions + c] += weight[r] * rounded_as<W>(factor[c]);
  };
  int k = 0;
#pragma unroll 1
  for (; k + 2 * warp_threads <= depth; k += 2 * warp_threads) {
    add(k);
    add(k + warp_threads);
  }
#pragma unroll 1
  for (; k + lane < depth; k += warp_threads) add(k);
}

// Multiplies rows of `weights` with the states of some captions. In the lane of row r and caption b
// of each tile it calls use(r, b, inside, sum). All lanes of a warp make the call together; a lane
// beyond the last row or caption is not `inside`.
template <class T, class Use>
__device__ __forceinline__ void multiply(const SharedWeights<T>& weights, const States<T>& states,
                                         Range captions, const Use& use) {
  const int warp = warp_index(), lane = threadIdx.x % warp_threads;
  const int across = (captions.count + tile_captions - 1) / tile_captions;
  const int tiles = (weights.rows + tile_rows - 1) / tile_rows * across;
#pragma unroll 1
  for (int tile = warp; tile < tiles; tile += warps) {
    const int r0 = tile / across * tile_rows, b0 = tile % across * tile_captions;
    const int last_row = weights.rows - r0 - 1, last_caption = captions.count - b0 - 1;
    T sums[warp_threads] = {};
#pragma unroll 1
    for (int part = 0; part < 2; ++part) {
      const int from = part ? states.x_depth : 0;
      const int depth = part ? weights.depth - states.x_depth : states.x_depth;
      const int row_stride = int(part ? states.y.row_stride : states.x.row_stride);
      const T* const first =
          (part ? states.y.data : states.x.data) + int64_t(captions.first + b0) * row_stride;
      const auto add = [&]<class W>(const W* rows) {
        add_products(rows + r0 * weights.depth + from, weights.depth, last_row, first, row_stride,
                     last_caption, depth, sums);
      };
      if constexpr (sizeof(T) == sizeof(float))
        if (weights.rounded) {
          add(weights.template at<__nv_bfloat16>());
          continue;
        }
      add(weights.template at<T>());
    }
    const int r = lane / tile_captions, c = lane % tile_captions;
    use(r0 + r, captions.first + b0 + c, r <= last_row && c <= last_caption, warp_sums(sums));
  }
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

  __device__ __forceinline__ Range of(int64_t count) const {
    return part_of(int(count), index, parts);
  }
  __device__ __forceinline__ Range captions(int64_t batch) const {
    return part_of(int(batch), group, groups);
  }
};

// Stores the result of make(), which all threads call, in the block's shared memory. It has no
// pointers: see SharedPlace.
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
#pragma unroll 1
  for (int i = blockIdx.x; i < int(count); i += gridDim.x) stage(i);
}

}  // namespace aligndraw::cuda::persistent
