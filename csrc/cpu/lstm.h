// lstm_gates, one row at a time, for the op and the loops. `gates` and `grad_gates` hold i, f, g
// and o one after another, n units each.
#pragma once
#include "cpu.h"

namespace aligndraw::cpu {

void forward_row(const float* gates, const float* c, float* h, float* c_next, int64_t n);
void forward_row(const double* gates, const double* c, double* h, double* c_next, int64_t n);
void backward_row(const float* grad_h, const float* grad_c, const float* gates, const float* c,
                  float* grad_gates, float* grad_c_prev, int64_t n);
void backward_row(const double* grad_h, const double* grad_c, const double* gates, const double* c,
                  double* grad_gates, double* grad_c_prev, int64_t n);

}  // namespace aligndraw::cpu
