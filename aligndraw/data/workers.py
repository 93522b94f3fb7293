"""Work in several processes, whose results come in the order of the work."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from aligndraw.data import image_pixels
from aligndraw.data.captioned import DataError

_T = TypeVar("_T")
_R = TypeVar("_R")
_AHEAD = 2  # tasks per process that are begun before their results are asked for


@contextmanager
def in_order(function: Callable[[_T], _R], tasks: Iterable[_T], processes: int) -> Iterator[Iterator[_R]]:
    """Gives the results of the tasks, in order; few wait in memory.

    The processes end with the `with` statement or with this process, however it ends. An interrupt from the keyboard
    reaches this process alone. They decode large images one at a time, as the threads of one process do.

    Args:
        function: of a module; with one process it is called here.
        tasks: read as far as they are begun.
        processes: their number.

    Raises:
        DataError: a process has died, or an error of the function.
    """
    if processes == 1:
        yield map(function, tasks)
        return
    context = multiprocessing.get_context("spawn")  # a fork would inherit locks that threads of this process hold
    ends_with, alive = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(processes, context, initializer=_begin, initargs=(ends_with, context.Lock()))
    try:
        yield _results(pool, function, tasks, _AHEAD * processes)
    except BrokenProcessPool as error:
        raise DataError(
            "a process that reads images was killed, perhaps for want of memory: give fewer --processes; the same "
            "command resumes"
        ) from error
    finally:
        alive.close()  # ends processes that are still at work
        pool.shutdown(cancel_futures=True)
        ends_with.close()


def _results(pool: ProcessPoolExecutor, function: Callable[[_T], _R], tasks: Iterable[_T], ahead: int) -> Iterator[_R]:
    waiting: deque[Future[_R]] = deque()
    tasks = iter(tasks)
    while True:
        for task in islice(tasks, ahead - len(waiting)):
            waiting.append(pool.submit(function, task))
        if not waiting:
            break
        yield waiting.popleft().result()
    pool.shutdown()


def _begin(ends_with: Connection, one_large_image: Any) -> None:
    """Prepares a process for tasks."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    image_pixels.share(one_large_image)
    image_pixels.suppress_pillow_warnings().__enter__()
    threading.Thread(target=_end, args=(ends_with,), daemon=True).start()


def _end(ends_with: Connection) -> None:
    """Ends the process once the other end of a pipe is closed, by its owner's hand or death."""
    try:
        ends_with.recv_bytes()
    except (EOFError, OSError):
        os._exit(1)
