"""Skip-thought vectors (Kiros et al., 2015), from files of the released form:

dictionary.txt            one word per line
utable.npy, btable.npy    a vector per word [K, e]; gigabytes, of which only the rows of occurring words are read
uni_skip.npz              encoder_{W [e, 2d], b [2d], U [d, 2d], Wx [e, d], Ux [d, d], bx [d]}
bi_skip.npz               the same, and encoder_r_… for the reversed sentence

The first halves of W, U and b belong to r, the second to u. The cell is that of `torch.nn.GRU` from a state of zeros:

    r, u = σ(x W + h U + b);  h ← u h + (1 − u) tanh(x Wx + bx + r (h Ux))

`aligndraw train skipthoughts` writes these files. `aligndraw.text.words.treebank_words` splits sentences.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence

from aligndraw.arguments import check_path
from aligndraw.files import (
    archive_names,
    atomic_write,
    finite_floats,
    load_archive,
    load_array,
    read_text,
    reading,
    write_array,
)
from aligndraw.printable import counted
from aligndraw.text.vocabulary import CaptionError, check_captions
from aligndraw.text.words import RULE, legacy_rule, treebank_words, word_rule

DICTIONARY, END, UNKNOWN = "dictionary.txt", "<eos>", "UNK"
FILES = {"uni": ("uni_skip.npz", "utable.npy"), "bi": ("bi_skip.npz", "btable.npy")}
_MODELS = {"uni": ["uni"], "bi": ["bi"], "combined": ["uni", "bi"]}
# Further entries of our .npz files: the rule that splits sentences, and the checksums of the dictionary and of each row
# of the table.
WORD_RULE, DICTIONARY_SUM, ROW_SUMS = "word_rule", "dictionary_sha256", "table_crc32"
_BATCH_SIZE = 128  # sentences


class SkipThoughts:
    """Sentences to vectors: uni [n, d], bi [n, 2d] (forward, reverse), or combined (uni, bi); uni and bi have norm 1.

    Args:
        folder: with the files of the model; tables stay on disk.
        model: "uni", "bi" or "combined".

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged or does not fit the others.
    """

    def __init__(self, folder: str | Path, model: str = "combined") -> None:
        if model not in _MODELS:
            raise ValueError(f"model must be one of {', '.join(_MODELS)}, got {model!r}")
        folder = check_path("folder", folder)
        content = (folder / DICTIONARY).read_bytes()
        lines = read_text(folder / DICTIONARY).split("\n")
        words = [line.strip() for line in lines[: -1 if not lines[-1] else None]]
        self._rows = {word: i for i, word in enumerate(words)}
        if UNKNOWN not in self._rows:
            raise ValueError(f"{folder / DICTIONARY} must have the word {UNKNOWN}, which stands for unknown ones")
        self._encoders = []
        rules = set()
        for name in _MODELS[model]:
            weights, table = (folder / file for file in FILES[name])
            encoder, notes = _encoder(weights)
            if notes.get(DICTIONARY_SUM) not in (None, hashlib.sha256(content).hexdigest()):
                raise ValueError(f"{folder / DICTIONARY} is damaged: {weights.name} was saved with another")
            self._encoders.append((encoder, _Table(table, len(words), notes.get(ROW_SUMS))))
            rules.add(notes.get(WORD_RULE) or legacy_rule(words))
            wanted, got = encoder.input_size, self._encoders[-1][1].units
            if wanted != got:
                raise ValueError(
                    f"{table} must have vectors of {counted(wanted, 'number')} to fit {weights.name}, got {got}"
                )
        if len(rules) > 1:
            raise ValueError(f"the models in {folder} must split sentences by one rule, got {sorted(rules)}")
        self._rule = rules.pop()
        self.units = sum(gru.hidden_size * (1 + gru.bidirectional) for gru, _ in self._encoders)

    @torch.no_grad()
    def encode(self, captions: Sequence[str]) -> Tensor:
        """Returns float32 [n, d]. Raises CaptionError, a ValueError, for a lone string or a sentence without words."""
        captions = check_captions(captions)
        different = {caption: treebank_words(caption, self._rule) for caption in captions}
        for caption, words in different.items():
            if not words:
                raise CaptionError(f"caption must hold at least one word, got {caption!r}")
        by_length = sorted(different, key=lambda caption: len(different[caption]))
        unknown = self._rows[UNKNOWN]
        found: dict[str, Tensor] = {}
        for i in range(0, len(by_length), _BATCH_SIZE):
            batch = by_length[i : i + _BATCH_SIZE]
            rows = [[self._rows.get(word, unknown) for word in different[caption]] for caption in batch]
            parts = [nn.functional.normalize(_read(*encoder, rows)) for encoder in self._encoders]
            found.update(zip(batch, torch.cat(parts, 1)))
        return torch.stack([found[caption] for caption in captions])


def to_gru(arrays: Mapping[str, NDArray[np.floating]], prefixes: Sequence[str]) -> nn.GRU:
    """Returns the released arrays of one encoder, or of both directions, as an `nn.GRU` with inputs [B, N, e].

    Raises:
        ValueError: the shapes do not fit each other, or a number is not finite.
        KeyError: an array is missing.
    """
    inputs, units = _check_arrays(arrays, prefixes)
    gru = nn.GRU(inputs, units, batch_first=True, bidirectional=len(prefixes) > 1)
    with torch.no_grad():
        for suffix, prefix in zip(("", "_reverse"), prefixes):
            a = {name: arrays[f"{prefix}_{name}"] for name in ("W", "b", "U", "Wx", "Ux", "bx")}
            state = {
                "weight_ih": np.concatenate([a["W"], a["Wx"]], 1).T,
                "weight_hh": np.concatenate([a["U"], a["Ux"]], 1).T,
                "bias_ih": np.concatenate([a["b"], a["bx"]]),
                "bias_hh": np.zeros(3 * units),
            }
            for name, array in state.items():
                getattr(gru, f"{name}_l0{suffix}").copy_(torch.from_numpy(np.ascontiguousarray(array)))
    return gru


def _check_arrays(arrays: Mapping[str, NDArray[np.floating]], prefixes: Sequence[str]) -> tuple[int, int]:
    """Returns e and d of the arrays of an encoder; raises ValueError where one is unfit."""
    first = arrays[f"{prefixes[0]}_Wx"]
    if first.ndim != 2:
        raise ValueError(f"{prefixes[0]}_Wx must have 2 dimensions, got {list(first.shape)}")
    e, d = first.shape
    shapes = {"W": (e, 2 * d), "b": (2 * d,), "U": (d, 2 * d), "Wx": (e, d), "Ux": (d, d), "bx": (d,)}
    for prefix in prefixes:
        for name, shape in shapes.items():
            got = arrays[f"{prefix}_{name}"].shape
            if got != shape:
                raise ValueError(f"{prefix}_{name} must be {list(shape)} to fit {prefixes[0]}_Wx, got {list(got)}")
            finite_floats(arrays[f"{prefix}_{name}"], f"{prefix}_{name}")
    return e, d


def from_gru(gru: nn.GRU, prefixes: Sequence[str]) -> dict[str, NDArray[np.floating]]:
    """Returns the arrays that `to_gru` reads; PyTorch's second bias must be zero."""
    arrays = {}
    for suffix, prefix in zip(("", "_reverse"), prefixes):
        inputs, hidden, bias = (
            getattr(gru, f"{name}_l0{suffix}").detach().cpu().numpy() for name in ("weight_ih", "weight_hh", "bias_ih")
        )
        gates = 2 * gru.hidden_size
        arrays[f"{prefix}_W"], arrays[f"{prefix}_Wx"] = inputs[:gates].T, inputs[gates:].T
        arrays[f"{prefix}_U"], arrays[f"{prefix}_Ux"] = hidden[:gates].T, hidden[gates:].T
        arrays[f"{prefix}_b"], arrays[f"{prefix}_bx"] = bias[:gates], bias[gates:]
    return arrays


def prefixes(name: str) -> list[str]:
    """Returns the prefixes of the arrays of the model "uni" or "bi"."""
    return ["encoder"] if name == "uni" else ["encoder", "encoder_r"]


def write_skipthoughts(
    folder: Path,
    name: str,
    arrays: Mapping[str, NDArray[Any]],
    words: Sequence[str],
    table: Iterable[NDArray[np.floating]],
    rule: int = RULE,
) -> None:
    """Writes the three files of the model "uni" or "bi", each whole or not at all.

    Args:
        arrays: as from `from_gru`, and the vectors of the trained words as `Wemb`.
        words: the vocabulary.
        table: the vectors of the words, in blocks [n, e].
        rule: that splits sentences into words.

    Raises:
        OSError: a file cannot be written.
    """
    sums: list[int] = []

    def summed() -> Iterator[NDArray[np.float32]]:
        for block in table:
            rows = np.ascontiguousarray(block, np.float32)
            sums.extend(map(zlib.crc32, rows))
            yield rows

    content = "".join(f"{word}\n" for word in words).encode()
    with atomic_write(folder / FILES[name][1]) as path:
        write_array(path, (len(words), arrays[f"{prefixes(name)[0]}_Wx"].shape[0]), np.float32, summed())
    with atomic_write(folder / DICTIONARY) as path:
        path.write_bytes(content)
    notes = {WORD_RULE: rule, DICTIONARY_SUM: hashlib.sha256(content).hexdigest(), ROW_SUMS: np.array(sums, np.uint32)}
    with atomic_write(folder / FILES[name][0]) as path, path.open("wb") as file:
        np.savez(file, **{**arrays, **notes})  # type: ignore[arg-type]


def _encoder(path: Path) -> tuple[nn.GRU, dict[str, Any]]:
    """Returns the encoder of a file, and its entries about the other files."""
    parts = prefixes("bi" if path.name == FILES["bi"][0] else "uni")
    names = [f"{part}_{name}" for part in parts for name in ("W", "b", "U", "Wx", "Ux", "bx")]
    read: dict[str, Callable[[Any], Any]] = {
        WORD_RULE: lambda rule: word_rule(int(rule)).number,
        DICTIONARY_SUM: str,
        ROW_SUMS: np.asarray,
    }
    with reading(path, "damaged or no skip-thoughts"):
        known = sorted(read.keys() & archive_names(path))
        notes = {name: read[name](array) for name, array in zip(known, load_archive(path, *known))}
        return to_gru(dict(zip(names, load_archive(path, *names))), parts), notes


class _Table:
    """The vectors of words, in their file; each vector is checked when it is read.

    Args:
        words: the required number of vectors.
        sums: the CRC-32 of each vector, where the file has them.
    """

    def __init__(self, path: Path, words: int, sums: NDArray[np.uint32] | None) -> None:
        self._path, self._sums = path, sums
        with reading(path, "damaged or no table"):
            self._vectors = load_array(path, mapped=True)
        found = self._vectors.shape
        if len(found) != 2 or found[0] != words or (sums is not None and sums.shape != (words,)):
            raise ValueError(
                f"{path} must have a row for each of the {counted(words, 'word')} of {DICTIONARY}, got {found}"
            )
        self.units = found[1]

    def __getitem__(self, rows: Sequence[int]) -> Tensor:
        """Returns float32 [N, e]. Raises FileError where one is damaged."""
        vectors = np.ascontiguousarray(self._vectors[list(rows)])
        with reading(self._path, "damaged"):
            for row, vector in zip(rows, vectors):
                if self._sums is not None and zlib.crc32(vector) != self._sums[row]:
                    raise ValueError(f"row {row} is not the one that was written")
            converted = [finite_floats(vector, f"row {row}") for row, vector in zip(rows, vectors)]
        return torch.from_numpy(np.stack(converted))


def _read(gru: nn.GRU, table: _Table, rows: Sequence[Sequence[int]]) -> Tensor:
    """Returns the last states [B, d] after words [B][N], both directions concatenated."""
    inputs = [table[row] for row in rows]
    lengths = torch.tensor([len(row) for row in rows])
    packed = pack_padded_sequence(pad_sequence(inputs, batch_first=True), lengths, True, enforce_sorted=False)
    last: Tensor = gru(packed)[1]  # [directions, B, d]
    return last.transpose(0, 1).flatten(1)
