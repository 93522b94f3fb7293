#include "bfloat16.h"

#include <cstring>

#include "compiler.h"
#include "loop.h"
#include "vector.h"

#ifdef ALIGNDRAW_X86
#include <immintrin.h>

#define ALIGNDRAW_AMX ALIGNDRAW_TARGET(ALIGNDRAW_AMX_ISA)
#endif

namespace aligndraw::cpu {
namespace {

constexpr int64_t tile = 16;     // rows, and pairs of depth
constexpr int64_t at_once = 32;  // depth tiles whose products are formed before the next rows'
constexpr int64_t block = Tiles::block;

using Bits = Vector<uint32_t, tile>;

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

ALIGNDRAW_INLINE float low(uint32_t pair) {
  pair <<= 16;
  float value;
  std::memcpy(&value, &pair, sizeof value);
  return value;
}

ALIGNDRAW_INLINE float high(uint32_t pair) {
  pair &= 0xffff0000;
  float value;
  std::memcpy(&value, &pair, sizeof value);
  return value;
}

ALIGNDRAW_CLONES void multiply_anywhere(const uint32_t* const* left, const uint32_t* const* right,
                                        int left_tiles, int64_t depth, float* result, int64_t row,
                                        bool adds) {
  constexpr int few = 4;
  using V = Vector<float, tile>;
  for (int i = 0; i < left_tiles; ++i)
    for (int j = 0; j < 2; ++j)
      for (int64_t first = 0; first < tile; first += few) {
        float* const to = result + (i * tile + first) * row + j * tile;
        V total[few] = {};
#pragma GCC unroll 4
        for (int r = 0; adds && r < few; ++r) load(total[r], to + r * row);
        for (int64_t k = 0; k < depth; ++k)
          for (int64_t p = 0; p < tile; ++p) {
            const uint32_t* const pairs = left[i] + k * 256 + first * tile + p;
            Bits both;
            load(both, right[j] + k * 256 + p * tile);
            const V even = (V)(both << 16), odd = (V)(both & 0xffff0000);
#pragma GCC unroll 4
            for (int r = 0; r < few; ++r)
              total[r] += low(pairs[r * tile]) * even + high(pairs[r * tile]) * odd;
          }
#pragma GCC unroll 4
        for (int r = 0; r < few; ++r) store(to + r * row, total[r]);
      }
}

#ifdef ALIGNDRAW_X86

ALIGNDRAW_AMX void multiply_amx(const uint32_t* const* left, const uint32_t* const* right,
                                int left_tiles, int64_t depth, float* result, int64_t row,
                                bool adds) {
  const int64_t pitch = row * sizeof(float), line = tile * sizeof(uint32_t);
  float* const below = result + tile * row;
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  if (adds) {
    _tile_loadd(0, result, pitch);
    _tile_loadd(1, result + tile, pitch);
    if (left_tiles == 2) {
      _tile_loadd(2, below, pitch);
      _tile_loadd(3, below + tile, pitch);
    }
  }
  if (left_tiles == 1) {
    for (int64_t k = 0; k < depth; ++k) {
      _tile_loadd(4, left[0] + k * 256, line);
      _tile_loadd(6, right[0] + k * 256, line);
      _tile_dpbf16ps(0, 4, 6);
      _tile_loadd(7, right[1] + k * 256, line);
      _tile_dpbf16ps(1, 4, 7);
    }
  } else {
    for (int64_t k = 0; k < depth; ++k) {
      _tile_loadd(4, left[0] + k * 256, line);
      _tile_loadd(6, right[0] + k * 256, line);
      _tile_dpbf16ps(0, 4, 6);
      _tile_loadd(7, right[1] + k * 256, line);
      _tile_dpbf16ps(1, 4, 7);
      _tile_loadd(5, left[1] + k * 256, line);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(2, below, pitch);
    _tile_stored(3, below + tile, pitch);
  }
  _tile_stored(0, result, pitch);
  _tile_stored(1, result + tile, pitch);
}

// While one lives, this thread's tiles are 16 lines of 64 bytes.
class AmxTiles {
 public:
  ALIGNDRAW_AMX AmxTiles() {
    // Static: of one that it makes here, g++ takes the intrinsic to read the first eight bytes
    // only.
    static const struct {
      uint8_t palette = 1, start = 0, reserved[14] = {};
      uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      uint8_t lines[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    } configuration;
    _tile_loadconfig(&configuration);
  }
  ALIGNDRAW_AMX ~AmxTiles() { _tile_release(); }
};

#endif

}  // namespace

void with_kernel(Isa isa, const std::function<void(BlockKernel)>& run) {
#ifdef ALIGNDRAW_X86
  if (isa == Isa::amx) {
    const AmxTiles tiles;
    return run(multiply_amx);
  }
  if (isa == Isa::avx512_bf16) return run(multiply_block_avx512_bf16);
#endif
  run(multiply_anywhere);
}

Tiles::Tiles(Side side, Matrix<const float> matrix)
    : rows_(matrix.rows),
      depth_((matrix.columns + 2 * tile - 1) / (2 * tile)),
      data_((matrix.rows + block - 1) / block * 2 * depth_ * 256) {
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
  const int64_t panels = (rows_ + block - 1) / block * 2;  // an even number
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

void multiply(Matrix<float> result, std::initializer_list<Term> terms, bool adds, Isa isa) {
  const auto& [left, right] = *terms.begin();
  const int64_t left_blocks = (left.rows() + block - 1) / block;
  const int64_t right_blocks = (right.rows() + block - 1) / block;
  int64_t depth = 0;
  for (const Term& term : terms) depth += term.left.depth_tiles();
  if (depth == 0) {
    for (int64_t i = 0; i < (adds ? 0 : result.rows); ++i)
      std::fill_n(result.data + i * result.row_stride, result.columns, 0.0f);
    return;
  }
  // A thread keeps to its blocks of the longer side; the other side's stay in its cache meanwhile.
  const bool by_right = right_blocks >= left_blocks;
  const int64_t outer = by_right ? right_blocks : left_blocks;
  const int64_t inner = by_right ? left_blocks : right_blocks;
  const auto multiply_block = [&](BlockKernel kernel, int64_t m, int64_t n, int64_t from,
                                  int64_t to) {
    const int64_t height = std::min(block, result.rows - m * block);
    const int64_t width = std::min(block, result.columns - n * block);
    float* const place = result.data + m * block * result.row_stride + n * block;
    // What adds to the result is summed by itself first: long sums err less in parts.
    const bool added = adds || from > 0, whole = height == block && width == block && !added;
    alignas(64) float sums[block * block];
    const int left_tiles = 2 * m + 1 < left.row_tiles() ? 2 : 1;
    bool first_term = true;
    int64_t begin = 0;  // of a term, in the depth of all
    for (const Term& term : terms) {
      const int64_t end = begin + term.left.depth_tiles();
      const int64_t first = std::max(from, begin), last = std::min(to, end);
      if (first < last) {
        const int64_t k = first - begin;
        const uint32_t* const lefts[] = {term.left.at(2 * m, k), term.left.at(2 * m + 1, k)};
        const uint32_t* const rights[] = {term.right.at(2 * n, k), term.right.at(2 * n + 1, k)};
        kernel(lefts, rights, left_tiles, last - first, whole ? place : sums,
               whole ? result.row_stride : block, !first_term);
        first_term = false;
      }
      begin = end;
    }
    for (int64_t r = 0; r < (whole ? 0 : height); ++r) {
      if (added)
        add_row(place + r * result.row_stride, sums + r * block, width);
      else
        std::copy_n(sums + r * block, width, place + r * result.row_stride);
    }
  };
  for_row_ranges(outer, inner * depth * block, [&](int64_t begin, int64_t end) {
    with_kernel(isa, [&](BlockKernel kernel) {
      for (int64_t from = 0; from < depth; from += at_once)
        for (int64_t i = begin; i < end; ++i)
          for (int64_t j = 0; j < inner; ++j)
            multiply_block(kernel, by_right ? j : i, by_right ? i : j, from,
                           std::min(from + at_once, depth));
    });
  });
}

}  // namespace aligndraw::cpu
