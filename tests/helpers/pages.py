"""What the pages of the project say: their code spans, links, commands and Python."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(r"^ *```([\w{}-]*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")


@lru_cache
def files() -> tuple[str, ...]:
    """Returns the files of the project by their paths, without builds and environments."""
    folders = "aligndraw benchmarks build_backend csrc docs findings kernels tests .github .ci".split()
    below = (p for folder in folders for p in (ROOT / folder).rglob("*") if "__pycache__" not in p.parts)
    return tuple(p.relative_to(ROOT).as_posix() for p in (*below, *ROOT.iterdir()) if p.is_file())


def pages() -> list[str]:
    """Returns the pages of the project by their paths."""
    return [name for name in files() if name.endswith(".md")]


@lru_cache
def text(page: str) -> str:
    """Returns a page as it is written."""
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[str]:
    """Returns the fenced blocks of a page in a language."""
    return [block for name, block in _FENCE.findall(text(page)) if name == language]


def run(page: str) -> dict[str, object]:
    """Runs the Python blocks of a page in its order; returns the names that they define."""
    names: dict[str, object] = {"__name__": page}
    for found in _FENCE.finditer(text(page)):
        if found[1] == "python":
            above = "\n" * text(page).count("\n", 0, found.start(2))  # a traceback shows the lines of the page
            exec(compile(above + textwrap.dedent(found[2]), page, "exec", dont_inherit=True), names)
    return names


def spans(page: str) -> list[str]:
    """Returns the code spans of a page, without fenced blocks."""
    return _SPAN.findall(_FENCE.sub("", text(page)))


def links(page: str) -> list[str]:
    """Returns the targets of the links of a page."""
    return _LINK.findall(_FENCE.sub("", text(page)))


def anchors(page: str) -> set[str]:
    """Returns the anchors of the headings of a page, as GitHub names them."""
    headings = re.findall(r"^#+ (.*)$", _FENCE.sub("", text(page)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands(page: str) -> Iterator[list[str]]:
    """Yields the `aligndraw` commands of a page's shell blocks, each as a list of words without `aligndraw`."""
    for line in "".join(blocks(page, "sh")).replace("\\\n", " ").splitlines():
        for part in line.split("&&"):
            words = shlex.split(part, comments=True)
            if words[:1] == ["torchrun"]:  # it starts the command that follows -m
                words = words[words.index("-m") + 1 :]
            if words[:1] == ["aligndraw"]:
                yield words[1:]
