"""Digits on canvases: both forms against the definition, each other, and their errors."""

import re
import sys
import threading

import numpy as np
import pytest

from aligndraw.data.compositing import composite, composite_reference

try:
    from aligndraw._host import composite as composite_host
except ModuleNotFoundError:
    composite_host = None

needs_host = pytest.mark.skipif(composite_host is None, reason="aligndraw._host is not built")
forms = pytest.mark.parametrize(
    "form",
    [composite_reference, pytest.param(composite_host, marks=needs_host)],
    ids=["numpy", "c++"],
)


def ints(*values):
    return np.array(values, dtype=np.int64)


def arguments(rng, batch, count=20, digit=(28, 28), canvas=(60, 60)):
    digits = rng.integers(1, 256, size=(count, *digit), dtype=np.uint8)
    first, second = rng.integers(0, count, batch), rng.integers(-1, count, batch)
    rows = rng.integers(0, canvas[0] - digit[0], (batch, 2), endpoint=True)
    columns = rng.integers(0, canvas[1] - digit[1], (batch, 2), endpoint=True)
    return digits, first, second, rows, columns, *canvas


@forms
def test_definition(form):
    """The second digit is written over the first, blank pixels too; -1 leaves it out."""
    digits = np.array([[[1, 2], [3, 4]], [[0, 5], [6, 0]]], np.uint8)
    canvas = form(digits, ints(0, 1), ints(1, -1), ints([0, 1], [1, 9]), ints([0, 1], [2, 9]), 3, 4)
    assert canvas.dtype == np.uint8
    assert canvas.tolist() == [
        [[1, 2, 0, 0], [3, 0, 5, 0], [0, 6, 0, 0]],
        [[0, 0, 0, 0], [0, 0, 0, 5], [0, 0, 6, 0]],
    ]


@needs_host
@pytest.mark.parametrize(
    "batch, digit, canvas",
    [
        (100, (28, 28), (60, 60)),
        (1, (28, 28), (28, 28)),
        (0, (28, 28), (60, 60)),
        (37, (5, 9), (31, 17)),
        (8, (1, 1), (1, 3)),
    ],
)
def test_forms_agree_bit_for_bit(batch, digit, canvas):
    given = arguments(np.random.default_rng(batch), batch, digit=digit, canvas=canvas)
    got, want = composite_host(*given), composite_reference(*given)
    assert got.shape == want.shape == (batch, *canvas)
    assert got.dtype == want.dtype and got.tobytes() == want.tobytes()


@needs_host
def test_the_compiled_form_is_used_where_it_is_built():
    assert composite is composite_host


BASE = {
    "digits": np.ones((3, 2, 2), np.uint8),
    "first": ints(0, 1),
    "second": ints(-1, 2),
    "rows": ints([0, 0], [1, 1]),
    "columns": ints([0, 0], [2, 2]),
    "height": 3,
    "width": 4,
}


@forms
@pytest.mark.parametrize(
    "change, message",
    [
        (
            {"digits": np.ones((3, 2, 2), np.float32)},
            "digits must be a C-contiguous uint8 array [n, h, w], got float32 [3, 2, 2]",
        ),
        (
            {"digits": np.ones((3, 4), np.uint8)},
            "digits must be a C-contiguous uint8 array [n, h, w], got uint8 [3, 4]",
        ),
        (
            {"digits": np.ones((6, 2, 2), np.uint8)[::2]},
            "digits must be a C-contiguous uint8 array [n, h, w], got uint8 [3, 2, 2], not contiguous",
        ),
        (
            {"first": [0, 1]},
            "first must be a C-contiguous int64 array [B], got list",
        ),
        (
            {"first": np.zeros(2, np.int32)},
            "first must be a C-contiguous int64 array [B], got int32 [2]",
        ),
        (
            {"first": np.zeros((), np.int64)},
            "first must be a C-contiguous int64 array [B], got int64 []",
        ),
        (
            {"second": ints(0)},
            "second must be a C-contiguous int64 array [2], got int64 [1]",
        ),
        (
            {"rows": ints(0, 1)},
            "rows must be a C-contiguous int64 array [2, 2], got int64 [2]",
        ),
        (
            {"columns": np.zeros((2, 2, 1), np.int64)},
            "columns must be a C-contiguous int64 array [2, 2], got int64 [2, 2, 1]",
        ),
        (
            {"columns": ints([0, 1], [0, 1]).T},
            "columns must be a C-contiguous int64 array [2, 2], got int64 [2, 2], not contiguous",
        ),
        ({"height": 1}, "the canvas must hold a digit of 2x2, got 1x4"),
        ({"width": -5}, "the canvas must hold a digit of 2x2, got 3x-5"),
        ({"first": ints(0, 3)}, "first[1] must be a digit in 0…2, got 3"),
        ({"first": ints(-1, 0)}, "first[0] must be a digit in 0…2, got -1"),
        ({"second": ints(0, 3)}, "second[1] must be -1 for none or a digit in 0…2, got 3"),
        ({"second": ints(-2, 0)}, "second[0] must be -1 for none or a digit in 0…2, got -2"),
        ({"rows": ints([0, 0], [1, 2])}, "rows[1, 1] must be in 0…1, got 2"),
        ({"rows": ints([-1, 0], [1, 1])}, "rows[0, 0] must be in 0…1, got -1"),
        ({"columns": ints([3, 0], [1, 1])}, "columns[0, 0] must be in 0…2, got 3"),
        (
            {"columns": ints([0, 0], [1, -(2**62)])},
            f"columns[1, 1] must be in 0…2, got -{2**62}",
        ),
    ],
)
def test_errors_are_the_same_in_both_forms(form, change, message):
    form(**BASE)
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        form(**{**BASE, **change})


@forms
def test_arguments_are_left_alone(form):
    given = arguments(np.random.default_rng(1), 10)
    before = [x.copy() for x in given[:5]]
    form(*given)
    assert all((x == y).all() for x, y in zip(given[:5], before, strict=True))


@needs_host
def test_threads_may_compose_at_the_same_time():
    given = [arguments(np.random.default_rng(seed), 100) for seed in range(4)]
    want = [composite_reference(*g).tobytes() for g in given]
    got = [[] for _ in given]

    def work(i):
        got[i] = [composite_host(*given[i]).tobytes() for _ in range(20)]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(given))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [[w] * 20 for w in want]


@needs_host
def test_the_interpreter_runs_meanwhile():
    """The GIL is released: a waiting thread, which cannot take it by force, comes in between."""
    given = arguments(np.random.default_rng(0), 10_000)

    def main_thread_runs_during_the_call():
        started, ended = threading.Event(), threading.Event()

        def work():
            started.set()
            composite_host(*given)
            ended.set()

        thread = threading.Thread(target=work)
        thread.start()
        started.wait()
        during = not ended.is_set()
        thread.join()
        return during

    interval = sys.getswitchinterval()
    sys.setswitchinterval(100)
    try:
        # On a busy machine the main thread may wake too late, but not every time.
        assert any(main_thread_runs_during_the_call() for _ in range(50))
    finally:
        sys.setswitchinterval(interval)
