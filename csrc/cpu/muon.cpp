#include "../muon.h"

#include <cmath>

#include "block_kernels.h"
#include "cpu.h"
#include "round.h"
#include "vector.h"

namespace aligndraw::cpu {
namespace {

constexpr int64_t block = block_side, half = block / 2;
constexpr int64_t tile = half * half;  // pairs of rounded numbers

// A square of float numbers and its tiles. A row of a tile is 16 pairs.
using Square = float[block][block];
using Row = Vector<float, half>;
using Bits = Vector<uint32_t, half>;

void transpose_square(const Square& from, Square& to) {
  const auto bits = [](const float* at) { return (uint32_t*)at; };
  for (int64_t i = 0; i < block; i += half)
    for (int64_t j = 0; j < block; j += half)
      transpose(bits(&from[i][j]), block, bits(&to[j][i]), block);
}

template <int first>
struct Interleaved {
  static constexpr int of(int i) { return first + i / 2 + i % 2 * half; }
};

// sum = scale sum + weight * the square whose rows are in two tiles
ALIGNDRAW_CLONES void combine(Square& sum, float scale, float weight, const uint32_t* first,
                              const uint32_t* second) {
  for (int64_t r = 0; r < block; ++r) {
    Bits pairs;
    load(pairs, (r < half ? first : second) + (r % half) * half);
    const Row even = (Row)(pairs << 16), odd = (Row)(pairs & 0xffff0000);
    Row values[2];
    shuffle<Interleaved<0>>(values[0], even, odd);
    shuffle<Interleaved<half / 2>>(values[1], even, odd);
    for (int64_t i = 0; i < 2; ++i) {
      Row sums;
      load(sums, sum[r] + i * half);
      store(sum[r] + i * half, Row(scale * sums + weight * values[i]));
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

// Panels of tiles: a panel holds the tiles of 16 rows, by depth.
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

// A matrix X of R x C blocks, R <= C, in the layouts that the products read.
class Iteration {
 public:
  // The size of its workspace, in pairs.
  static int64_t size(int64_t rows, int64_t columns) {
    return (4 * columns + 3 * rows) * rows * 2 * tile;
  }

  Iteration(int64_t rows, int64_t columns, uint32_t* memory, Isa isa)
      : rows_(rows), columns_(columns), isa_(isa) {
    const int64_t count = rows * columns * 2 * tile, squares = rows * rows * 2 * tile;
    x_ = {columns, memory};
    x_turned_ = {columns, memory + count};
    x_columns_ = {rows, memory + 2 * count};
    next_columns_ = {rows, memory + 3 * count};
    a_ = {rows, memory + 4 * count};
    a_turned_ = {rows, memory + 4 * count + squares};
    s_ = {rows, memory + 4 * count + 2 * squares};
  }

  // Sets block (i, j) of X.
  void put(int64_t i, int64_t j, const Square& square) { put(i, j, square, x_columns_); }

  // X = 3.4445 X - 4.7750 A X + 2.0315 A² X, A = X Xᵀ (Jordan et al., 2024)
  void step() {
    upper([&](BlockKernel kernel, int64_t i, int64_t j, Square& square) {
      product(kernel, x_, i, x_turned_, j, square);
      put_both(a_, i, j, square);
      turn(a_, i, j, a_turned_);
      turn(a_, j, i, a_turned_);
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

  // Reads block (i, j) of X.
  void get(int64_t i, int64_t j, Square& square) const {
    std::fill_n(square[0], block * block, 0.0f);
    combine(square, 0, 1, x_.at(2 * i, j), x_.at(2 * i + 1, j));
  }

 private:
  template <class F>
  void each(int64_t count, const F& work) const {
    parallel_for(0, count, 1, [&](int64_t begin, int64_t end) {
      with_block_kernel(isa_, [&](BlockKernel kernel) {
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
    put_rows(x_, i, j, square);
    for (int64_t p : {0, 1}) pack_columns(square[0] + p * half, block, columns.at(2 * j + p, i));
    turn(x_, i, j, x_turned_);
  }

  static void put_rows(const Panels& rows, int64_t i, int64_t j, const Square& square) {
    for (int64_t p : {0, 1}) pack_rows(square[p * half], block, rows.at(2 * i + p, j));
  }

  // Rows of a symmetric matrix's block (i, j) and of (j, i).
  static void put_both(const Panels& rows, int64_t i, int64_t j, const Square& square) {
    alignas(64) Square turned;
    transpose_square(square, turned);
    put_rows(rows, i, j, square);
    put_rows(rows, j, i, turned);
  }

  // Block (i, j) of the rows, in the layout of a right operand.
  static void turn(const Panels& rows, int64_t i, int64_t j, const Panels& turned) {
    for (int64_t p : {2 * i, 2 * i + 1}) transpose(rows.at(p, j), half, turned.at(p, j), half);
  }

  int64_t rows_, columns_;
  Isa isa_;
  Panels x_, x_turned_, x_columns_, next_columns_, a_, a_turned_, s_;
};

int64_t blocks(int64_t n) { return (n + block - 1) / block; }

int64_t memory_of(const Tensor& parameter) {
  const int64_t rows = blocks(parameter.size(0)), columns = blocks(parameter.size(1));
  return Iteration::size(std::min(rows, columns), std::max(rows, columns));
}

void update(float* p, float* m, const float* g, int64_t rows, int64_t columns, float momentum,
            float step, uint32_t* memory, Isa isa) {
  constexpr int64_t part = 1 << 14;  // so that the sum does not depend on the threads
  const int64_t count = rows * columns, parts = (count + part - 1) / part;
  const Buffer<float> sums(parts);
  float* const sum = sums;
  parallel_for(0, parts, 1, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      sum[i] = follow(m + i * part, g + i * part, std::min(part, count - i * part), momentum);
  });
  double total = 0;
  for (int64_t i = 0; i < parts; ++i) total += sum[i];
  const float factor = 1 / std::max(1e-7, std::sqrt(total));

  const bool tall = rows > columns;
  Iteration x(blocks(std::min(rows, columns)), blocks(std::max(rows, columns)), memory, isa);
  // Calls work(b, i, j) for every block (i, j) of the parameter; b is the block's index in X.
  const auto each_block = [&](const auto& work) {
    parallel_for(0, blocks(rows) * blocks(columns), 1, [&](int64_t begin, int64_t end) {
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
           int64_t isa_number) {
  const size_t count = parameters.size();
  if (momenta.size() != count || gradients.size() != count || steps.size() != count)
    fail("muon_: momenta, gradients and steps must number ", count, " like parameters, got ",
         momenta.size(), ", ", gradients.size(), " and ", steps.size());
  const Isa isa = checked_isa("muon_", isa_number);
  for (size_t i = 0; i < count; ++i) {
    const Tensor& parameter = parameters[i];
    check_shape("muon_", "parameters", parameter, "[rows, columns]", {any, any});
    for (const Argument& argument : {Argument{"parameters", parameter},
                                     {"momenta", momenta[i]},
                                     {"gradients", gradients[i]}}) {
      check_shape("muon_", argument.name, argument.tensor, "[rows, columns]",
                  {parameter.size(0), parameter.size(1)});
      check_plain("muon_", argument);
    }
  }
  int64_t most = 0;
  for (const Tensor& parameter : parameters) most = std::max(most, memory_of(parameter));
  const Buffer<uint32_t> memory(most);
  for (size_t i = 0; i < count; ++i)
    if (parameters[i].numel())
      update(parameters[i].mutable_data_ptr<float>(), momenta[i].mutable_data_ptr<float>(),
             gradients[i].const_data_ptr<float>(), parameters[i].size(0), parameters[i].size(1),
             momentum, steps[i], memory, isa);
}

}  // namespace aligndraw::cpu
