// The products of csrc/cuda/mma.h against sums in float64, for test_cuda_clusters.py. Prints the
// first number that is too far off, else "ok".
#include <cmath>
#include <cstdio>
#include <random>
#include <vector>

#include "launch.h"
#include "mma.h"
#include "number.h"

using namespace aligndraw::cuda;

namespace {
constexpr int rows = 32, columns = 16, depth = 16;

// One warp: weights [rows, depth] times states [columns, depth], added to 1.
template <class T, class W>
__global__ void product(const W* weights, const T* states, T* results) {
  const int g = threadIdx.x / 4, t = threadIdx.x % 4;
  mma::Quad<W> row[4];
  mma::Quad<T> column[2];
  for (int k = 0; k < 4; ++k) {
    for (int i = 0; i < 4; ++i) row[i].x[k] = weights[(8 * i + g) * depth + 4 * t + k];
    for (int c = 0; c < 2; ++c) column[c].x[k] = states[(8 * c + g) * depth + 4 * t + k];
  }
  T sums[2][2][4];
  for (int i = 0; i < 16; ++i) sums[i / 8][i / 4 % 2][i % 4] = 1;
  mma::multiply(sums, row, column);
  for (int i = 0; i < 16; ++i)
    results[(i / 8 * 16 + i % 4 / 2 * 8 + g) * columns + i / 4 % 2 * 8 + 2 * t + i % 2] =
        sums[i / 8][i / 4 % 2][i % 4];
}

// `tolerance` is relative to the sum of the absolute values.
template <class T, class W>
bool is_right(double tolerance, bool rounds_states) {
  std::mt19937 bits(1);
  std::normal_distribution<double> normal;
  std::vector<W> weights(rows * depth);
  std::vector<T> states(columns * depth), results(rows * columns, T(NAN));
  for (W& w : weights) store(&w, T(normal(bits)));
  for (T& x : states) x = T(normal(bits));
  if (const char* error = report(launch(product<T, W>, 1, 32, 0, nullptr, false,
                                        static_cast<const W*>(weights.data()),
                                        static_cast<const T*>(states.data()), results.data()))) {
    std::printf("%s\n", error);
    return false;
  }
  for (int r = 0; r < rows; ++r)
    for (int c = 0; c < columns; ++c) {
      double sum = 1, size = 1;
      for (int k = 0; k < depth; ++k) {
        const T x = states[size_t(c * depth + k)];
        const double term = double(widen(weights[size_t(r * depth + k)])) *
                            double(rounds_states ? rounded_to_bfloat16(x) : x);
        sum += term, size += std::fabs(term);
      }
      const double error = std::fabs(double(results[size_t(r * columns + c)]) - sum) / size;
      if (error <= tolerance) continue;
      std::printf("row %d, column %d: error %g\n", r, c, error);
      return false;
    }
  return true;
}
}  // namespace

int main() {
  if (is_right<double, double>(1e-15, false) && is_right<float, float>(2e-7, false) &&
      is_right<float, __nv_bfloat16>(4e-7, true))
    std::printf("ok\n");
}
