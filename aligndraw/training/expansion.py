"""Vocabulary expansion for skip-thoughts (Kiros et al., 2015, section 2.2).

A linear map from word2vec's space to theirs.

    min over W, b of Σ |v W + b − e|² over the words in both vocabularies; v is word2vec's vector, e the trained one

Trained words keep their vectors. Every other word of word2vec without "_" gets v W + b.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aligndraw.arguments import check_path
from aligndraw.files import archive_names, finite_floats, load_archive
from aligndraw.json_files import FileError
from aligndraw.printable import counted
from aligndraw.text.skipthoughts import FILES, WORD_RULE, write_skipthoughts


def read_word_vectors(path: str | Path) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yields words with their vectors [v], in order, from word2vec's binary form (.bin) or its text form.

    Raises:
        OSError: there is no such file.
        FileError: it is damaged.
    """
    path = check_path("path", path)
    with path.open("rb") as file:
        try:
            count, size = map(int, file.readline().split())
            if not 0 < size <= path.stat().st_size:
                raise ValueError(f"it is too short for vectors of {counted(size, 'number')}")
            for _ in range(count):
                if path.suffix == ".bin":
                    word = b"".join(iter(lambda: file.read(1) or _raise_cut_off(), b" "))
                    vector = np.frombuffer(file.read(4 * size), "<f4")
                else:
                    word, *numbers = file.readline().rstrip().split(b" ")
                    vector = np.array(numbers, np.float64)
                if len(vector) != size:
                    raise ValueError(f"the vector of {word.decode('utf-8', 'replace')!r} is cut off")
                vector = finite_floats(vector, f"the vector of {word.decode('utf-8', 'replace')!r}")
                yield word.decode("utf-8").strip(), vector
        except ValueError as error:
            raise FileError(f"{path} is damaged or no word2vec file: {error}") from error


def _raise_cut_off() -> bytes:
    raise ValueError("it ends within a word")


def shared_vectors(words: Iterable[str], path: str | Path) -> list[tuple[str, NDArray[np.float32]]]:
    """Returns the words of a word2vec file that are among `words`, with their vectors; reads the whole file.

    Raises:
        OSError: there is no such file.
        FileError: it is damaged, or has too few of the words to determine a map.
    """
    among = set(words)
    shared = [(word, vector) for word, vector in read_word_vectors(path) if word in among]
    least = len(shared[0][1]) + 1 if shared else 1
    if len(shared) < least:
        rule = f"must share at least {counted(least, 'word')} with the training text"
        raise FileError(f"{path} {rule}, got {len(shared)}")
    return shared


def fit_map(trained: Mapping[str, NDArray[np.floating]], path: str | Path) -> tuple[NDArray[Any], NDArray[Any]]:
    """Returns W [v, e] and b [e], by least squares over the words in both vocabularies; errors of `shared_vectors`."""
    shared = shared_vectors(trained, path)
    inputs = np.array([np.append(vector, 1.0) for _, vector in shared], np.float64)
    targets = np.array([trained[word] for word, _ in shared], np.float64)
    solution: NDArray[Any] = np.linalg.lstsq(inputs, targets, rcond=None)[0]
    return solution[:-1], solution[-1]


def expand_vocabulary(
    words: Sequence[str], table: NDArray[np.floating], word_vectors: str | Path, folder: Path, name: str
) -> int:
    """Adds the words of a word2vec file to the files of a model; returns the new number of words.

    Args:
        words: the K trained ones.
        table: their vectors [K, e].
        word_vectors: as for `read_word_vectors`; the file is read three times and never held in memory.
        folder: with the files that `write_skipthoughts` has written.
        name: of the model, "uni" or "bi".

    Raises:
        OSError: a file cannot be read or written; each appears whole or not at all.
        FileError: the word2vec file is damaged or shares too few words.
    """
    known = {word: table[i] for i, word in enumerate(words)}
    slope, offset = fit_map(known, word_vectors)
    more = dict.fromkeys(w for w, _ in read_word_vectors(word_vectors) if w not in known and "_" not in w)

    def blocks() -> Iterator[NDArray[Any]]:
        yield table
        missing = set(more)
        for word, vector in read_word_vectors(word_vectors):
            if word in missing:  # the first vector of a repeated word counts
                missing.remove(word)
                yield (vector @ slope + offset)[None]

    path = folder / FILES[name][0]
    keys = archive_names(path)
    arrays = dict(zip(keys, load_archive(path, *keys)))
    rule = int(arrays[WORD_RULE])
    write_skipthoughts(folder, name, arrays, (*words, *more), blocks(), rule)
    return len(words) + len(more)
