"""A process that is forked after its parent has computed: plain PyTorch waits for ever on more than one thread."""

import os
import subprocess
import sys

import pytest

SCRIPT = """
import os, signal, sys
import torch
from aligndraw import Pipeline, ops, use_backend

torch.set_num_threads(2)
torch.manual_seed(0)
many, pipeline = [torch.randn(64, 3000) for _ in range(5)], Pipeline.from_pretrained("mnist")

def work():
    drawn = pipeline("the digit seven is at the top left of the image", num_images_per_prompt=9, seed=1)
    leaves = [a.clone().requires_grad_() for a in many]
    sum(r.sum() for r in ops.latent(*leaves)).backward()
    return [drawn.samples.images, *ops.latent(*many), *(a.grad for a in leaves)]

wanted = work()
if "forced" in sys.argv:
    with use_backend("reference"):
        work()
child = os.fork()
if child == 0:
    signal.alarm(60)  # ends a child that waits
    assert torch.get_num_threads() == 1
    found = work()
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True)), "other bits"
    assert torch.randn(500, 500).mm(torch.randn(500, 500)).isfinite().all()
    torch.set_num_threads(2)
    try:
        work()
    except RuntimeError as error:
        assert "was forked after its parent had computed" in str(error) and "\\n" not in str(error)
        os._exit(7)
    os._exit(1)
_, status = os.waitpid(child, 0)
assert torch.get_num_threads() == 2 and all(torch.equal(a, b) for a, b in zip(work(), wanted))
print("child", status, os.WEXITSTATUS(status))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("more", [[], ["forced"]])
def test_a_forked_child_computes_on_one_thread_or_says_why_not(tmp_path, more):
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    command = [sys.executable, "-c", SCRIPT, *more]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=240)
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert ran.stdout.split() == ["child", str(7 << 8), "7"], (ran.stdout, ran.stderr[-2000:])


SPAWNED_BEFORE = """
import os
import torch
import aligndraw

child = os.fork()
if child == 0:
    torch.set_num_threads(2)
    aligndraw.ops.latent(*[torch.randn(64, 3000) for _ in range(5)])
    os._exit(7 if torch.get_num_threads() == 2 else 1)
print(os.WEXITSTATUS(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_of_a_parent_that_has_not_computed_keeps_its_threads(tmp_path):
    ran = subprocess.run(
        [sys.executable, "-c", SPAWNED_BEFORE], capture_output=True, text=True, cwd=tmp_path, timeout=240
    )
    assert ran.stdout.split() == ["7"], ran.stderr[-2000:]
