"""Every op forward and backward under the address and undefined-behaviour sanitizers; in a process of its own."""

import cuda_cases
import emulated_cuda
import torch

if __name__ == "__main__":
    torch.use_deterministic_algorithms(True)  # fills new tensors with NaN
    emulation = emulated_cuda.Emulation("asan")  # the ops are there as long as it is
    cases = [
        *cuda_cases.every_case(["odd", "one", "none", "wide", "many", "long"], [torch.float32]),
        *cuda_cases.every_case(["odd"], [torch.float64, torch.bfloat16, torch.float16]),
    ]
    for op, args in cases:
        cuda_cases.check(op, args)
    print(f"{len(cases)} cases")
