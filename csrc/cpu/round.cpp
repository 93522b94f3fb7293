#include "round.h"

#include "compiler.h"
#include "vector.h"

namespace aligndraw::cpu {
namespace {

constexpr int tile = strip;
using Bits = Vector<uint32_t, tile>;

// The nearest bfloat16, ties to even, in the low half; NaN stays NaN.
ALIGNDRAW_INLINE uint32_t rounded(uint32_t bits) {
  const uint32_t nearest = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  return (bits & 0x7fffffff) > 0x7f800000 ? (bits >> 16) | 0x40 : nearest;
}

ALIGNDRAW_INLINE void round(Bits& bits, const float* from) {
  load(bits, from);
  const Bits nearest = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  bits = (bits & 0x7fffffff) > 0x7f800000 ? (bits >> 16) | 0x40 : nearest;
}

ALIGNDRAW_INLINE uint32_t bits_of(const float* from) {
  uint32_t bits;
  std::memcpy(&bits, from, sizeof bits);
  return bits;
}

template <int first>
struct EveryOther {
  static constexpr int of(int i) { return 2 * i + first; }
};

// Rows i and i + distance of a matrix of which they are to swap two squares of `distance` elements.
template <int distance>
struct SwappedAbove {
  static constexpr int of(int i) { return i & distance ? tile + i - distance : i; }
};
template <int distance>
struct SwappedBelow {
  static constexpr int of(int i) { return i & distance ? tile + i : i + distance; }
};

template <int distance>
ALIGNDRAW_INLINE void swap_squares(Bits (&rows)[tile]) {
#pragma GCC unroll 16
  for (int i = 0; i < tile; ++i) {
    if (i & distance) continue;
    const Bits above = rows[i], below = rows[i + distance];
    shuffle<SwappedAbove<distance>>(rows[i], above, below);
    shuffle<SwappedBelow<distance>>(rows[i + distance], above, below);
  }
}

// 16 pairs of 32 numbers.
ALIGNDRAW_INLINE void pack_sixteen(const float* from, uint32_t* to) {
  Bits left, right, even, odd;
  round(left, from);
  round(right, from + tile);
  shuffle<EveryOther<0>>(even, left, right);
  shuffle<EveryOther<1>>(odd, left, right);
  store(to, Bits(even | odd << 16));
}

}  // namespace

ALIGNDRAW_CLONES void pack_rows(const float* from, int64_t row, uint32_t* to) {
  for (int64_t r = 0; r < tile; ++r) pack_sixteen(from + r * row, to + r * tile);
}

ALIGNDRAW_CLONES void pack_columns(const float* from, int64_t row, uint32_t* to) {
  for (int64_t p = 0; p < tile; ++p) {
    Bits even, odd;
    round(even, from + 2 * p * row);
    round(odd, from + (2 * p + 1) * row);
    store(to + p * tile, Bits(even | odd << 16));
  }
}

ALIGNDRAW_CLONES void transpose(const uint32_t* from, int64_t from_row, uint32_t* to,
                                int64_t to_row) {
  Bits rows[tile];
#pragma GCC unroll 16
  for (int i = 0; i < tile; ++i) load(rows[i], from + i * from_row);
  swap_squares<8>(rows);
  swap_squares<4>(rows);
  swap_squares<2>(rows);
  swap_squares<1>(rows);
#pragma GCC unroll 16
  for (int i = 0; i < tile; ++i) store(to + i * to_row, rows[i]);
}

ALIGNDRAW_CLONES void pack_row(const float* from, int64_t n, uint32_t* to) {
  int64_t k = 0;
  for (; k + 2 * tile <= n; k += 2 * tile) pack_sixteen(from + k, to + k / 2);
  for (; k < n; k += 2)
    to[k / 2] = rounded(bits_of(from + k)) | (k + 1 < n ? rounded(bits_of(from + k + 1)) << 16 : 0);
}

ALIGNDRAW_CLONES void round_row(float* row, int64_t n) {
  for (int64_t k = 0; k < n; ++k) {
    const uint32_t bits = rounded(bits_of(row + k)) << 16;
    std::memcpy(row + k, &bits, sizeof bits);
  }
}

}  // namespace aligndraw::cpu
