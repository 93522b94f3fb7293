#include "compiler.h"

#ifdef ALIGNDRAW_X86
#include <immintrin.h>

#include "block_kernels.h"

#define ALIGNDRAW_AMX ALIGNDRAW_TARGET(ALIGNDRAW_AMX_ISA)

namespace aligndraw::cpu {
namespace {

constexpr int64_t tile = 16;  // lines of a tile, and pairs or numbers of a line

// Eight tiles of 16 lines of 64 bytes.
ALIGNDRAW_AMX void configure_tiles() {
  // Static: of one that it makes here, g++ takes the intrinsic to read the first eight bytes only.
  static const struct {
    uint8_t palette = 1, start = 0, reserved[14] = {};
    uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t lines[16] = {16, 16, 16, 16, 16, 16, 16, 16};
  } configuration;
  _tile_loadconfig(&configuration);
}

ALIGNDRAW_AMX void release_tiles() { _tile_release(); }

// Tiles 0 to 3 hold the sums, 4 and 5 left tiles, 6 and 7 right tiles:
//
//              6       7
//      4    |  0   |   1
//      5    |  2   |   3
ALIGNDRAW_AMX void multiply_block(const uint32_t* const* left, const uint32_t* const* right,
                                  int left_tiles, int64_t depth, float* result, int64_t row_stride,
                                  bool accumulate) {
  const int64_t pitch = row_stride * sizeof(float), line = tile * sizeof(uint32_t);
  float* const below = result + tile * row_stride;
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  if (accumulate) {
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

}  // namespace

const BlockKernels* amx_blocks() {
  static constexpr BlockKernels kernels{multiply_block, configure_tiles, release_tiles};
  return &kernels;
}

}  // namespace aligndraw::cpu
#else
#include "block_kernels.h"

const aligndraw::cpu::BlockKernels* aligndraw::cpu::amx_blocks() { return nullptr; }
#endif
