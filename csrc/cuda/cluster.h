// Parts of the kernels of the cluster form: a cluster of 16 or 8 blocks has up to 16 captions of
// its own for all steps. Its blocks divide the rows of each product among them, and wait for each
// other alone. States that products multiply lie in the shared memory of every block.
#pragma once
#include <cooperative_groups.h>

#include "cluster_weights.h"
#include "launch.h"
#include "launch_grid.h"
#include "mma.h"
#include "persistent.h"

namespace aligndraw::cuda::cluster {

using persistent::part_of, persistent::Range;

constexpr int threads = 256, warps = threads / warp_threads;
constexpr int sizes[] = {16, 8};  // of a cluster, the best first; more than 8 must be allowed

// Clusters begin with compute capability 9.0. The code for earlier ones is empty.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
constexpr bool exist = false;
struct Group {
  __device__ void sync() const {}
  __device__ static unsigned block_rank() { return 0; }
  __device__ static unsigned num_blocks() { return 1; }
  template <class T>
  __device__ T* map_shared_rank(T* p, unsigned) const {
    return p;
  }
};
__device__ __forceinline__ Group this_cluster() { return {}; }
#else
constexpr bool exist = true;
using Group = cooperative_groups::cluster_group;
using cooperative_groups::this_cluster;
#endif

// The block's place in its cluster, and the cluster's captions.
struct Share {
  int rank, size;
  Range captions;

  __device__ __forceinline__ Share(const Group& cluster, int64_t batch)
      : rank(int(cluster.block_rank())),
        size(int(cluster.num_blocks())),
        captions(part_of(int(batch), int(blockIdx.x) / size, int(gridDim.x) / size)) {}

  __device__ __forceinline__ Range of(int count) const { return part_of(count, rank, size); }

  // Calls stage(i) for the items of the cluster's captions, spread over its blocks. Of all items
  // the captions come first, then `per_caption` items of each.
  template <class Stage>
  __device__ __forceinline__ void over_items(int64_t batch, int64_t per_caption,
                                             const Stage& stage) const {
    const int each = int(per_caption), others = int(batch) + captions.first * each;
#pragma unroll 1
    for (int j = rank; j < captions.count * (1 + each); j += size)
      stage(j < captions.count ? captions.first + j : others + j - captions.count);
  }
};

// Columns of states, [captions, pitch] in the shared memory of every block of the cluster. A
// segment takes whole chunks of columns; zeros fill its last one.
template <class T>
struct States {
  T* data;
  int pitch;

  // An odd number of chunks: the captions of a load lie in different banks.
  static __host__ __device__ __forceinline__ int64_t pitch_of(int64_t columns) {
    return (chunks_of(columns) | 1) * chunk;
  }
  static size_t bytes(int64_t columns) { return shared_bytes<T>(captions * pitch_of(columns)); }

  __device__ __forceinline__ States(SharedArrays& shared, int64_t columns)
      : data(shared.allocate<T>(captions * pitch_of(columns))), pitch(int(pitch_of(columns))) {
    for (int i = threadIdx.x; i < captions * pitch; i += threads) data[i] = 0;
  }

  // Sets the number in all blocks.
  __device__ __forceinline__ void put(const Group& cluster, int caption, int column, T x) const {
    T* const place = data + caption * pitch + column;
    const unsigned count = cluster.num_blocks();
#pragma unroll 4
    for (unsigned rank = 0; rank < count; ++rank) *cluster.map_shared_rank(place, rank) = x;
  }

  // Sets the row of all captions in this block.
  __device__ __forceinline__ void fill(int column, const T* row, int64_t count) const {
    for (int64_t i = threadIdx.x; i < captions * count; i += threads)
      data[i / count * pitch + column + i % count] = row[i % count];
  }
};

struct Segment {
  int column = 0, count = 0;
};

// The columns of a product's states: up to three segments.
template <class T>
struct SharedOperand {
  const T* data;
  int pitch;
  int columns[3];  // where each segment begins, less the columns of the segments before
  int chunks[2];   // in the order of k, the chunk with which the second and the third begin

  __device__ __forceinline__ SharedOperand(const States<T>& states, Segment a, Segment b = {},
                                           Segment c = {})
      : data(states.data),
        pitch(states.pitch),
        chunks{int(chunks_of(a.count)), int(chunks_of(a.count) + chunks_of(b.count))} {
    columns[0] = a.column;
    columns[1] = b.column - chunks[0] * chunk;
    columns[2] = c.column - chunks[1] * chunk;
  }

  __device__ __forceinline__ mma::Quad<T> operator()(int caption, int k, int t) const {
    const int column = k >= chunks[1] ? columns[2] : k >= chunks[0] ? columns[1] : columns[0];
    return *reinterpret_cast<const mma::Quad<T>*>(data + caption * pitch + column + k * chunk +
                                                  4 * t);
  }
};

// The same in global memory: rows of the cluster's captions, at places of 16 bytes and with a
// stride of whole quads.
template <class T>
struct GlobalOperand {
  Rows<const T> rows;
  Range captions;
  int columns;

  __device__ __forceinline__ mma::Quad<T> operator()(int caption, int k, int t) const {
    const int column = k * chunk + 4 * t;
    mma::Quad<T> quad{};
    if (caption < captions.count && column < columns)
      quad = *reinterpret_cast<const mma::Quad<T>*>(
          rows.data + (captions.first + caption) * rows.row_stride + column);
#pragma unroll
    for (int i = 1; i < 4; ++i)  // beyond the last column lies anything
      if (column + i >= columns) quad.x[i] = 0;
    return quad;
  }
};

// The partial sums of a block's warps.
constexpr size_t partial_numbers = warps * tile_rows * captions;

// Adds to the sums the products of a tile of packed weights with the states over some chunks.
template <class W, class T, class Operand>
__device__ __forceinline__ void add_products(const PackedWeights& weights, int tile, Range chunks,
                                             const Operand& operand, T (&sums)[2][2][4]) {
  constexpr int quads = tile_rows * chunk / 4;
  const int lane = threadIdx.x % warp_threads, g = lane / 4, t = lane % 4;
  const auto* quad = static_cast<const mma::Quad<W>*>(weights.data) +
                     (int64_t(tile) * weights.chunks + chunks.first) * quads + lane;
#pragma unroll 2
  for (int k = chunks.first; k < chunks.first + chunks.count; ++k, quad += quads) {
    mma::Quad<W> row[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) row[i] = quad[i * warp_threads];
    const mma::Quad<T> column[2] = {operand(g, k, t), operand(g + 8, k, t)};
    mma::multiply(sums, row, column);
  }
}

// Multiplies the block's tiles of the weights with the states of the cluster's captions. It calls
// use(unit, caption, sums) for each unit and caption, by one thread, with the sums of the unit's
// gates. The same thread has a unit and a caption in every call with these weights.
template <class T, class Operand, class Use>
__device__ __forceinline__ void multiply(const PackedWeights& weights, const Share& share,
                                         const Operand& operand, T* partials, const Use& use) {
  const int warp = threadIdx.x / warp_threads, lane = threadIdx.x % warp_threads;
  const int g = lane / 4, t = lane % 4, groups = weights.groups, units = tile_rows / groups;
  const Range mine = share.of(weights.tiles);
#pragma unroll 1
  for (int first = 0; first < mine.count; first += warps) {
    // Warps that are left over share the k of a tile.
    const int count = mine.count - first < warps ? mine.count - first : warps;
    const int parts = warps / count, part = warp / count, from = mine.first + first;
    __syncthreads();  // until all have read the partial sums of the product before
    if (part < parts) {
      const Range chunks = part_of(weights.chunks, part, parts);
      const int tile = from + warp % count;
      T sums[2][2][4] = {};
      if constexpr (sizeof(T) == sizeof(float)) {
        if (weights.rounded)
          add_products<__nv_bfloat16>(weights, tile, chunks, operand, sums);
        else
          add_products<T>(weights, tile, chunks, operand, sums);
      } else {
        add_products<T>(weights, tile, chunks, operand, sums);
      }
      T* const sum = partials + warp * tile_rows * captions;
#pragma unroll
      for (int i = 0; i < 16; ++i)
        sum[(i / 8 * 16 + i % 4 / 2 * 8 + g) * captions + i / 4 % 2 * 8 + 2 * t + i % 2] =
            sums[i / 8][i / 4 % 2][i % 4];
    }
    __syncthreads();
#pragma unroll 1
    for (int n = threadIdx.x; n < count * units * captions; n += threads) {
      const int caption = n % captions, u = n / captions % units, tile = n / captions / units;
      const int unit = (from + tile) * units + u;
      if (unit >= weights.units || caption >= share.captions.count) continue;
      T gates[4] = {};
#pragma unroll 1
      for (int p = 0; p < parts; ++p) {
        const T* const sum = partials + (p * count + tile) * tile_rows * captions + caption;
#pragma unroll
        for (int q = 0; q < 4; ++q)
          if (q < groups) gates[q] += sum[((u / 8 * groups + q) * 8 + u % 8) * captions];
      }
      use(unit, caption, gates);
    }
  }
}

// ---- host ----

template <class... Parameters>
cudaError_t allow(void (*kernel)(Parameters...), int64_t shared) {
  const cudaError_t error =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(shared));
  return error != cudaSuccess
             ? error
             : cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1);
}

struct Launch {
  cudaLaunchAttribute attribute{};
  cudaLaunchConfig_t config{};

  explicit Launch(const LaunchGrid& grid, CUstream_st* stream = nullptr) {
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim.x = unsigned(grid.parts);
    attribute.val.clusterDim.y = attribute.val.clusterDim.z = 1;
    config.gridDim = row_of(int64_t(grid.parts) * grid.groups);
    config.blockDim = dim3(threads);
    config.dynamicSmemBytes = size_t(grid.shared);
    config.stream = stream;
    config.attrs = &attribute;
    config.numAttrs = 1;
  }
  Launch(const Launch&) = delete;
};

// Returns the clusters for a batch: as many as run at once, or as many as have room for all
// captions. `parts` is the size of a cluster, `groups` their number.
template <class... Parameters>
LaunchGrid grid_of(void (*kernel)(Parameters...), int64_t batch, int64_t shared) {
  const auto none = [](const char* reason) { return LaunchGrid{0, 0, 0, reason}; };
  int device = 0, clusters = 0, most = 0;
  cudaError_t error = cudaGetDevice(&device);
  for (const auto& [number, attribute] :
       {std::pair{&clusters, cudaDevAttrClusterLaunch},
        std::pair{&most, cudaDevAttrMaxSharedMemoryPerBlockOptin}})
    if (error == cudaSuccess) error = cudaDeviceGetAttribute(number, attribute, device);
  if (error != cudaSuccess) {
    cudaGetLastError();
    return none(cudaGetErrorString(error));
  }
  if (!clusters) return none("the device has no clusters, which begin with compute capability 9.0");
  if (shared > most) return none("the states are larger than the device's shared memory");
  const std::lock_guard lock(setting_shared());
  error = allow(kernel, shared);
  for (const int size : sizes) {
    const Launch one({size, 1, shared});
    int active = 0;
    if (error == cudaSuccess) error = cudaOccupancyMaxActiveClusters(&active, kernel, &one.config);
    if (error == cudaSuccess && active > 0) {
      const int64_t least = (batch + captions - 1) / captions;
      return {size, int(std::max(least, std::min<int64_t>(active, batch))), shared};
    }
    cudaGetLastError();
    error = cudaSuccess;
  }
  return none("no cluster of 8 blocks fits the device");
}

template <class... Parameters, class... Arguments>
const char* launch(void (*kernel)(Parameters...), const LaunchGrid& grid, CUstream_st* stream,
                   const Arguments&... arguments) {
  const std::lock_guard lock(setting_shared());
  const Launch launch(grid, stream);
  cudaError_t error = allow(kernel, grid.shared);
  if (error == cudaSuccess) error = cudaLaunchKernelEx(&launch.config, kernel, arguments...);
  if (error != cudaSuccess) cudaGetLastError();
  return report(error);
}

}  // namespace aligndraw::cuda::cluster
