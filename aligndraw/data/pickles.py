"""Safe reading of foreign pickles: everything except plain values is refused before it is made, and no code runs."""

from __future__ import annotations

import io
import pickle
import pickletools
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aligndraw.data.captioned import DataError


def load_pickle(path: Path, arrays: bool = False) -> Any:
    """Returns the contents of a pickle of Python 2 or 3.

    Dictionaries, lists, tuples, words, numbers and NumPy's numbers.

    Args:
        arrays: accepts NumPy arrays of numbers, too; `np.asarray` converts their stand-ins.

    Raises:
        DataError: it is missing, damaged, or holds anything else.
    """
    try:
        content = path.read_bytes()
        _check_numbers(content)
        return (_WithArrays if arrays else _Plain)(io.BytesIO(content), encoding="latin1").load()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    # A damaged pickle raises any of a dozen exceptions.
    except Exception as error:
        raise DataError(f"{path} must be a pickle of plain values: {error or type(error).__name__}") from error


def _check_numbers(content: bytes) -> None:
    """Raises UnpicklingError for a memo index beyond the length of the pickle.

    The reader allocates a table as long as the largest memo index.
    """
    for kind, number, _ in pickletools.genops(content):
        if "PUT" in kind.name and number is not None and number > len(content):
            raise pickle.UnpicklingError(f"it numbers a value {number:,}, of at most {len(content):,}")


class _Plain(pickle.Unpickler):
    """Makes plain values alone: it refuses all names in a pickle but those of NumPy's numbers."""

    def find_class(self, module: str, name: str) -> Any:
        wanted = f"{module}.{name}"
        if wanted in ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"):
            return lambda kind, content: _number(
                kind, content
            )  # a pickle may set attributes of a function; hence a fresh one
        if wanted == "numpy.dtype":
            return _Kind
        if wanted == "_codecs.encode":  # Python 3's way to bytes in an old protocol
            return lambda text, encoding: text
        raise pickle.UnpicklingError(f"it holds {wanted}, which is refused")

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it refers to something outside")


class _Kind:
    """A stand-in for a NumPy dtype of numbers, with the byte order of its state."""

    def __init__(self, name: str, *_: Any) -> None:
        self.name, self.order = str(name), "<"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = str(state[1])

    def dtype(self) -> np.dtype[Any]:
        kind = np.dtype(self.name)
        if kind.kind not in "biuf":
            raise pickle.UnpicklingError(f"it holds a NumPy {self.name}, which is refused")
        return kind.newbyteorder(">" if self.order == ">" else "<")


def _number(kind: _Kind, content: str | bytes) -> int | float:
    raw = content.encode("latin1") if isinstance(content, str) else content
    number: int | float = np.frombuffer(raw, kind.dtype(), count=1)[0].item()
    return number


class _WithArrays(_Plain):
    """Makes arrays of numbers, too."""

    def find_class(self, module: str, name: str) -> Any:
        wanted = f"{module}.{name}"
        if wanted in ("numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct"):
            return lambda *_: _Array()
        return _Array if wanted == "numpy.ndarray" else super().find_class(module, name)


class _Array:
    """A stand-in for a NumPy array."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, fortran, content = state
        raw = content.encode("latin1") if isinstance(content, str) else bytes(content)
        self._array = np.frombuffer(raw, kind.dtype()).reshape(shape, order="F" if fortran else "C")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self._array
