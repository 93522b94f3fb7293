// The packing of tiles.h.
#include "tiles.h"

#include "block_kernels.h"
#include "round.h"

namespace aligndraw::cpu {
namespace {

constexpr int64_t tile = 16;  // rows, and pairs of k

// A tile at the edge, as a whole one.
void copy_part(const Matrix<const float>& matrix, int64_t first_row, int64_t first_column,
               float* to) {
  for (int64_t r = 0; r < tile; ++r)
    for (int64_t k = 0; k < 2 * tile; ++k) {
      const int64_t i = first_row + r, j = first_column + k;
      const bool inside = i < matrix.rows && j < matrix.columns;
      to[r * 2 * tile + k] =
          inside ? matrix.data[i * matrix.row_stride + j * matrix.col_stride] : 0;
    }
}

}  // namespace

Tiles::Tiles(Side side, Matrix<const float> matrix)
    : rows_(matrix.rows),
      depth_((matrix.columns + 2 * tile - 1) / (2 * tile)),
      data_((matrix.rows + block_side - 1) / block_side * 2 * depth_ * 256) {
  const bool beside = matrix.row_stride == 1;  // rows stand side by side
  const auto pack = [&, this](int64_t i, int64_t k) {
    alignas(64) uint32_t packed[256];
    alignas(64) float part[2 * 256];
    const int64_t r = i * tile, c = k * 2 * tile;
    const bool whole = r + tile <= matrix.rows && c + 2 * tile <= matrix.columns;
    const float* const from = matrix.data + r * matrix.row_stride + c * matrix.col_stride;
    const bool turned = (whole && beside) == (side == Side::left);
    uint32_t *const to = data_ + (i * depth_ + k) * 256, *const now = turned ? packed : to;
    if (whole && beside) {
      pack_columns(from, matrix.col_stride, now);
    } else if (whole && matrix.col_stride == 1) {
      pack_rows(from, matrix.row_stride, now);
    } else {
      copy_part(matrix, r, c, part);
      pack_rows(part, 2 * tile, now);
    }
    if (turned) transpose(packed, tile, to, tile);
  };
  const int64_t panels = (rows_ + block_side - 1) / block_side * 2;  // an even number
  for_row_ranges(panels, depth_ * 256, [&, this](int64_t begin, int64_t end) {
    // In the order of the matrix's memory.
    if (beside) {
      for (int64_t k = 0; k < depth_; ++k)
        for (int64_t i = begin; i < end; ++i) pack(i, k);
    } else {
      for (int64_t i = begin; i < end; ++i)
        for (int64_t k = 0; k < depth_; ++k) pack(i, k);
    }
  });
}

}  // namespace aligndraw::cpu
