"""What the CUDA kernels ask of a GPU, as they were compiled into the installed library."""

import json
import re

import cuda_resources
import pytest
from cuda_resources import Kernel

from aligndraw import backends, ops

TABLE = json.loads(cuda_resources.TABLE.read_text())
COMPILED = pytest.mark.skipif(bool(cuda_resources.missing()), reason=cuda_resources.missing() or "none")

# Two blocks of 256 threads share the 65,536 registers of a multiprocessor.
TWO_BLOCKS = re.compile(
    r"(read|write): \w+<(Exact<float> ?|Mixed)>"
    r"|unroll: (read_attend|last_write|read_backward|write_backward)<float>|unroll_prior: draw_all<float>"
)
MOST_REGISTERS = 128
# A kernel of more code would load its instructions again and again. The training loops in one launch are all stages of
# a step, and no default. float64 is for checks: its exp and tanh alone are long, on sm_120 most.
MOST_CODE = 64 << 10
ALL_STAGES = {
    "unroll_forward": 96 << 10,
    "unroll_backward": 128 << 10,
    "cluster_forward": 96 << 10,
    "cluster_backward": 112 << 10,
}


def most_code(name):
    return ALL_STAGES.get(name.split(":")[0], MOST_CODE) * (2 if "double" in name else 1)


@pytest.fixture(scope="module")
def measured():
    return cuda_resources.measure()


@pytest.fixture(scope="module", params=["table", pytest.param("library", marks=COMPILED)])
def kernels(request):
    """[(name, architecture, resources)] of the table, and of the installed library where it has kernels."""
    table = request.getfixturevalue("measured") if request.param == "library" else TABLE["kernels"]
    return [(name, arch, Kernel(*kernel)) for name, by_arch in table.items() for arch, kernel in by_arch.items()]


@COMPILED
def test_every_op_and_loop_is_there(measured):
    in_clusters = {f"cluster_{part}" for part in ("weights", "prior", "forward", "backward")}
    loops = {"loop", "unroll_forward", "unroll_backward", *in_clusters, *ops.LOOPS}
    assert {name.split(":")[0] for name in measured} == {op.removesuffix("_gates") for op in ops.OPS} | loops


def test_no_kernel_spills(kernels):
    assert [kernel for kernel in kernels if kernel[2].spilled] == []


def test_two_blocks_share_a_multiprocessor(kernels):
    shared = [(name, kernel.registers) for name, _, kernel in kernels if TWO_BLOCKS.match(name)]
    assert len({name for name, _ in shared}) == 17
    assert [kernel for kernel in shared if kernel[1] > MOST_REGISTERS] == []


def test_code_fits_the_cache_of_instructions(kernels):
    assert [(name, arch, kernel.code) for name, arch, kernel in kernels if kernel.code > most_code(name)] == []


@COMPILED
def test_no_load_or_store_is_generic(measured):
    """The compiler knows of each whether it goes to shared or to global memory; the grid's barrier asks for no more.

    A store to the shared memory of another block of a cluster has no other form.
    """
    arch = min(next(iter(measured.values())), key=lambda arch: int(re.findall(r"\d+", arch)[0]))
    for name, instructions in cuda_resources.instructions(arch).items():
        kinds = ("LD",) if name.startswith("cluster") else ("LD", "ST")
        generic = [i for i in instructions if i.split(".")[0] in kinds and "STRONG.GPU" not in i]
        assert generic == [], name


def test_the_page_has_the_table():
    _, _, rows = cuda_resources.PAGE.read_text().partition(cuda_resources.PAGE_HEAD)
    assert rows.splitlines() == cuda_resources.page_rows(TABLE["kernels"]), "run python tests/csrc/cuda_resources.py"


@COMPILED
def test_as_in_the_table(measured):
    """Every kernel is listed, and by the same compiler it needs what the table says."""
    assert sorted(measured) == sorted(TABLE["kernels"]), "run python tests/csrc/cuda_resources.py"
    if backends.BUILD["nvcc"] != TABLE["nvcc"]:
        pytest.skip(f"the table is of nvcc {TABLE['nvcc']}, the library of {backends.BUILD['nvcc']}")
    for name, by_arch in measured.items():
        for arch in by_arch.keys() & TABLE["kernels"][name].keys():
            assert by_arch[arch] == Kernel(*TABLE["kernels"][name][arch]), (name, arch)
