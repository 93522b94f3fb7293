// attend, one caption at a time, for the op and the loops.
#pragma once
#include "cpu.h"

namespace aligndraw::cpu {

struct AttendSizes {
  int64_t words, units, width;  // N, l, d
};

// One caption of the batch.
template <class T>
struct Caption {
  const T* query;   // [l]
  const T* keys;    // [N, l]
  const T* score;   // [l]
  const T* values;  // [N, d]
  int64_t length;
};

template <class T>
struct CaptionGrads {
  T* query;        // [l]
  T* keys;         // [N, l]
  T* score;        // [l]: added to
  T* values;       // [N, d], or null: not wanted
  bool adds_keys;  // the keys' gradient is added to
};

ALIGNDRAW_HAS_CLONES void forward_row(const Caption<float>& caption, const AttendSizes& sizes,
                                      float* context, float* weights);
void forward_row(const Caption<double>& caption, const AttendSizes& sizes, double* context,
                 double* weights);
// grad_energies [N] is workspace.
ALIGNDRAW_HAS_CLONES void backward_row(const float* grad_context, const float* grad_weights,
                                       const Caption<float>& caption, const float* weights,
                                       const AttendSizes& sizes, const CaptionGrads<float>& grads,
                                       float* grad_energies);
void backward_row(const double* grad_context, const double* grad_weights,
                  const Caption<double>& caption, const double* weights, const AttendSizes& sizes,
                  const CaptionGrads<double>& grads, double* grad_energies);

}  // namespace aligndraw::cpu
