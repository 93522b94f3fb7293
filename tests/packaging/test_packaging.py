"""The distributions: built from a clean copy of this tree, opened, and the wheel run."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUILD = "import sys, aligndraw_build; getattr(aligndraw_build, sys.argv[1])(sys.argv[2])"
EXTRAS = {
    "data",
    "hub",
    "demo",
    "browser",
    "test",
    "bench",
    "triton",
    "tensorboard",
    "sentences",
    "docs",
    "fuzz",
    "dev",
}
SHIPPED = ("csrc/", "kernels/", "aligndraw/", "build_backend/")

pytestmark = [
    pytest.mark.skipif(not (ROOT / ".git").exists(), reason="this is not a git checkout"),
    pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed"),
]


def run_hook(hook: str, tree: Path, folder: Path) -> Path:
    """The distribution that a hook of the build backend makes of `tree`, in `folder`."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ALIGNDRAW")}
    environment |= {"PYTHONPATH": str(tree / "build_backend"), "ALIGNDRAW_BUILD_CPP": "1"}
    command = [sys.executable, "-c", BUILD, hook, str(folder)]
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(folder.iterdir())


@pytest.fixture(scope="module")
def files() -> set[str]:
    """The files of this checkout, less what git ignores."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return {name for name in names.split("\0") if name and (ROOT / name).is_file()}


@pytest.fixture(scope="module")
def sdist(files, tmp_path_factory) -> Path:
    """The sdist, unpacked."""
    tree, folder, unpacked = (tmp_path_factory.mktemp(name) for name in ("tree", "sdist", "open"))
    for name in files:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tree / name)
    with tarfile.open(run_hook("build_sdist", tree, folder)) as archive:
        safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # older Pythons of a series have none
        archive.extractall(unpacked, **safely)
    return next(unpacked.iterdir())


@pytest.fixture(scope="module")
def wheel(sdist, tmp_path_factory) -> Path:
    """The wheel that is made of the sdist, unpacked."""
    folder, unpacked = tmp_path_factory.mktemp("wheel"), tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(run_hook("build_wheel", sdist, folder)) as archive:
        archive.extractall(unpacked)
    return unpacked


def names_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def check_metadata(text: str) -> None:
    metadata = Parser().parsestr(text)
    assert metadata["Name"] == "aligndraw"
    assert metadata["Requires-Python"] == ">=3.10"
    assert metadata["License"] == "MIT"
    assert set(metadata.get_all("Provides-Extra")) == EXTRAS
    required = {line.replace(" ", "") for line in metadata.get_all("Requires-Dist") if ";" not in line}
    assert required == {"torch>=2.11", "numpy", "safetensors", "pillow>=10.1", "tqdm"}


def test_sdist_has_every_source_and_nothing_else(files, sdist):
    shipped = {name for name in files if name.startswith(SHIPPED)}
    assert {
        "csrc/register.cpp",
        "csrc/cuda/lstm.cu",
        "kernels/lstm.py",
        "aligndraw/py.typed",
    } <= shipped
    names = names_in(sdist)
    assert shipped <= names
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/")) or name.endswith(".so")]
    check_metadata((sdist / "PKG-INFO").read_text())


def test_wheel_has_the_package_and_nothing_else(files, wheel):
    names = names_in(wheel)
    package = {name for name in files if name.startswith("aligndraw/")}
    package |= {f"aligndraw/{name}" for name in files if name.startswith("kernels/")}
    made = {"aligndraw/_C.so", "aligndraw/_build.json"}
    host = {name for name in names if name.startswith("aligndraw/_host.")}
    assert len(host) == 1
    in_package = {name for name in names if name.startswith("aligndraw/")}
    assert in_package == package | made | host
    (info,) = {Path(name).parts[0] for name in names - in_package}
    assert info.endswith(".dist-info")
    assert "aligndraw = aligndraw.cli:main" in (wheel / info / "entry_points.txt").read_text()
    check_metadata((wheel / info / "METADATA").read_text())


def test_wheel_runs(wheel, tmp_path):
    """The compiled libraries load from where the wheel puts them."""
    program = """
import torch
import aligndraw, aligndraw._host
from aligndraw.ops import lstm_gates
with aligndraw.use_backend("cpp"):
    h, c = lstm_gates(torch.zeros(2, 12), torch.ones(2, 3))
assert torch.equal(c, torch.full((2, 3), 0.5)), c
print(aligndraw.__file__, aligndraw._host.__file__)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(wheel)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert all(path.startswith(str(wheel)) for path in done.stdout.split())
