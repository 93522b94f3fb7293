"""Everything of the build that pyproject.toml cannot say: see build_backend/."""

import sys
import tempfile
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

sys.path.insert(0, "build_backend")
import native  # noqa: E402
from aligndraw_build import torch_requirement  # noqa: E402


class BuildNative(build_ext):
    """setuptools' step for extension modules."""

    def run(self) -> None:
        native.build(Path("aligndraw") if self.inplace else Path(self.build_lib, "aligndraw"))


# A fresh folder each time: setuptools' own keeps files that the tree no longer has, and ships them.
with tempfile.TemporaryDirectory() as folder:
    setup(
        license="MIT",  # here, as older setuptools read another form of it in pyproject.toml than new
        install_requires=[torch_requirement(), "numpy", "safetensors", "pillow>=10.1", "tqdm"],
        packages=[*find_packages(include=["aligndraw", "aligndraw.*"]), "aligndraw.kernels"],
        package_dir={"aligndraw": "aligndraw", "aligndraw.kernels": "kernels"},
        package_data={"aligndraw": ["py.typed", "data/*.npz", "demo/*.css", "demo/*.js", "weights/**"]},
        include_package_data=False,
        ext_modules=[Extension("aligndraw._C", []), Extension("aligndraw._host", [])],
        cmdclass={"build_ext": BuildNative},
        options={"build": {"build_base": folder}},
    )
