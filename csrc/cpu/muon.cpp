#include "../muon.h"

#include <cmath>

#include "bfloat16.h"
#include "vector.h"

namespace aligndraw::cpu {
namespace {

constexpr int64_t block = Tiles::block, half = block / 2;
constexpr int64_t tile = half * half;  // pairs of rounded numbers

// A square of float numbers, and tiles made of it; a row of a tile is 16 pairs.
using Square = float[block][block];
using Row = Vector<float, half>;
using Bits = Vector<uint32_t, half>;

ALIGNDRAW_INLINE void round(Bits& bits, const float* from) {
  load(bits, from);
  bits = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;  // the nearest bfloat16, ties to even
}

// The pairs of one row's neighbours: rows first ... first + 15.
ALIGNDRAW_INLINE void pack_rows(const Square& square, int64_t first, uint32_t* to) {
  constexpr Bits even = {0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30};
  for (int64_t r = 0; r < half; ++r) {
    Bits left, right;
    round(left, square[first + r]);
    round(right, square[first + r] + half);
    const Bits upper = __builtin_shuffle(left, right, even);
    store(to + r * half, Bits(upper | __builtin_shuffle(left, right, even + 1) << 16));
  }
}

// The pairs of one column's neighbours: columns first ... first + 15.
ALIGNDRAW_INLINE void pack_columns(const Square& square, int64_t first, uint32_t* to) {
  for (int64_t p = 0; p < half; ++p) {
    Bits upper, lower;
    round(upper, &square[2 * p][first]);
    round(lower, &square[2 * p + 1][first]);
    store(to + p * half, Bits(upper | lower << 16));
  }
}

// As four times four squares of 4 x 4: four rounds, each of which swaps halves of pairs of rows.
template <class T>
ALIGNDRAW_INLINE void transpose(const T* from, int64_t from_row, T* to, int64_t to_row) {
  using V = Vector<T, half>;
  using Lanes = Vector<uint32_t, half>;
  V rows[half];
#pragma GCC unroll 16
  for (int i = 0; i < half; ++i) load(rows[i], from + i * from_row);
#pragma GCC unroll 4
  for (int distance = 8; distance; distance /= 2) {
    Lanes upper, lower;
#pragma GCC unroll 16
    for (int lane = 0; lane < half; ++lane) {
      upper[lane] = lane & distance ? 16 + lane - distance : lane;
      lower[lane] = lane & distance ? 16 + lane : lane + distance;
    }
#pragma GCC unroll 16
    for (int i = 0; i < half; ++i) {
      if (i & distance) continue;
      const V a = rows[i], b = rows[i + distance];
      rows[i] = __builtin_shuffle(a, b, upper);
      rows[i + distance] = __builtin_shuffle(a, b, lower);
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < half; ++i) store(to + i * to_row, rows[i]);
}

ALIGNDRAW_CLONES void transpose_tile(const uint32_t* from, uint32_t* to) {
  transpose(from, half, to, half);
}

ALIGNDRAW_CLONES void transpose_square(const Square& from, Square& to) {
  for (int64_t i = 0; i < block; i += half)
    for (int64_t j = 0; j < block; j += half)
      transpose(&from[i][j], block, &to[j][i], block);
}

ALIGNDRAW_CLONES void rows_of(const Square& square, uint32_t* first, uint32_t* second) {
  pack_rows(square, 0, first);
  pack_rows(square, half, second);
}

ALIGNDRAW_CLONES void columns_of(const Square& square, uint32_t* first, uint32_t* second) {
  pack_columns(square, 0, first);
  pack_columns(square, half, second);
}

// sum = scale sum + weight * the square whose rows are in two tiles
ALIGNDRAW_CLONES void combine(Square& sum, float scale, float weight, const uint32_t* first,
                              const uint32_t* second) {
  constexpr Bits left = {0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23};
  for (int64_t r = 0; r < block; ++r) {
    Bits pairs;
    load(pairs, (r < half ? first : second) + (r % half) * half);
    const Row even = (Row)(pairs << 16), odd = (Row)(pairs & 0xffff0000);
    for (int64_t i = 0; i < 2; ++i) {
      Row sums;
      load(sums, sum[r] + i * half);
      sums = scale * sums + weight * __builtin_shuffle(even, odd, left + uint32_t(8 * i));
      store(sum[r] + i * half, sums);
    }
  }
}

// m = momentum m + (1 - momentum) g, and the sum of squares of momentum m + (1 - momentum) g.
ALIGNDRAW_CLONES float follow(float* __restrict m, const float* __restrict g, int64_t n,
                              float momentum) {
  return sum_of<float>(n, [=](int64_t j) {
    m[j] = momentum * m[j] + (1 - momentum) * g[j];
    const float ahead = momentum * m[j] + (1 - momentum) * g[j];
    return ahead * ahead;
  });
}

// Panels of tiles: of each 16 rows, those of all depth follow one another.
struct Panels {
  int64_t depth;
  uint32_t* data;
  uint32_t* at(int64_t panel, int64_t k) const { return data + (panel * depth + k) * tile; }
};

// sums = the product of panels 2 i, 2 i + 1 and 2 j, 2 j + 1.
void product(BlockKernel kernel, const Panels& left, int64_t i, const Panels& right, int64_t j,
             Square& sums) {
  const uint32_t* const lefts[] = {left.at(2 * i, 0), left.at(2 * i + 1, 0)};
  const uint32_t* const rights[] = {right.at(2 * j, 0), right.at(2 * j + 1, 0)};
  kernel(lefts, rights, 2, left.depth, sums[0], block, false);
}

// A matrix X of R x C blocks, R no more than C, in the forms in which the products read it.
class Iteration {
 public:
  // Pairs of the memory that it works in.
  static int64_t size(int64_t rows, int64_t columns) {
    return (4 * columns + 3 * rows) * rows * 2 * tile;
  }

  Iteration(int64_t rows, int64_t columns, uint32_t* memory, Unit unit)
      : rows_(rows), columns_(columns), unit_(unit) {
    const int64_t count = rows * columns * 2 * tile, squares = rows * rows * 2 * tile;
    x_ = {columns, memory};
    x_turned_ = {columns, memory + count};
    x_columns_ = {rows, memory + 2 * count};
    next_columns_ = {rows, memory + 3 * count};
    a_ = {rows, memory + 4 * count};
    a_turned_ = {rows, memory + 4 * count + squares};
    s_ = {rows, memory + 4 * count + 2 * squares};
  }

  // Takes X's block (i, j).
  void put(int64_t i, int64_t j, const Square& square) { put(i, j, square, x_columns_); }

  // X = 3.4445 X - 4.7750 A X + 2.0315 A² X, A = X Xᵀ (Jordan et al., 2024)
  void step() {
    upper([&](BlockKernel kernel, int64_t i, int64_t j, Square& square) {
      product(kernel, x_, i, x_turned_, j, square);
      put_both(a_, i, j, square);
      for (int64_t p : {2 * i, 2 * i + 1}) transpose_tile(a_.at(p, j), a_turned_.at(p, j));
      for (int64_t p : {2 * j, 2 * j + 1}) transpose_tile(a_.at(p, i), a_turned_.at(p, i));
    });
    upper([&](BlockKernel kernel, int64_t i, int64_t j, Square& square) {
      product(kernel, a_, i, a_turned_, j, square);
      combine(square, 2.0315f, -4.7750f, a_.at(2 * i, j), a_.at(2 * i + 1, j));
      put_both(s_, i, j, square);
    });
    each(rows_ * columns_, [&](BlockKernel kernel, int64_t n, Square& square) {
      const int64_t i = n % rows_, j = n / rows_;
      product(kernel, s_, i, x_columns_, j, square);
      combine(square, 1, 3.4445f, x_.at(2 * i, j), x_.at(2 * i + 1, j));
      put(i, j, square, next_columns_);
    });
    std::swap(x_columns_.data, next_columns_.data);
  }

  // Gives X's block (i, j).
  void get(int64_t i, int64_t j, Square& square) const {
    std::fill_n(square[0], block * block, 0.0f);
    combine(square, 0, 1, x_.at(2 * i, j), x_.at(2 * i + 1, j));
  }

 private:
  template <class F>
  void each(int64_t count, const F& work) const {
    torch::stable::parallel_for(0, count, 1, [&](int64_t begin, int64_t end) {
      with_kernel(unit_, [&](BlockKernel kernel) {
        alignas(64) Square square;
        for (int64_t n = begin; n < end; ++n) work(kernel, n, square);
      });
    });
  }

  // The blocks (i, j) with i <= j of a symmetric matrix.
  template <class F>
  void upper(const F& work) const {
    each(rows_ * (rows_ + 1) / 2, [&](BlockKernel kernel, int64_t n, Square& square) {
      int64_t i = 0;
      while (n >= rows_ - i) n -= rows_ - i++;
      work(kernel, i, i + n, square);
    });
  }

  void put(int64_t i, int64_t j, const Square& square, const Panels& columns) {
    rows_of(square, x_.at(2 * i, j), x_.at(2 * i + 1, j));
    columns_of(square, columns.at(2 * j, i), columns.at(2 * j + 1, i));
    for (int64_t p : {2 * i, 2 * i + 1}) transpose_tile(x_.at(p, j), x_turned_.at(p, j));
  }

  // Rows of a symmetric matrix's block (i, j) and of (j, i).
  void put_both(const Panels& rows, int64_t i, int64_t j, const Square& square) const {
    alignas(64) Square turned;
    transpose_square(square, turned);
    rows_of(square, rows.at(2 * i, j), rows.at(2 * i + 1, j));
    rows_of(turned, rows.at(2 * j, i), rows.at(2 * j + 1, i));
  }

  int64_t rows_, columns_;
  Unit unit_;
  Panels x_, x_turned_, x_columns_, next_columns_, a_, a_turned_, s_;
};

int64_t blocks(int64_t n) { return (n + block - 1) / block; }

int64_t memory_of(const Tensor& parameter) {
  const int64_t rows = blocks(parameter.size(0)), columns = blocks(parameter.size(1));
  return Iteration::size(std::min(rows, columns), std::max(rows, columns));
}

void update(float* p, float* m, const float* g, int64_t rows, int64_t columns, float momentum,
            float step, uint32_t* memory, Unit unit) {
  constexpr int64_t part = 1 << 14;  // so that the sum does not depend on the threads
  const int64_t count = rows * columns, parts = (count + part - 1) / part;
  const Buffer<float> sums(parts);
  float* const sum = sums;
  torch::stable::parallel_for(0, parts, 1, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      sum[i] = follow(m + i * part, g + i * part, std::min(part, count - i * part), momentum);
  });
  double total = 0;
  for (int64_t i = 0; i < parts; ++i) total += sum[i];
  const float factor = 1 / std::max(1e-7, std::sqrt(total));

  const bool tall = rows > columns;
  Iteration x(blocks(std::min(rows, columns)), blocks(std::max(rows, columns)), memory, unit);
  // Calls work(b, i, j) for every block (i, j) of the parameter, which is X's block b[0], b[1].
  const auto each_block = [&](const auto& work) {
    torch::stable::parallel_for(0, blocks(rows) * blocks(columns), 1, [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n) {
        const int64_t i = n / blocks(columns), j = n % blocks(columns);
        const int64_t height = std::min(block, rows - i * block);
        const int64_t width = std::min(block, columns - j * block);
        work(tall ? j : i, tall ? i : j, (i * columns + j) * block, height, width);
      }
    });
  };
  each_block([&](int64_t i, int64_t j, int64_t first, int64_t height, int64_t width) {
    alignas(64) Square square = {}, turned;
    for (int64_t r = 0; r < height; ++r)
      for (int64_t c = 0; c < width; ++c) {
        const int64_t at = first + r * columns + c;
        square[r][c] = factor * (momentum * m[at] + (1 - momentum) * g[at]);
      }
    if (tall) transpose_square(square, turned);
    x.put(i, j, tall ? turned : square);
  });
  for (int i = 0; i < 5; ++i) x.step();
  each_block([&](int64_t i, int64_t j, int64_t first, int64_t height, int64_t width) {
    alignas(64) Square square, turned;
    x.get(i, j, square);
    if (tall) transpose_square(square, turned);
    for (int64_t r = 0; r < height; ++r)
      for (int64_t c = 0; c < width; ++c)
        p[first + r * columns + c] -= step * (tall ? turned : square)[r][c];
  });
}

}  // namespace

void muon_(std::vector<Tensor> parameters, std::vector<Tensor> momenta,
           std::vector<Tensor> gradients, double momentum, std::vector<double> steps,
           int64_t unit) {
  const size_t count = parameters.size();
  if (momenta.size() != count || gradients.size() != count || steps.size() != count)
    fail("muon_: momenta, gradients and steps must number ", count, " like parameters, got ",
         momenta.size(), ", ", gradients.size(), " and ", steps.size());
  if (unit < 0 || unit > bf16_unit())
    fail("muon_: unit must be in 0 ... ", bf16_unit(), " on this machine, got ", unit);
  for (size_t i = 0; i < count; ++i) {
    const Tensor& parameter = parameters[i];
    check_shape("muon_", "parameters", parameter, "[rows, columns]", {any, any});
    for (const Argument& argument : {Argument{"parameters", parameter},
                                     {"momenta", momenta[i]}, {"gradients", gradients[i]}}) {
      const Tensor& tensor = argument.tensor;
      check_shape("muon_", argument.name, tensor, "[rows, columns]",
                  {parameter.size(0), parameter.size(1)});
      if (tensor.scalar_type() != ScalarType::Float || !tensor.is_contiguous() || !tensor.is_cpu())
        fail("muon_: ", argument.name, " must be contiguous float32 tensors on the CPU");
    }
  }
  int64_t most = 0;
  for (const Tensor& parameter : parameters) most = std::max(most, memory_of(parameter));
  const Buffer<uint32_t> memory(most);
  for (size_t i = 0; i < count; ++i)
    if (parameters[i].numel())
      update(parameters[i].mutable_data_ptr<float>(), momenta[i].mutable_data_ptr<float>(),
             gradients[i].const_data_ptr<float>(), parameters[i].size(0), parameters[i].size(1),
             momentum, steps[i], memory, Unit(unit));
}

}  // namespace aligndraw::cpu
