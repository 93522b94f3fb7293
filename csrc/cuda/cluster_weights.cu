#include "cluster_weights.h"

#include "launch.h"
#include "number.h"

namespace aligndraw::cuda::cluster {
namespace {

constexpr int threads = 256;

// One thread per number.
template <class T, class W>
__global__ void __launch_bounds__(threads)
    pack(WeightLayout<T> layout, int64_t chunks, int64_t numbers, W* __restrict__ packed) {
  const int64_t at = int64_t(blockIdx.x) * threads + threadIdx.x;
  if (at >= numbers) return;
  const int in_chunk = int(at % (tile_rows * chunk)), groups = layout.groups;
  const int i = in_chunk / 128, g = in_chunk / 16 % 8;
  const int64_t tile = at / (tile_rows * chunk) / chunks;
  const int64_t column = at / (tile_rows * chunk) % chunks * chunk + in_chunk % 16;
  const int64_t unit = tile * (tile_rows / groups) + 8 * (i / groups) + g;
  T x = 0;
  if (unit < layout.units)
    for (const auto& segment : layout.segments) {
      const int64_t j = column - segment.at;
      if (j >= 0 && j < segment.columns)
        x = segment.data[(i % groups * layout.units + unit) * segment.row_stride +
                         j * segment.col_stride];
    }
  store(packed + at, x);
}

}  // namespace

template <class T>
const char* launch_pack(const WeightLayout<T>& layout, void* packed, bool rounds,
                        CUstream_st* stream) {
  const int64_t numbers = layout.numbers();
  if (numbers == 0) return nullptr;
  const dim3 blocks = row_of((numbers + threads - 1) / threads);
  const auto run = [&](auto* place) {
    using W = std::remove_pointer_t<decltype(place)>;
    return report(launch(pack<T, W>, blocks, dim3(threads), 0, stream, false, layout,
                         layout.chunks(), numbers, place));
  };
  if constexpr (sizeof(T) == sizeof(float))
    if (rounds) return run(static_cast<__nv_bfloat16*>(packed));
  return run(static_cast<T*>(packed));
}

template const char* launch_pack(const WeightLayout<float>&, void*, bool, CUstream_st*);
template const char* launch_pack(const WeightLayout<double>&, void*, bool, CUstream_st*);

}  // namespace aligndraw::cuda::cluster
