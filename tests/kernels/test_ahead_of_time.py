"""The code of every Triton kernel for GPUs, compiled where there is none.

It cannot be compiled under Triton's interpreter: the tests run this file as a program of its own.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

# Each kernel once for each target, and once in each dtype.
DTYPES = {"sm_80": ("bf16",), "sm_90": ("fp32", "fp64"), "gfx942": ("fp32",)}


def test_compiles_ahead_of_time_without_spills():
    pytest.importorskip("triton", reason="triton is not installed")
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("TRITON", "ALIGNDRAW"))}
    done = subprocess.run([sys.executable, __file__], env=clean, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


# ---- what runs in the other process ----


def kernels():
    """Each kernel, its sizes, the arguments that are in the dtype of the arithmetic, and its constants."""
    from aligndraw.kernels import attend, filterbank, latent, lstm, read, write

    latent_block, lstm_block = {"BLOCK": latent.BLOCK}, {"BLOCK": lstm.BLOCK}
    yield lstm.forward_kernel, ("n",), (), lstm_block
    yield lstm.backward_kernel, ("n",), (), lstm_block
    yield latent.forward_kernel, ("n",), ("kl", "log_ratio"), latent_block
    yield latent.backward_kernel, ("n",), ("grad_kl", "grad_log_ratio"), latent_block
    sums = ("weights", "grad_weights", "grad_scores", "grad_energies")
    yield attend.forward_kernel, ("words", "units", "width"), sums, attend.BLOCKS
    yield attend.backward_kernel, ("words", "units", "width"), sums, attend.BLOCKS
    sizes, blocks = ("channels", "height", "width", "size"), filterbank.BLOCKS
    yield write.forward_kernel, sizes, (), blocks
    yield filterbank.window_kernel, sizes, (), {"canvas": None, "POWER": -1, **blocks}
    yield read.forward_kernel, sizes, (), {"canvas": None, **blocks}
    yield read.forward_kernel, sizes, (), blocks
    yield read.image_kernel, sizes, (), {"canvas": None, "OF_CANVAS": False, **blocks}
    yield read.image_kernel, sizes, (), {"OF_CANVAS": False, **blocks}
    yield read.image_kernel, sizes, (), {"OF_CANVAS": True, **blocks}
    yield filterbank.window_kernel, sizes, (), {"canvas": None, "glimpse": None, "POWER": 1, **blocks}
    yield filterbank.window_kernel, sizes, (), {"glimpse": None, "POWER": 1, **blocks}


def compiled(target, kernel, sizes, sums, constants, dtype):
    import triton
    from aligndraw.kernels import filterbank
    from triton.compiler import ASTSource

    def type_of(name):
        if name in constants:
            return "constexpr"
        if name in sizes:
            return "i32"
        if name == "lengths":
            return "*i64"
        return "*fp64" if dtype == "fp64" else "*fp32" if name in sums else f"*{dtype}"

    signature = {name: type_of(name) for name in kernel.arg_names}
    aligned = {(i,): [["tt.divisibility", 16]] for i, t in enumerate(signature.values()) if t != "constexpr"}
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=aligned)
    options = {k: v for k, v in filterbank.OPTIONS.items() if k not in filterbank.BLOCKS}
    return triton.compile(source, target=target, options=options if "TILE" in constants else {})


def spilled_and_registers(code):
    """Bytes of registers that a thread keeps in memory, and how many registers it has."""
    import triton

    if "amdgcn" in code.asm:
        notes = {k: int(v) for k, v in re.findall(r"\.(\w+): +(\d+)\n", code.asm["amdgcn"])}
        return notes["private_segment_fixed_size"], notes["vgpr_count"]
    cuobjdump = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as cubin:
        cubin.write(code.asm["cubin"])
        cubin.flush()
        command = [cuobjdump, "--dump-resource-usage", cubin.name]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    stack, local, registers = (int(re.findall(rf"{k}:(\d+)", text)[0]) for k in ("STACK", "LOCAL", "REG"))
    return stack + local, registers


def check(name):
    from triton.backends.compiler import GPUTarget

    target = GPUTarget("hip", name, 64) if name.startswith("gfx") else GPUTarget("cuda", int(name[3:]), 32)
    for kernel, sizes, sums, constants in kernels():
        elementwise = "BLOCK" in constants
        for dtype in DTYPES[name]:
            code = compiled(target, kernel, sizes, sums, constants, dtype)
            spilled, registers = spilled_and_registers(code)
            what = f"{kernel.module}.{kernel.__name__} with {constants} on {name}, {dtype}"
            assert spilled == 0 or dtype == "fp64", f"{what} spills {spilled} bytes"
            assert registers <= 64 or not elementwise, f"{what} takes {registers} registers"
            if elementwise and dtype == "fp32" and "ptx" in code.asm:
                assert re.search(r"ld\.global\.v[24]", code.asm["ptx"]), f"{what} loads one number at a time"
        if name == "sm_90":  # a size of 1 is a constant to Triton's compiler
            compiled(target, kernel, (), sums, {**constants, **dict.fromkeys(sizes, 1)}, "fp32")


if __name__ == "__main__":
    for name in DTYPES:
        check(name)
