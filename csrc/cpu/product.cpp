#include "product.h"

#include "glimpse_kernels.h"

namespace aligndraw::cpu {

void product(const StridedView<float>& a, Rows<const float> b, Rows<float> result, int64_t rows,
             int64_t depth, int64_t width, const float* start) {
  glimpse_kernels<float>(isa()).multiply(a, b, result, rows, depth, width, start);
}

void product(const StridedView<double>& a, Rows<const double> b, Rows<double> result, int64_t rows,
             int64_t depth, int64_t width, const double* start) {
  glimpse_kernels<double>(isa()).multiply(a, b, result, rows, depth, width, start);
}

}  // namespace aligndraw::cpu
