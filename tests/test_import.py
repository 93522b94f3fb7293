"""What an import brings, and what it leaves alone."""

import ast
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import aligndraw


def fresh(code):
    """What a new process prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], []])
def test_version_and_help_need_no_torch(arguments):
    code = f"""
import sys
from aligndraw.cli import main
try:
    main({arguments})
except SystemExit as end:
    assert end.code == 0
print(sorted({{"torch", "numpy", "PIL"}} & sys.modules.keys()))
"""
    assert fresh(code).splitlines()[-1] == "[]"


def test_the_library_needs_no_compiler():
    """`torch.compiler.assume_constant_result` imported it: more than `import torch` takes."""
    code = """
import sys, torch
before = set(sys.modules)
from aligndraw import AlignDRAW, convert, nn, pipelines
print(sorted({"torch._dynamo", "torch._inductor", "sympy", "triton"} & (sys.modules.keys() - before)))
"""
    assert fresh(code) == "[]\n"


MODULES = sorted(m.name for m in pkgutil.iter_modules(aligndraw.__path__) if not m.name.startswith(("_", "kernels")))


def test_every_module_is_an_attribute():
    """`import aligndraw; aligndraw.convert` was an AttributeError."""
    names = [name for name in MODULES if name != "weights"]
    assert sorted(aligndraw._MODULES) == names
    code = f"import aligndraw\nfor name in {names}: assert getattr(aligndraw, name).__name__ == 'aligndraw.' + name"
    fresh(code)


def test_what_type_checkers_read_is_what_there_is():
    source = ast.parse(Path(aligndraw.__file__).read_text())
    (block,) = (node for node in source.body if isinstance(node, ast.If))
    declared = [alias.name for node in block.body for alias in node.names]
    assert sorted(declared) == sorted([*aligndraw._MODULES, *aligndraw.__all__])


def test_names():
    assert {*MODULES, *aligndraw.__all__, "__version__"} <= set(dir(aligndraw))
    for name in aligndraw.__all__:
        assert getattr(aligndraw, name).__name__ == name
    with pytest.raises(AttributeError, match="module 'aligndraw' has no attribute 'convrt'"):
        _ = aligndraw.convrt


PACKAGE = Path(aligndraw.__file__).parent


def test_no_module_has_the_name_of_its_own_function():
    """Except ops and their Triton form, named for the op, and `training/fit.py`, the one loop of all trainings."""
    for path in PACKAGE.rglob("*.py"):
        if path.parent.name not in ("ops", "kernels") and path.stem != "fit":
            names = {node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}
            assert path.stem not in names, path


def test_tests_have_the_folders_of_the_package():
    """And `data_sets` for `data`, whose name the fixtures have."""
    tests = Path(__file__).parent
    folders = {path.parent.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py")} - {Path()}
    assert len(folders) > 9
    for folder in folders:
        place = tests / ("data_sets" if folder == Path("data") else folder)
        assert any(place.glob("test_*.py")), folder
