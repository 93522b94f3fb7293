// Weights as the tensor cores of the cluster form take them: no CUDA, no torch.
#pragma once
#include "../math/scalar.h"
#include "loop.h"

namespace aligndraw::cuda::cluster {

constexpr int captions = 16;   // of a cluster: the columns of a product
constexpr int tile_rows = 32;  // of a product of one warp
constexpr int chunk = 16;      // the k that a warp multiplies at once

ALIGNDRAW_INLINE int64_t chunks_of(int64_t columns) { return (columns + chunk - 1) / chunk; }
ALIGNDRAW_INLINE int64_t whole_chunks(int64_t columns) { return chunks_of(columns) * chunk; }

// Weights [groups * units, k], a row per gate g and unit u: g * units + u. A tile has all rows of
// 32 / groups units, so that one thread finishes a unit. The columns are up to three segments;
// segment i has element (row, j) at column at + j.
template <class T>
struct WeightLayout {
  struct Segment {
    const T* data = nullptr;
    int64_t row_stride = 0, col_stride = 1;
    int64_t columns = 0, at = 0;
  };
  int64_t units;
  int groups;
  Segment segments[3];

  int64_t tiles() const { return (units * groups + tile_rows - 1) / tile_rows; }
  int64_t chunks() const {
    int64_t end = 0;
    for (const Segment& s : segments) end = s.at + s.columns > end ? s.at + s.columns : end;
    return chunks_of(end);
  }
  int64_t numbers() const { return tiles() * chunks() * tile_rows * chunk; }
};

// The packed weights, zeros beyond the last row and column:
//
//   [tile][chunk][i = 0 ... 3][lane (g, t)][4]:   row 8i + g of the tile, columns 4t ... 4t + 3 of
//   the chunk
//
// Row 8i + g of a tile is gate i % groups of its unit 8 (i / groups) + g.
struct PackedWeights {
  const void* data = nullptr;
  int units = 0, groups = 1, tiles = 0, chunks = 0;
  bool rounded = false;  // to bfloat16; then the states that they are multiplied with are too
};

// Packs weights to `packed`, which has numbers() of T, or with `rounds` of bfloat16. Returns
// nullptr or CUDA's error message.
template <class T>
const char* launch_pack(const WeightLayout<T>& layout, void* packed, bool rounds,
                        CUstream_st* stream);

}  // namespace aligndraw::cuda::cluster
