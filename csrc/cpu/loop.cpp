#include "loop.h"

namespace aligndraw::cpu {

ALIGNDRAW_CLONES void add_row(float* __restrict row, const float* __restrict other, int64_t n) {
  for (int64_t j = 0; j < n; ++j) row[j] += other[j];
}

void add_row(double* row, const double* other, int64_t n) {
  for (int64_t j = 0; j < n; ++j) row[j] += other[j];
}

ALIGNDRAW_CLONES void tanh_row(float* row, int64_t n) {
  for (int64_t j = 0; j < n; ++j) row[j] = math::tanh(row[j]);
}

void tanh_row(double* row, int64_t n) {
  for (int64_t j = 0; j < n; ++j) row[j] = math::tanh(row[j]);
}

ALIGNDRAW_CLONES void sigmoid_row(float* row, int64_t n) {
  for (int64_t j = 0; j < n; ++j) row[j] = math::sigmoid(row[j]);
}

void sigmoid_row(double* row, int64_t n) {
  for (int64_t j = 0; j < n; ++j) row[j] = math::sigmoid(row[j]);
}

}  // namespace aligndraw::cpu
