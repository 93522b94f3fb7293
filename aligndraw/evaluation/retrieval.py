"""Retrieval of images given captions by the likelihood ratio (paper, section 4.1.3 and Table 1).

The score of an image x for a caption y is L(x | y) − L(x), where L is the variational lower bound of log p. Without the
second term, images that are probable under any caption would come first. There are two choices of L(x):

    L(x) = L(x | ȳ)                      the paper's; ȳ is the mean sentence representation of the training set
    L(x) = log 1/R Σ_r exp L(x | y_r)    the marginal, p(x) = E_y p(x | y), by R captions y_r of the training set

No training caption resembles ȳ, so a model's response to it is arbitrary; the marginal uses training captions alone.
All bounds of an image use the same noise, which cancels in the comparison.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aligndraw.arguments import check_int, check_seed
from aligndraw.data import Examples
from aligndraw.evaluation.bound import EPSILON, clipped
from aligndraw.evaluation.fidelity import Share
from aligndraw.evaluation.nearest import nearest_images
from aligndraw.files import load_array, reading
from aligndraw.model import Caption, Model
from aligndraw.noise import stream
from aligndraw.printable import counted

RECALLS = (1, 5, 10, 50)
SHORTLIST = 100
MARGINAL = 64  # captions of a marginal


@dataclass(frozen=True, eq=False)
class Retrieval:
    """The ranks at which captions find their images.

    Attributes:
        ranks: int64 [k], the number of candidates before the true image; 0 is best. A tie counts as before it, so that
            a model with equal scores finds nothing.
        candidates: images that each caption chooses from.
    """

    ranks: Tensor
    candidates: int

    @classmethod
    def of(cls, scores: Tensor, true: Tensor) -> Retrieval:
        """Returns the retrieval of scores [k, s], higher is better, and positions of the true images, int64 [k].

        Raises:
            ValueError: a score is not a finite number.
        """
        if not scores.isfinite().all():
            raise ValueError("scores must be finite numbers, got others: the model or an image is unusable")
        return cls((scores >= scores.gather(1, true[:, None])).sum(1) - 1, scores.shape[1])

    def recall(self, count: int) -> Share:
        """Returns R@K, the share of captions whose image is among the first `count`: rank < K.

        By chance it is K / candidates.
        """
        return Share(int((self.ranks < count).sum()), len(self.ranks))

    @property
    def median_rank(self) -> int:
        """⌊median of the ranks⌋ + 1, counted from 1."""
        return math.floor(float(np.median(self.ranks.numpy()))) + 1

    def __str__(self) -> str:
        """Returns shares in per cent, beside those of chance."""
        shares = (f"R@{k} {self.recall(k)} (chance {100 * min(1, k / self.candidates):.0f})" for k in RECALLS)
        return f"{', '.join(shares)}, median rank {self.median_rank} of {self.candidates}"

    def to_dict(self) -> dict[str, Any]:
        """Returns plain numbers, ready for JSON."""
        recalls = {f"R@{k}": self.recall(k).to_dict() for k in RECALLS}
        return {**recalls, "median_rank": self.median_rank, "candidates": self.candidates, "captions": len(self.ranks)}


class Reference(NamedTuple):
    """The captions of L(x): ȳ alone, from `mean_caption`, or R of training, from `encode_examples`."""

    captions: Caption  # R rows
    sentences: Tensor | None = None  # the same captions, encoded for a sharpener, [R, d]


@torch.no_grad()
def mean_caption(
    model: Model,
    examples: Examples,
    batch_size: int = 500,
    *,
    on_batch: Callable[[int], object] = lambda captions: None,
) -> Caption:
    """Returns ȳ, the mean sentence representation of the captions of examples, as one row for `Reference`.

    Without align, a sentence is represented by the vector that the decoder reads. With align, it is represented by the
    mean of its words h_lang, and ȳ is a sequence of one vector, with α = 1.

    Raises:
        ValueError: no examples, or a model of the released conventions, in which a caption's representation depends on
            the others of its batch.
    """
    _check_model(model)
    check_int("examples", len(examples), 1)
    check_int("batch_size", batch_size, 1)
    device = model.canvas.device
    totals: list[Tensor] = []  # of the words and of the sentences
    for start in range(0, len(examples), batch_size):
        _, words, lengths = examples.batch(slice(start, start + batch_size))
        caption = model.encode_captions(torch.from_numpy(words).to(device), torch.from_numpy(lengths).to(device))
        sums = [vectors.double().sum(0) for vectors in (caption.mean_words(), caption.sentence)]
        totals = [total + more for total, more in zip(totals, sums)] or sums
        on_batch(len(lengths))
    mean, last = ((t / len(examples)).to(model.canvas.dtype)[None] for t in totals)
    return model.caption_from_vectors(mean)._replace(sentence=last)  # the refiner reads the sentence, with align too


@torch.no_grad()
def encode_examples(model: Model, examples: Examples) -> Caption:
    """Returns the captions of examples, one row each, for the marginal of a `Reference`."""
    _, words, lengths = examples.batch(slice(0, len(examples)))
    device = model.canvas.device
    return model.encode_captions(torch.from_numpy(words).to(device), torch.from_numpy(lengths).to(device))


def shortlists(features: NDArray[Any], size: int = SHORTLIST) -> NDArray[np.int64]:
    """Returns for each of n images the images nearest to it in a feature space by Euclidean distance, itself first.

    Args:
        features: [n, d], any real dtype.
        size: s, the image itself included.

    Returns:
        int64 [n, s].

    Raises:
        ValueError: the shape, a feature that is not a finite number, or s is not from 1 to n.
    """
    check_int("size", size, 1)
    if not np.isfinite(features).all():
        raise ValueError("features must be finite numbers, got others: the network or an image is unusable")
    if features.ndim != 2 or not 1 <= size <= len(features):
        raise ValueError(f"features must be [n, d] with n of at least size {size}, got {list(features.shape)}")
    itself = np.arange(len(features))
    if size == 1:
        return itself[:, None]
    found, _ = nearest_images(features, features, min(size, len(features)))
    # With equal images, an image need not come first in its own list, and may be missing.
    order = np.argsort(found != itself[:, None], axis=1, kind="stable")
    lists = np.take_along_axis(found, order, 1)
    missing = lists[:, 0] != itself
    lists[missing, 1:] = lists[missing, :-1]
    lists[:, 0] = itself
    return lists


def read_shortlists(path: Path, images: int) -> NDArray[np.int64]:
    """Returns the shortlists of a .npy file of whole numbers [n, s]; row i belongs to image i.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged or something else, or as for `retrieve`.
    """
    with reading(path, "no .npy file of whole numbers [n, s]"):
        lists = load_array(path)
    return _checked(lists, images, str(path))


@dataclass(frozen=True, eq=False)
class Likelihoods:
    """Lower bounds L(x | y) of images given captions.

    Args:
        model: on any device.
        images: uint8 [n, C, H, W], in memory or mapped.
        samples: of the latents, over which a bound is a mean.
        seed: image i uses stream i, whatever the caption and the batch size.
        batch_size: pairs of an image and a caption, times samples, per batch.
        sharpen: maps images [B, C, H, W] and sentences [B, d] to sharp images, for the likelihood of sharpened
            pictures; None for that of pictures as drawn.
        epsilon: for sharpened pictures, as in `estimate_bound`.
        on_batch: called with the number of bounds just taken.

    Raises:
        ValueError: samples or batch_size is below 1, or the model is of the released conventions, in which a caption's
            representation depends on the others of its batch.
    """

    model: Model
    images: NDArray[np.uint8]
    samples: int = 1
    seed: int = 0
    batch_size: int = 500
    sharpen: Callable[[Tensor, Tensor], Tensor] | None = None
    epsilon: float = EPSILON
    on_batch: Callable[[int], object] = lambda bounds: None

    def __post_init__(self) -> None:
        _check_model(self.model)
        for name in ("samples", "batch_size"):
            check_int(name, getattr(self, name), 1)
        check_seed(self.seed)

    @torch.no_grad()
    def conditional(
        self, words: Tensor, lengths: Tensor, candidates: NDArray[np.int64], sentences: Tensor | None = None
    ) -> Tensor:
        """Returns L(x | y) in nats of each caption with each of its candidates, [k, s].

        Args:
            words, lengths: the k captions, in the form of `Model.encode_captions`.
            candidates: int64 [k, s], the images that each caption is scored with.
            sentences: the captions, encoded for the sharpener, [k, d].

        Raises:
            ValueError: shapes do not fit.
        """
        if candidates.ndim != 2 or len(candidates) != len(words):
            raise ValueError(
                f"candidates must be [k, s] for {counted(len(words), 'caption')}, got {list(candidates.shape)}"
            )
        device, (count, width) = self.model.canvas.device, candidates.shape

        def caption(rows: Tensor) -> Caption:
            block = slice(int(rows[0]), int(rows[-1]) + 1)
            read = self.model.encode_captions(words[block].to(device), lengths[block].to(device))
            return read.rows((rows - rows[0]).to(device))

        rows = torch.arange(count).repeat_interleave(width)
        return self._bounds(candidates.reshape(-1), rows, caption, sentences).view(count, width)

    @torch.no_grad()
    def baseline(self, reference: Reference, index: NDArray[np.int64] | None = None) -> Tensor:
        """Returns L(x) = log 1/R Σ_r exp L(x | y_r) in nats, float64 [n]; for one caption it is L(x | y_1).

        Args:
            reference: the R captions.
            index: int64, positions of images; None for all.
        """
        index = np.arange(len(self.images)) if index is None else index
        captions, device = reference.captions, self.model.canvas.device
        count = len(captions.lengths)
        rows = torch.arange(count).repeat(len(index))
        found = self._bounds(
            index.repeat(count), rows, lambda rows: captions.rows(rows.to(device)), reference.sentences
        )
        return found.view(len(index), count).double().logsumexp(1) - math.log(count)

    def _bounds(
        self, index: NDArray[np.int64], rows: Tensor, caption: Callable[[Tensor], Caption], sentences: Tensor | None
    ) -> Tensor:
        """Returns L(x | y) pair by pair, of images and of captions by row, on the CPU."""
        model, parts = self.model, []
        device, batch_size = model.canvas.device, max(1, self.batch_size // self.samples)
        for start in range(0, len(index), batch_size):
            chunk, row = index[start : start + batch_size], rows[start : start + batch_size]
            pixels = torch.from_numpy(np.asarray(self.images[chunk])).to(device, model.canvas.dtype) / 255
            generator = [stream(self.seed, i) for i in chunk.tolist()]
            refine = None
            if self.sharpen is not None:
                if sentences is None:
                    raise ValueError("sentences must be given where pictures are sharpened, got None")
                vectors = sentences[row.repeat_interleave(self.samples)].to(device)
                refine = clipped(partial(_sharpened, self.sharpen, vectors), self.epsilon)
            bound = model.bound(pixels, caption(row), generator=generator, samples=self.samples, refine=refine)
            parts.append(-(bound.kl + bound.nll).cpu())
            self.on_batch(len(chunk))
        return torch.cat(parts) if parts else torch.zeros(0)


def retrieve(
    likelihoods: Likelihoods,
    references: Sequence[Reference],
    words: Tensor,
    lengths: Tensor,
    image_index: NDArray[np.int64] | None = None,
    lists: NDArray[np.int64] | None = None,
    sentences: Tensor | None = None,
) -> list[Retrieval]:
    """Returns one retrieval per reference, of the n images of `likelihoods` by k captions.

    Args:
        references: of L(x).
        words, lengths, sentences: as in `Likelihoods.conditional`.
        image_index: int64 [k], the image of each caption; when None, caption i is of image i.
        lists: int64 [n, s], the candidates of each image, from `shortlists`; None for all images.

    Raises:
        ValueError: shapes do not fit; a shortlist repeats an image, lacks its own, or names one that does not exist.
    """
    count = len(likelihoods.images)
    true = np.arange(count) if image_index is None else np.asarray(image_index)
    if true.shape != (len(words),) or (len(true) and not 0 <= true.min() <= true.max() < count):
        raise ValueError(
            f"image_index must be positions of {counted(count, 'image')}, one for each of "
            f"{counted(len(words), 'caption')}"
        )
    lists = np.tile(np.arange(count), (count, 1)) if lists is None else _checked(lists, count, "lists")
    candidates = lists[true]
    used, position = np.unique(candidates, return_inverse=True)
    usual = [likelihoods.baseline(reference, used)[position.reshape(candidates.shape)] for reference in references]
    given = likelihoods.conditional(words, lengths, candidates, sentences)
    own = torch.from_numpy((candidates == true[:, None]).argmax(1))
    return [Retrieval.of(given - each, own) for each in usual]


def _sharpened(sharpen: Callable[[Tensor, Tensor], Tensor], sentences: Tensor, drawn: Tensor) -> Tensor:
    return sharpen(drawn, sentences)


def _check_model(model: Model) -> None:
    if model.mixes_captions:
        raise ValueError(
            f"model must be of the paper's conventions for retrieval, got {model.config.conventions}: "
            "its language model mixes the captions of a batch"
        )


def _checked(lists: NDArray[Any], images: int, name: str) -> NDArray[np.int64]:
    """Returns shortlists int64 [n, s] of `images` images; raises ValueError where they are wrong."""
    if lists.ndim != 2 or len(lists) != images or not np.issubdtype(lists.dtype, np.integer):
        got = f"{lists.dtype} {list(lists.shape)}"
        raise ValueError(
            f"{name} must be whole numbers [n, s], a row for each of {counted(images, 'image')}, got {got}"
        )
    lists = lists.astype(np.int64)
    if lists.size and not 0 <= lists.min() <= lists.max() < images:
        raise ValueError(f"{name} must be positions from 0 to {images - 1}, got {lists.min()} to {lists.max()}")
    for i, row in enumerate(lists):
        if i not in row or len(np.unique(row)) < len(row):
            raise ValueError(f"{name} must have image {i} in row {i}, and none twice, got {row[:5].tolist()}…")
    return lists
