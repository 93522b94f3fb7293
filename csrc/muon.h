// muon_ in C++: aligndraw/ops/muon.py is the contract.
#pragma once
#include <vector>

#include "check.h"

namespace aligndraw::cpu {

// All tensors are contiguous float32 matrices. The operands of the products are rounded to
// bfloat16. isa_number is at most that of best_isa().
void muon_(std::vector<Tensor> parameters, std::vector<Tensor> momenta,
           std::vector<Tensor> gradients, double momentum, std::vector<double> steps,
           int64_t isa_number);

}  // namespace aligndraw::cpu
