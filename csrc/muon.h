// The update rule for matrices: aligndraw/training/optimizer.py.
#pragma once
#include <vector>

#include "check.h"

namespace aligndraw::cpu {

// In place, for each parameter with its momentum m and gradient g: m = momentum m + (1 - momentum)
// g, p = p - step O, where O is the orthogonal factor of momentum m + (1 - momentum) g by five
// steps of a Newton-Schulz iteration in products of rounded factors, by the ISA of a number that is
// not above `best_isa`. All are contiguous float32 matrices.
void muon_(std::vector<Tensor> parameters, std::vector<Tensor> momenta,
           std::vector<Tensor> gradients, double momentum, std::vector<double> steps,
           int64_t isa_number);

}  // namespace aligndraw::cpu
