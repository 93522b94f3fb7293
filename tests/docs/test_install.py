"""docs/install.md has every message of the build and of the choice of backends, in the words of the code."""

import ast
import re

from pages import ROOT, blocks

PAGE = "docs/install.md"
SOURCES = ("build_backend/aligndraw_build.py", "build_backend/native.py", "aligndraw/backends.py", "aligndraw/info.py")
# Whose strings are messages: what they return or assign, beside all that is raised.
FUNCTIONS = {"_build_record", "_load_library", "missing_reason", "no_cuda_reason"}
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
    return {message for message in found if " " in message} - AROUND


def pattern(message):
    return re.compile(".+".join(map(re.escape, message.split("…"))))


def test_the_page_has_each_message_and_no_other():
    shown = {" ".join(block.split()) for block in blocks(PAGE, "text")}
    patterns = {message: pattern(message) for message in messages()}
    assert len(patterns) > 20
    assert not [message for message, rule in patterns.items() if not any(map(rule.fullmatch, shown))]
    assert not [block for block in shown if not any(rule.fullmatch(block) for rule in patterns.values())]
