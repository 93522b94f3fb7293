"""Work in several processes: results in order, and processes that end with their owner, however it ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from aligndraw.data import CaptionedImages, DataError, image_files, workers
from aligndraw.data.image_files import Collection, store_collection


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Images that all differ, of which one is damaged."""
    folder = tmp_path_factory.mktemp("pictures")
    files = {f"{i}.png": folder / f"{i}.png" for i in range(12)}
    for i, path in enumerate(files.values()):
        Image.new("RGB", (5 + i, 4), (20 * i, 255 - 20 * i, i)).save(path)
    files["7.png"].write_bytes(b"no image")
    return files


def collection(files):
    return Collection({"train": [(name, f"picture {name[:-4]}") for name in files]}, dict(files))


def state(process):
    """The state of a process and its parent; "Z" and 0 where it has ended."""
    try:
        state, parent = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[:2]
    except (FileNotFoundError, ProcessLookupError):
        return "Z", 0
    return state, int(parent)


def alive(process):
    return state(process)[0] != "Z"


def children(process):
    return [int(place.name) for place in Path("/proc").glob("[0-9]*") if state(place.name)[1] == process]


def wait_until(condition):
    for _ in range(1200):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("it never came")


def test_the_same_bytes_from_any_number_of_processes(pictures, tmp_path, monkeypatch):
    """Also the same line about the damaged image."""
    monkeypatch.setattr(image_files, "CHUNK_SIZE", 5)
    for processes in (1, 2):
        found = collection(pictures)
        store_collection(found, tmp_path / str(processes), {}, size=(3, 3), processes=processes, allow_skipped=1)
        assert found.skipped == ["image 7.png: it is damaged or no PNG, JPEG, GIF, BMP, TIFF, WebP or PPM file"]
    one, two = (CaptionedImages.open(tmp_path / name) for name in "12")
    assert one.checksum == two.checksum and one.sizes == {"train": {"images": 11, "captions": 11}}
    assert (one.split("train").images == two.split("train").images).all()


def test_results_in_order_and_a_process_that_dies():
    """The first task takes longest; a later one ends its process, and is no reason to wait for ever."""
    tasks = ["__import__('time').sleep(0.5) or 1", *map(str, range(2, 9)), "__import__('os')._exit(1)", "10"]
    with (
        pytest.raises(DataError, match="a process that reads images was killed, perhaps for want of memory"),
        workers.in_order(eval, tasks, 2) as results,
    ):
        assert [next(results) for _ in range(5)] == [1, 2, 3, 4, 5]  # four tasks ahead have begun
        list(results)


OWNER = """
import multiprocessing, signal
from aligndraw.data.workers import in_order

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the shell of a job in the background has it ignored
    try:
        with in_order(exec, ["", "import time; time.sleep(600)", ""], 2) as results:
            next(results)
            print(len(multiprocessing.active_children()), flush=True)
            next(results)
    except KeyboardInterrupt:
        print("closed", flush=True)
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="it looks for processes in /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_processes_end_with_their_owner(number, tmp_path):
    """Whatever signal comes, also while one of them works, which takes ten minutes, and one waits for work."""
    script = tmp_path / "owner.py"
    script.write_text(OWNER)
    owner = subprocess.Popen([sys.executable, "-B", script], stdout=subprocess.PIPE, text=True, cwd=tmp_path)
    assert owner.stdout.readline() == "2\n"
    processes = children(owner.pid)  # also that of `multiprocessing` itself
    try:
        assert len(processes) >= 2 and all(map(alive, processes))
        os.kill(owner.pid, number)
        out, _ = owner.communicate(timeout=120)
        assert out == ("closed\n" if number == signal.SIGINT else "")
        wait_until(lambda: not any(map(alive, processes)))
    finally:
        for process in filter(alive, [owner.pid, *processes]):
            os.kill(process, signal.SIGKILL)
