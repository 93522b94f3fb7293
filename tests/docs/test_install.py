"""docs/install.md has every message of the build and of the choice of backends, in the words of the code."""

import ast
import re

from pages import ROOT, blocks, spans

PAGE = "docs/install.md"
SOURCES = ("build_backend/aligndraw_build.py", "build_backend/native.py", "aligndraw/backends.py", "aligndraw/info.py")
CPP = ("csrc/cpu/isa.cpp", "csrc/cuda/work.h")
# Whose strings are messages: what they return or assign, beside all that is raised.
FUNCTIONS = {"_build_record", "_load_library", "device_fault", "missing_reason", "no_cuda_reason"}
# Of these the page has the reason that follows.
AROUND = {"aligndraw: …"}


def written(node):
    """Returns a string of the code, with `…` for its placeholders; "" for another expression."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
    return ""


def messages():
    found = set()
    for source in SOURCES:
        tree = ast.parse((ROOT / source).read_text(encoding="utf-8"))
        for function in ast.walk(tree):
            if not isinstance(function, ast.FunctionDef):
                continue
            for node in ast.walk(function):
                if isinstance(node, ast.Call) and ast.unparse(node.func) in (
                    "CannotBuild", "sys.exit", "RuntimeError", "ValueError",
                ):  # fmt: skip
                    found.add(written(node.args[0]))
                elif function.name in FUNCTIONS and isinstance(node, (ast.Return, ast.Assign)):
                    found.add(written(node.value))
    found.update(message for path in CPP for message in failures((ROOT / path).read_text(encoding="utf-8")))
    return {message for message in found if " " in message} - AROUND


def failures(text):
    """Yields the messages of `fail(...)` in C++ that name a variable of the environment."""
    for arguments in re.findall(r"\bfail\((.*?)\);", text, re.DOTALL):
        parts = re.findall(r'"([^"]*)"|([^",\s][^",]*)', arguments)
        message = "".join(string or "…" for string, _ in parts)
        if "ALIGNDRAW_" in message:
            yield message


def pattern(message):
    return re.compile(".+".join(map(re.escape, message.split("…"))))


def test_the_page_has_each_message_and_no_other():
    shown = {" ".join(block.split()) for block in blocks(PAGE, "text")}
    patterns = {message: pattern(message) for message in messages()}
    assert len(patterns) > 30
    assert not [message for message, rule in patterns.items() if not any(map(rule.fullmatch, shown))]
    assert not [block for block in shown if not any(rule.fullmatch(block) for rule in patterns.values())]


def test_the_page_of_support_gives_the_beginnings_of_messages():
    shown = [span for span in spans("docs/support.md") if re.search(r": |, got ", span)]
    begun = [message.split("…")[0] for message in messages()]
    assert len(shown) == 3
    assert not [span for span in shown if not any(first and span.startswith(first) for first in begun)]
