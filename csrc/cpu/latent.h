// latent, one row at a time, for the op and the loops.
#pragma once
#include "cpu.h"

namespace aligndraw::cpu {

// One row of the five arguments, n components.
template <class T>
struct LatentRow {
  const T *mu_q, *log_sigma_q, *mu_p, *log_sigma_p, *noise;
};

template <class T>
struct LatentRowGrads {
  T *mu_q, *log_sigma_q, *mu_p, *log_sigma_p, *noise;
};

// kl_terms [n] and ratio_terms [n] are workspace.
ALIGNDRAW_HAS_CLONES void forward_row(const LatentRow<float>& row, float* z, float* kl_terms,
                                      float* ratio_terms, int64_t n, float* kl, float* log_ratio);
void forward_row(const LatentRow<double>& row, double* z, double* kl_terms, double* ratio_terms,
                 int64_t n, double* kl, double* log_ratio);
ALIGNDRAW_HAS_CLONES void backward_row(const float* grad_z, float grad_kl, float grad_log_ratio,
                                       const LatentRow<float>& row,
                                       const LatentRowGrads<float>& grads, int64_t n);
void backward_row(const double* grad_z, double grad_kl, double grad_log_ratio,
                  const LatentRow<double>& row, const LatentRowGrads<double>& grads, int64_t n);

}  // namespace aligndraw::cpu
