// rmsprop_ in C++: aligndraw/ops/rmsprop.py is the contract.
#pragma once
#include <vector>

#include "check.h"

namespace aligndraw::cpu {

// All tensors are contiguous float32.
void rmsprop_(std::vector<Tensor> parameters, std::vector<Tensor> squares,
              std::vector<Tensor> gradients, Tensor scales, double lr, double decay, double eps);

}  // namespace aligndraw::cpu
