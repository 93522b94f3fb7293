// attend, one caption at a time: what the op and the unrolled loop share.
#pragma once
#include "cpu.h"

namespace aligndraw::cpu {

struct AttendSizes {
  int64_t words, units, width;  // N, l, d
};

// One caption of the batch.
template <class T>
struct Caption {
  const T *query, *keys, *score, *values;
  int64_t length;
};

// The gradient of the score is added to, and where asked for that of the keys; that of the values
// is left out where there is no room for it.
template <class T>
struct CaptionGrads {
  T *query, *keys, *score, *values;
  bool adds_keys;
};

ALIGNDRAW_HAS_CLONES void forward_row(const Caption<float>& caption, const AttendSizes& sizes,
                                      float* context, float* weights);
void forward_row(const Caption<double>& caption, const AttendSizes& sizes, double* context,
                 double* weights);
// grad_energies is room for a number a word.
ALIGNDRAW_HAS_CLONES void backward_row(const float* grad_context, const float* grad_weights,
                                       const Caption<float>& caption, const float* weights,
                                       const AttendSizes& sizes, const CaptionGrads<float>& grads,
                                       float* grad_energies);
void backward_row(const double* grad_context, const double* grad_weights,
                  const Caption<double>& caption, const double* weights, const AttendSizes& sizes,
                  const CaptionGrads<double>& grads, double* grad_energies);

}  // namespace aligndraw::cpu
