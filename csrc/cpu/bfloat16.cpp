#include "bfloat16.h"

#include <cstring>

#include "loop.h"
#include "vector.h"

#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__) && \
    __GNUC__ >= 11
#define ALIGNDRAW_AMX __attribute__((target("amx-tile,amx-bf16")))  // the compiler knows it
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace aligndraw::cpu {
namespace {

constexpr int64_t tile = 16;        // rows, and pairs of depth
constexpr int64_t at_once = 32;     // depth tiles whose products are formed before the next rows'
constexpr int64_t block = Tiles::block;

using Bits = Vector<uint32_t, tile>;

// The nearest bfloat16, ties to even; not a number stays so.
ALIGNDRAW_INLINE void round(Bits& bits, const float* from) {
  load(bits, from);
  const Bits nearest = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  bits = (bits & 0x7fffffff) > 0x7f800000 ? (bits >> 16) | 0x40 : nearest;
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

// A tile at the edge, as a whole one.
void copy_part(const Matrix<const float>& matrix, int64_t first_row, int64_t first_column,
               float* to) {
  for (int64_t r = 0; r < tile; ++r)
    for (int64_t k = 0; k < 2 * tile; ++k) {
      const int64_t i = first_row + r, j = first_column + k;
      const bool inside = i < matrix.rows && j < matrix.columns;
      to[r * 2 * tile + k] = inside ? matrix.data[i * matrix.row + j * matrix.column] : 0;
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

#ifdef ALIGNDRAW_AMX

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
    // Static: of one that it makes here, g++ takes the intrinsic to read the first eight bytes only.
    static const struct {
      uint8_t palette = 1, start = 0, reserved[14] = {};
      uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      uint8_t lines[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    } configuration;
    _tile_loadconfig(&configuration);
  }
  ALIGNDRAW_AMX ~AmxTiles() { _tile_release(); }
};

// Whether the processor has the tiles, and Linux lets the process use them.
bool amx_allowed() {
  unsigned a = 7, b, c = 0, d;
  __asm__("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
  constexpr long request_permission = 0x1023, tile_data = 18;
  return (d >> 22 & 1) && (d >> 24 & 1) &&
         syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
}

#endif

}  // namespace

Unit fastest_unit() {
#ifdef ALIGNDRAW_AMX
  static const Unit found = amx_allowed() ? Unit::amx : Unit::any_processor;
  return found;
#else
  return Unit::any_processor;
#endif
}

void with_kernel(Unit unit, const std::function<void(BlockKernel)>& run) {
#ifdef ALIGNDRAW_AMX
  if (unit == Unit::amx) {
    const AmxTiles tiles;
    return run(multiply_amx);
  }
#endif
  run(multiply_anywhere);
}

ALIGNDRAW_CLONES void pack_rows(const float* from, int64_t row, uint32_t* to) {
  for (int64_t r = 0; r < tile; ++r) {
    Bits left, right, even, odd;
    round(left, from + r * row);
    round(right, from + r * row + tile);
    shuffle<EveryOther<0>>(even, left, right);
    shuffle<EveryOther<1>>(odd, left, right);
    store(to + r * tile, Bits(even | odd << 16));
  }
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

Tiles::Tiles(Side side, Matrix<const float> matrix)
    : rows_(matrix.rows),
      depth_((matrix.columns + 2 * tile - 1) / (2 * tile)),
      data_((matrix.rows + block - 1) / block * 2 * depth_ * 256) {
  const bool beside = matrix.row == 1;  // rows stand side by side
  const auto pack = [&, this](int64_t i, int64_t k) {
    alignas(64) uint32_t packed[256];
    alignas(64) float part[2 * 256];
    const int64_t r = i * tile, c = k * 2 * tile;
    const bool whole = r + tile <= matrix.rows && c + 2 * tile <= matrix.columns;
    const float* const from = matrix.data + r * matrix.row + c * matrix.column;
    const bool turned = (whole && beside) == (side == Side::left);
    uint32_t *const to = data_ + (i * depth_ + k) * 256, *const now = turned ? packed : to;
    if (whole && beside) {
      pack_columns(from, matrix.column, now);
    } else if (whole && matrix.column == 1) {
      pack_rows(from, matrix.row, now);
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

void multiply(Matrix<float> result, std::initializer_list<Term> terms, bool adds, Unit unit) {
  const auto& [left, right] = *terms.begin();
  const int64_t left_blocks = (left.rows() + block - 1) / block;
  const int64_t right_blocks = (right.rows() + block - 1) / block;
  int64_t depth = 0;
  for (const Term& term : terms) depth += term.left.depth_tiles();
  if (depth == 0) {
    for (int64_t i = 0; i < (adds ? 0 : result.rows); ++i)
      std::fill_n(result.data + i * result.row, result.columns, 0.0f);
    return;
  }
  // A thread keeps to its blocks of the longer side; the other side's stay in its cache meanwhile.
  const bool by_right = right_blocks >= left_blocks;
  const int64_t outer = by_right ? right_blocks : left_blocks;
  const int64_t inner = by_right ? left_blocks : right_blocks;
  const auto multiply_block = [&](BlockKernel kernel, int64_t m, int64_t n, int64_t from, int64_t to) {
    const int64_t height = std::min(block, result.rows - m * block);
    const int64_t width = std::min(block, result.columns - n * block);
    float* const place = result.data + m * block * result.row + n * block;
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
               whole ? result.row : block, !first_term);
        first_term = false;
      }
      begin = end;
    }
    for (int64_t r = 0; r < (whole ? 0 : height); ++r) {
      if (added)
        add_row(place + r * result.row, sums + r * block, width);
      else
        std::copy_n(sums + r * block, width, place + r * result.row);
    }
  };
  for_row_ranges(outer, inner * depth * block, [&](int64_t begin, int64_t end) {
    with_kernel(unit, [&](BlockKernel kernel) {
      for (int64_t from = 0; from < depth; from += at_once)
        for (int64_t i = begin; i < end; ++i)
          for (int64_t j = 0; j < inner; ++j)
            multiply_block(kernel, by_right ? j : i, by_right ? i : j, from,
                           std::min(from + at_once, depth));
    });
  });
}

int64_t bf16_unit() { return int64_t(fastest_unit()); }

Tensor bf16_product(Tensor left, Tensor right, int64_t unit) {
  check_shape("bf16_product", "left", left, "[m, k]", {any, any});
  check_shape("bf16_product", "right", right, "[n, k]", {any, left.size(1)});
  for (const Argument& factor : {Argument{"left", left}, Argument{"right", right}})
    if (factor.tensor.scalar_type() != ScalarType::Float)
      fail("bf16_product: ", factor.name, " must be float32, got ",
           dtype_text(factor.tensor.scalar_type()));
  if (unit < 0 || unit > bf16_unit())
    fail("bf16_product: unit must be in 0 ... ", bf16_unit(), " on this machine, got ", unit);
  const auto matrix = [](const Tensor& tensor) {
    return Matrix<const float>{tensor.const_data_ptr<float>(), tensor.size(0), tensor.size(1),
                               tensor.stride(0), tensor.stride(1)};
  };
  check_sizes("bf16_product", "the product", {left.size(0), right.size(0)});
  const Tensor result = pooled({left.size(0), right.size(0)}, left.scalar_type());
  const Tiles lefts(Tiles::Side::left, matrix(left)), rights(Tiles::Side::right, matrix(right));
  multiply({result.mutable_data_ptr<float>(), left.size(0), right.size(0), right.size(0)},
           {{lefts, rights}}, false, Unit(unit));
  return result;
}

}  // namespace aligndraw::cpu
