// The energies of a caption's words (Eq. 6), and their gradient.
#pragma once
#include "attend.h"

namespace aligndraw::cpu {

// One energy per word.
void energies(const Caption<float>& caption, int64_t units, float* result);
void energies(const Caption<double>& caption, int64_t units, double* result);

// The gradients of query, score and the caption's own keys.
void energies_backward(const float* grad, const Caption<float>& caption, int64_t units,
                       const CaptionGrads<float>& grads);
void energies_backward(const double* grad, const Caption<double>& caption, int64_t units,
                       const CaptionGrads<double>& grads);

}  // namespace aligndraw::cpu
