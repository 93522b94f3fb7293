"""Every op and loop under the address and undefined-behaviour sanitizers; in a process of its own."""

import itertools
import os

import cuda_cases
import emulated_cuda
import loop_cases
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
    emulation.multiprocessors(16)
    forms = [("persistent", False), ("persistent", True), ("launches", True), ("cluster", False), ("cluster", True)]
    loops = [(*loop_cases.SHAPES, *loop_cases.LARGE), (True, False), forms]
    for shape, align, (form, bf16) in itertools.product(*loops):
        os.environ["ALIGNDRAW_LOOP"] = form
        args = loop_cases.make(shape, align, dtype=torch.float32, bf16=bf16)
        loop_cases.sampled(args)
        loop_cases.drawn(args)
    for reverse in (True, False):
        loop_cases.read(loop_cases.make_sequence(dtype=torch.float32), reverse)
    print(f"{len(cases)} cases")
