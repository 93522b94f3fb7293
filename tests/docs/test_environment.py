"""docs/environment.md lists the environment variables that the code reads, and no others."""

import ast
import re

from pages import ROOT, text

from aligndraw.info import ENVIRONMENT
from aligndraw.training.conditions import VARIABLES

PAGE = "docs/environment.md"
# Read by PyTorch: nothing of ours names it.
OF_TORCH = {"OMP_NUM_THREADS"}


def listed(heading):
    """Returns the variables of the table below a heading of the page."""
    section = text(PAGE).split(f"## {heading}\n")[1].split("\n## ")[0]
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    return {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}


def read_by_python(path):
    """Returns the constant names that a file looks up in `os.environ`, or by `_choice` of the build."""
    tree, found = ast.parse(path.read_text(encoding="utf-8")), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("os.environ.get", "os.getenv", "_choice"):
            found.add(node.args[0])
        elif isinstance(node, ast.Subscript) and ast.unparse(node.value) == "os.environ":
            found.add(node.slice)
        elif isinstance(node, ast.comprehension) and "os.environ" in "".join(map(ast.unparse, node.ifs)):
            found.update(getattr(node.iter, "elts", []))
    return {node.value for node in found if isinstance(node, ast.Constant)}


def read_by_sources():
    folders = [ROOT / name for name in ("aligndraw", "build_backend", "kernels", "csrc")]
    python = [path for folder in folders for path in folder.rglob("*.py")]
    cpp = [path for pattern in ("*.cpp", "*.h", "*.cu") for path in (ROOT / "csrc").rglob(pattern)]
    found = {name for path in python for name in read_by_python(path)}
    return found | {n for path in cpp for n in re.findall(r'getenv\("(\w+)"\)', path.read_text(encoding="utf-8"))}


def test_the_table_of_the_project_is_that_of_info():
    assert listed("Of the project") == set(ENVIRONMENT)
    assert {name for name in read_by_sources() if name.startswith("ALIGNDRAW_")} == set(ENVIRONMENT)


def test_the_other_table_is_of_what_the_code_reads():
    others = {name for name in read_by_sources() if not name.startswith("ALIGNDRAW_")}
    assert listed("Of other programs") == others | set(VARIABLES) | OF_TORCH
