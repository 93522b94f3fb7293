"""What the CUDA kernels ask of a GPU, as they were compiled into the installed library."""

import json

import cuda_resources
import pytest

from aligndraw import backends, ops

TABLE = json.loads(cuda_resources.TABLE.read_text())

pytestmark = pytest.mark.skipif(bool(cuda_resources.missing()), reason=cuda_resources.missing() or "none")


@pytest.fixture(scope="module")
def measured():
    return cuda_resources.measure()


def test_every_op_and_loop_is_there(measured):
    in_clusters = {f"cluster_{part}" for part in ("weights", "prior", "forward", "backward")}
    loops = {"loop", "unroll_forward", "unroll_backward", *in_clusters, *ops.LOOPS}
    assert {name.split(":")[0] for name in measured} == {op.removesuffix("_gates") for op in ops.OPS} | loops


def test_no_kernel_spills(measured):
    """Registers that do not fit are kept on the stack."""
    for name, by_arch in measured.items():
        for arch, (_, stack, _, local) in by_arch.items():
            assert stack == 0 and local == 0, (name, arch)


def test_as_in_the_table(measured):
    """Every kernel is listed, and by the same compiler it needs what the table says."""
    assert sorted(measured) == sorted(TABLE["kernels"]), "run python tests/csrc/cuda_resources.py"
    if backends.BUILD["nvcc"] != TABLE["nvcc"]:
        pytest.skip(f"the table is of nvcc {TABLE['nvcc']}, the library of {backends.BUILD['nvcc']}")
    for name, by_arch in measured.items():
        for arch in by_arch.keys() & TABLE["kernels"][name].keys():
            assert by_arch[arch] == TABLE["kernels"][name][arch], (name, arch)
