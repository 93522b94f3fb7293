"""What a page puts in backticks exists: paths, options, names; links lead somewhere, commands parse, imports work."""

import argparse
import ast
import importlib
import re
import textwrap
from fnmatch import fnmatch
from functools import lru_cache
from pathlib import PurePosixPath

import pytest
from pages import ROOT, anchors, blocks, commands, files, links, pages, spans
from PIL import Image

from aligndraw.cli import _parser

PAGES = pages()
PICTURES = [path for path in files() if path.endswith(".png") and not path.startswith("tests/")]
SOURCES = (".py", ".h", ".cpp", ".cu", ".sh", ".toml", ".md", ".cff", ".yml", ".in")
# Options of other programs.
FOREIGN = {
    "--benchmark-disable", "--benchmark-json", "--benchmark-max-time", "--benchmark-skip", "--check",
    "--cpus-per-task", "--dry-run", "--gpus-per-node", "--keep-going", "--logdir", "--max-restarts", "--nnodes",
    "--no-build-isolation", "--no-logo", "--nodes", "--nproc-per-node", "--ntasks-per-node", "--rdzv-backend",
    "--rdzv-endpoint", "--rdzv-id", "--requeue", "--signal", "--time",
}  # fmt: skip
# Names of other libraries, programs and formats, and letters of formulas.
FOREIGN_NAMES = {"auditwheel", "DeprecationWarning", "PyTorchJob", "TORCH_TARGET_VERSION", "win32"}
# What commands write.
WRITTEN = {"tables.md"}


@lru_cache
def parsers() -> tuple[argparse.ArgumentParser, ...]:
    """Returns the parsers of all commands."""
    found, left = [], [_parser()]
    while left:
        parser = left.pop()
        if getattr(parser, "_module", ""):
            importlib.import_module(parser._module).add_to(parser)
            parser._module = ""
        found.append(parser)
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                left.extend(action.choices.values())
    return tuple(found)


@lru_cache
def options() -> frozenset[str]:
    """Returns the options of the commands, of the benchmarks and of the programs in FOREIGN."""
    ours = {option for parser in parsers() for action in parser._actions for option in action.option_strings}
    scripts = "".join((ROOT / f).read_text() for f in files() if f.startswith("benchmarks/") and f.endswith(".py"))
    return frozenset(ours | FOREIGN | set(re.findall(r'"(--[a-z][a-z0-9-]*)', scripts)))


@lru_cache
def words() -> frozenset[str]:
    """Returns every word of the sources."""
    found: set[str] = set()
    for name in files():
        if name.endswith((".py", ".h", ".cpp", ".cu", ".toml", ".ci/run")) and not name.startswith("tests/docs/"):
            found.update(re.findall(r"\w+", (ROOT / name).read_text(encoding="utf-8")))
    return frozenset(found)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    lost = []
    for link in links(page):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        name = target.resolve().relative_to(ROOT).as_posix()
        if not target.exists() or (anchor and anchor not in anchors(name)):
            lost.append(link)
    assert not lost


@pytest.mark.parametrize("page", PAGES)
def test_paths_exist(page):
    lost = []
    for span in spans(page):
        if re.fullmatch(r"\w[\w./*-]*", span) and span.endswith(SOURCES) and not span.startswith("torch/"):
            if span not in WRITTEN and not any(fnmatch("/" + name, "*/" + span) for name in files()):
                lost.append(span)
        elif re.fullmatch(r"[\w./-]+/", span) and (ROOT / PurePosixPath(span).parts[0]).is_dir():
            if not (ROOT / span).is_dir():
                lost.append(span)
    assert not lost


@pytest.mark.parametrize("page", PAGES)
def test_options_exist(page):
    named = re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", "\n".join([*spans(page), *blocks(page, "sh")]))
    assert not set(named) - options()


@pytest.mark.parametrize("page", PAGES)
def test_names_exist(page):
    lost = []
    for span in spans(page):
        name = re.match(r"([A-Za-z_][\w.]*\w)(\(.*\))?$", span)
        if not name or span.endswith(SOURCES):
            continue
        parts = name[1].split(".")
        if parts[0] == "aligndraw" and len(parts) > 1 and not exists(parts):
            lost.append(span)
        elif not set(parts) - FOREIGN_NAMES <= words():
            lost.append(span)
    assert not lost


def exists(parts):
    """Whether a dotted name below aligndraw can be imported, or is there to be looked up."""
    for end in range(len(parts), 0, -1):
        try:
            value = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            value = getattr(value, part, None)
        return value is not None
    return False


@pytest.mark.parametrize("page", PAGES)
def test_commands_parse(page, capsys):
    for command in commands(page):
        if command[:1] and command[0].startswith("-"):
            continue
        try:
            _parser().parse_args(command)
        except SystemExit:
            pytest.fail(f"{' '.join(command)}: {capsys.readouterr().err}")


@pytest.mark.parametrize("page", PAGES)
def test_python_imports_what_exists(page):
    for block in blocks(page, "python"):
        for node in ast.walk(ast.parse(textwrap.dedent(block))):
            if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "aligndraw":
                module = importlib.import_module(node.module)
                assert not [alias.name for alias in node.names if not hasattr(module, alias.name)]


@pytest.mark.parametrize("path", PICTURES, ids=str)
def test_a_picture_tells_no_folder_of_the_machine_that_made_it(path):
    with Image.open(ROOT / path) as picture:
        model = picture.info.get("Model", "")
    assert not PurePosixPath(model).is_absolute()
