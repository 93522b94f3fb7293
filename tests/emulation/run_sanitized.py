"""Every op forward and backward under the address and undefined-behaviour sanitizers; in a process of its own."""

import cuda_cases
import emulated_cuda
import torch

if __name__ == "__main__":
    torch.use_deterministic_algorithms(True)  # fills new tensors with NaN
    emulation = emulated_cuda.Emulation("asan")
    count = 0
    for order in (0, -1):
        emulation.order(order)
        for op, args in cuda_cases.every_case(["odd", "one", "none", "wide", "many", "long"], [torch.float32]):
            cuda_cases.check(op, args)
            count += 1
    for op, args in cuda_cases.every_case(["odd"], [torch.float64, torch.bfloat16, torch.float16]):
        cuda_cases.check(op, args)
        count += 1
    print(f"{count} cases")
