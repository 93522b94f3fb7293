// The kernel of block_kernels.h in the compiler's own vectors.
#include "block_kernels.h"
#include "compiler.h"
#include "vector.h"

namespace aligndraw::cpu {
namespace {

constexpr int64_t tile = 16;  // rows, and pairs of k

using Bits = Vector<uint32_t, tile>;

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

ALIGNDRAW_CLONES void multiply_block(const uint32_t* const* left, const uint32_t* const* right,
                                     int left_tiles, int64_t depth, float* result,
                                     int64_t row_stride, bool accumulate) {
  constexpr int few = 4;
  using V = Vector<float, tile>;
  for (int i = 0; i < left_tiles; ++i)
    for (int j = 0; j < 2; ++j)
      for (int64_t first = 0; first < tile; first += few) {
        float* const to = result + (i * tile + first) * row_stride + j * tile;
        V total[few] = {};
#pragma GCC unroll 4
        for (int r = 0; accumulate && r < few; ++r) load(total[r], to + r * row_stride);
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
        for (int r = 0; r < few; ++r) store(to + r * row_stride, total[r]);
      }
}

}  // namespace

const BlockKernels& block_kernels(Isa isa) {
  static constexpr BlockKernels portable{multiply_block, nullptr, nullptr};
  if (isa == Isa::amx) return *amx_blocks();
  return isa == Isa::avx512_bf16 ? *avx512_bf16_blocks() : portable;
}

}  // namespace aligndraw::cpu
