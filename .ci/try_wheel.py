"""Uses an installed wheel: fails where the compiled code is missing, or draws other pictures than plain PyTorch."""

import shutil
from pathlib import Path

import torch

import aligndraw
from aligndraw import Pipeline, ops
from aligndraw.backends import use_backend

assert not shutil.which("g++") and not shutil.which("gcc"), "a compiler is on PATH: this must show that none is needed"
assert "site-packages" in aligndraw.__file__, aligndraw.__file__
import aligndraw._host  # noqa: E402

pipe = Pipeline.from_pretrained("mnist")
call = {
    "prompt": "the digit 3 is on the left of the digit 8",
    "num_images_per_prompt": 2,
    "seed": 0,
    "output_type": "pt",
}
compiled = pipe(**call).images
with use_backend("reference"):
    plain = pipe(**call).images
error = (compiled - plain).abs().max().item()
assert error < 1e-3, error

image, window = torch.rand(2, 1, 60, 60), torch.zeros(2, 5, requires_grad=True)
with use_backend("cpp"):
    ops.read(image, window, 8).sum().backward()
assert window.grad is not None and window.grad.abs().sum() > 0
name = Path(aligndraw._host.__file__).name
print(f"torch {torch.__version__}, {name}: pictures differ from plain PyTorch's by {error:.1e} at most")
