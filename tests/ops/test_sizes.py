"""Sizes that overflow get one message on every backend; arrays that no memory holds get one line."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from aligndraw.backends import missing_reason

pytestmark = [
    pytest.mark.skipif(bool(missing_reason("read", "cpp", "cpu")), reason="no C++ ops here"),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limit on memory is Linux's"),
]


@pytest.fixture(scope="module")
def messages():
    script = Path(__file__).with_name("oversized.py")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run([sys.executable, script], capture_output=True, text=True, env=env)
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    return json.loads(run.stdout)


def test_sizes_that_overflow_get_one_message_on_every_backend(messages):
    """A glimpse of 2³¹ × 2³¹ aborted the process, one of 2³⁰ went on for ever, empty arrays got wrong sizes."""
    rule = "must have sizes below 2**31 with a product of at most 2**40, got"
    for name, found in messages["overflows"].items():
        argument, sizes = name.split(" [")
        assert set(found) == {f"{argument} {rule} [{sizes}"}


def test_what_no_memory_holds_is_one_line(messages):
    """Of the threads, too, whose exceptions PyTorch's C interface replaces by one that names a line of its header."""
    found = {}
    for array, lines in messages["no memory"].items():
        assert len(lines) == 1
        found[array] = int(re.fullmatch(r"aligndraw: there is no memory for an array of (\d+) bytes", lines[0])[1])
    result, working = 2**19 * 2**19 * 4, 2**21 * 2**12 * 4  # working memory holds more on some instruction sets
    assert found["result"] == result and working <= found["working memory"] < 2 * working
    assert set(found) == {"result", "working memory"}
    assert messages["afterwards"] == [1, 1, 2, 2]


def test_an_empty_batch_takes_no_steps(messages):
    assert messages["nothing"] == [0, 2**30, 1]
