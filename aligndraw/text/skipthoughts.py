"""Skip-thought vectors (Kiros et al., 2015), from files of the released form:

dictionary.txt            a word a line
utable.npy, btable.npy    a vector of each word [K, e]; gigabytes, of which only the rows of words that occur are read
uni_skip.npz              encoder_{W [e, 2d], b [2d], U [d, 2d], Wx [e, d], Ux [d, d], bx [d]}
bi_skip.npz               the same, and encoder_r_… for the reversed sentence

The cell, the halves of W, U and b being those of r and u, is that of `torch.nn.GRU` from a state of zeros:

    r, u = σ(x W + h U + b);  h ← u h + (1 − u) tanh(x Wx + bx + r (h Ux))

`aligndraw train skipthoughts` writes such files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence

from aligndraw.files import load_archive, load_array, read_text, reading
from aligndraw.text.vocabulary import CaptionError

DICTIONARY, END, UNKNOWN = "dictionary.txt", "<eos>", "UNK"
FILES = {"uni": ("uni_skip.npz", "utable.npy"), "bi": ("bi_skip.npz", "btable.npy")}
_MODELS = {"uni": ["uni"], "bi": ["bi"], "combined": ["uni", "bi"]}
_TOGETHER = 128  # sentences read in one batch

# As the Penn Treebank: "don't" is do n't, "it's" is it 's; punctuation stands alone, but for that within numbers.
_TOKEN = re.compile(
    r"\w+?(?=n't\b)|n't\b|'(?:s|re|ve|ll|d|m)\b|\w+(?:-\w+|(?<=\d)[.,]\d+)*|[^\w\s]", re.IGNORECASE
)


def words_of(sentence: str) -> list[str]:
    """The words of a sentence, upper and lower case kept as skip-thoughts are trained."""
    return _TOKEN.findall(sentence)


class SkipThoughts:
    """Sentences to vectors: uni [n, d], bi [n, 2d], forward | reverse, or combined, uni | bi; each of length 1.

    Args:
        folder: with the files of the model; tables stay on disk.
        model: "uni", "bi" or "combined".

    Raises:
        FileNotFoundError: a file is not there.
        ValueError: a file is damaged or does not fit the others.
    """

    def __init__(self, folder: str | Path, model: str = "combined") -> None:
        if model not in _MODELS:
            raise ValueError(f"model must be one of {', '.join(_MODELS)}, got {model!r}")
        folder = Path(folder)
        lines = read_text(folder / DICTIONARY).split("\n")
        words = [line.strip() for line in lines[: -1 if not lines[-1] else None]]
        self._rows = {word: i for i, word in enumerate(words)}
        if UNKNOWN not in self._rows:
            raise ValueError(f"{folder / DICTIONARY} must have the word {UNKNOWN}, which stands for unknown ones")
        self._encoders = []
        for name in _MODELS[model]:
            weights, table = (folder / file for file in FILES[name])
            self._encoders.append((_encoder(weights), _table(table, len(words))))
            wanted, got = self._encoders[-1][0].input_size, self._encoders[-1][1].shape[1]
            if wanted != got:
                raise ValueError(f"{table} must have vectors of {wanted} numbers to fit {weights.name}, got {got}")
        self.units = sum(gru.hidden_size * (1 + gru.bidirectional) for gru, _ in self._encoders)

    @torch.no_grad()
    def encode(self, captions: Sequence[str]) -> Tensor:
        """float32 [n, d]. Raises CaptionError, a ValueError, for a sentence without words."""
        different = {caption: words_of(caption) for caption in captions}
        for caption, words in different.items():
            if not words:
                raise CaptionError(f"caption must hold at least one word, got {caption!r}")
        by_length = sorted(different, key=lambda caption: len(different[caption]))
        unknown = self._rows[UNKNOWN]
        found: dict[str, Tensor] = {}
        for i in range(0, len(by_length), _TOGETHER):
            together = by_length[i : i + _TOGETHER]
            rows = [[self._rows.get(word, unknown) for word in different[caption]] for caption in together]
            parts = [nn.functional.normalize(_read(*encoder, rows)) for encoder in self._encoders]
            found.update(zip(together, torch.cat(parts, 1)))
        if not found:
            raise CaptionError("captions must hold at least one caption, got none")
        return torch.stack([found[caption] for caption in captions])


def to_gru(arrays: Mapping[str, NDArray[np.floating]], prefixes: Sequence[str]) -> nn.GRU:
    """The released arrays of one encoder, or of both directions, as an `nn.GRU` that is given [B, N, e].

    Raises:
        ValueError: the shapes do not fit each other.
        KeyError: an array is missing.
    """
    inputs, units = _checked_shapes(arrays, prefixes)
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


def _checked_shapes(arrays: Mapping[str, NDArray[np.floating]], prefixes: Sequence[str]) -> tuple[int, int]:
    """e and d of the arrays of an encoder, once all have the shapes that follow; a GRU would be made of any sizes."""
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
    return e, d


def from_gru(gru: nn.GRU, prefixes: Sequence[str]) -> dict[str, NDArray[np.floating]]:
    """What `to_gru` reads; PyTorch's second bias must be zero."""
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
    """Of the arrays of the model "uni" or "bi"."""
    return ["encoder"] if name == "uni" else ["encoder", "encoder_r"]


def _encoder(path: Path) -> nn.GRU:
    parts = prefixes("bi" if path.name == FILES["bi"][0] else "uni")
    names = [f"{part}_{name}" for part in parts for name in ("W", "b", "U", "Wx", "Ux", "bx")]
    with reading(path, "damaged or no skip-thoughts"):
        return to_gru(dict(zip(names, load_archive(path, *names))), parts)


def _table(path: Path, words: int) -> NDArray[np.floating]:
    with reading(path, "damaged or no table"):
        table = load_array(path, mapped=True)
    if table.ndim != 2 or len(table) != words:
        raise ValueError(f"{path} must have a row for each of the {words} words of {DICTIONARY}, got {table.shape}")
    return table


def _read(gru: nn.GRU, table: NDArray[np.floating], rows: Sequence[Sequence[int]]) -> Tensor:
    """The last states [B, d] after words [B][N], both directions side by side."""
    inputs = [torch.from_numpy(np.asarray(table[list(row)], np.float32)) for row in rows]
    lengths = torch.tensor([len(row) for row in rows])
    packed = pack_padded_sequence(pad_sequence(inputs, batch_first=True), lengths, True, enforce_sorted=False)
    last: Tensor = gru(packed)[1]  # [directions, B, d]
    return last.transpose(0, 1).flatten(1)
