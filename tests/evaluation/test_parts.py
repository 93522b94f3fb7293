"""Work in parts: shared out without gaps or repetitions, kept whole, read in order."""

import numpy as np
import pytest

from aligndraw.evaluation.parts import Part, Parts, ProcessGroup
from aligndraw.json_files import FileError


class Alone(ProcessGroup):
    """One of several whose others are not there to be waited for."""

    def barrier(self):
        pass


@pytest.fixture
def parts():
    return [Part(f"m/p-{i}", i, lambda i=i: np.full(i, i)) for i in range(1, 8)]


@pytest.mark.parametrize("size", [1, 2, 3, 9])
def test_shares(tmp_path, parts, size):
    done = Parts(tmp_path)
    done.do(parts[2])
    shares = [done.share(parts, Alone(rank, size)) for rank in range(size)]
    names = [part.name for share in shares for part in share]
    assert sorted(names) == sorted(part.name for part in parts if part is not parts[2])
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_what_a_kill_after_the_last_part_has_left(tmp_path, parts):
    """It stayed for good: a part that is there is not written again."""
    done = Parts(tmp_path)
    done.do(parts[0])
    (tmp_path / "m" / ".aligndraw-killed").mkdir()
    assert done.share(parts[:1], Alone(0, 1)) == []
    assert [path.name for path in (tmp_path / "m").iterdir()] == ["p-1.safetensors"]


def test_what_was_done_is_read_in_order(tmp_path, parts):
    done = Parts(tmp_path)
    for part in reversed(parts):
        done.do(part)
    np.testing.assert_array_equal(done.read(parts), np.repeat(range(1, 8), range(1, 8)))
    with pytest.raises(FileNotFoundError, match="other.safetensors"):
        done.read([Part("other", 1, parts[0].compute)])
    done.path("other").write_bytes(b"")
    with pytest.raises(ValueError, match="other.safetensors is not the computed result: remove it, and start again"):
        done.read([Part("other", 1, parts[0].compute)])


@pytest.mark.parametrize("damage", ["flipped", "cut", "text"])
def test_a_result_that_was_not_computed(tmp_path, parts, damage):
    """A flipped bit went into the tables in silence."""
    done = Parts(tmp_path)
    done.do(parts[5])
    path = done.path(parts[5].name)
    content = path.read_bytes()
    path.write_bytes({"flipped": content[:-3] + b"\1" + content[-2:], "cut": content[:-8], "text": b"6 6 6"}[damage])
    with pytest.raises(FileError, match=f"{path.name} is not the computed result: remove it, and start again"):
        done.read(parts[5:6])


def test_a_part_that_fails_leaves_nothing(tmp_path, parts):
    done = Parts(tmp_path)
    with pytest.raises(RuntimeError):
        done.do(Part("a/b", 1, lambda: (_ for _ in ()).throw(RuntimeError)))
    with pytest.raises(TypeError):
        done.do(Part("a/b", 1, lambda: np.array([object()])))
    assert not list(tmp_path.rglob("*.safetensors"))
