// The authors' update rule over all parameters at once: aligndraw/training/optimizer.py.
#pragma once
#include <vector>

#include "check.h"

namespace aligndraw::cpu {

// In place, for each parameter with its mean square v, gradient g and factor s of the gradient:
// v = decay v + (1 - decay) (s g)^2, p = p - lr s g / sqrt(v + eps). All are contiguous float32.
void rmsprop_(std::vector<Tensor> parameters, std::vector<Tensor> squares,
              std::vector<Tensor> gradients, Tensor scales, double lr, double decay, double eps);

}  // namespace aligndraw::cpu
