// The sums over rows of csrc/cuda/loop.cu against sums of whole numbers, which are exact in any
// order, for test_cuda_sums.py. Prints the first number that differs, else "ok".
#include <cstdio>
#include <vector>

#include "loop.h"

using namespace aligndraw::cuda;

template <class T>
bool sums_are_right(int64_t rows, int64_t columns, int64_t row_stride) {
  std::vector<T> data(size_t(rows * row_stride + 1)), result(size_t(columns), T(-1));
  for (int64_t i = 0; i < rows * row_stride; ++i) data[size_t(i)] = T(i * 37 % 101);
  if (const char* error =
          launch_sum_rows<T>({data.data(), row_stride}, rows, columns, result.data(), nullptr)) {
    std::printf("%s\n", error);
    return false;
  }
  for (int64_t j = 0; j < columns; ++j) {
    T sum = 0;
    for (int64_t r = 0; r < rows; ++r) sum += data[size_t(r * row_stride + j)];
    if (result[size_t(j)] == sum) continue;
    std::printf("column %d of %d x %d: %g, not %g\n", int(j), int(rows), int(columns),
                double(result[size_t(j)]), double(sum));
    return false;
  }
  return true;
}

int main() {
  for (const int64_t rows : {0, 1, 5, 31, 32, 33, 300})
    for (const int64_t columns : {1, 7, 8, 9, 32, 70})
      if (!sums_are_right<float>(rows, columns, columns) ||
          !sums_are_right<double>(rows, columns, columns + 3))
        return 1;
  std::printf("ok\n");
}
