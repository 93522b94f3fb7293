"""Retrieval of images given captions by the likelihood ratio (paper, section 4.1.3 and Table 1).

An image x is scored for a caption y by L(x | y) − L(x | ȳ), L being the variational lower bound of log p and ȳ the mean
sentence representation of the training set: without the second term, images that are probable under any caption would
come first. Both terms take the same noise, that of the image, so that it falls out of the comparison.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aligndraw.data import Examples
from aligndraw.evaluation.bound import EPSILON, clipped
from aligndraw.evaluation.fidelity import Share
from aligndraw.evaluation.nearest import nearest
from aligndraw.model import Caption, Model
from aligndraw.model.noise import stream

RECALLS = (1, 5, 10, 50)
SHORTLIST = 100


@dataclass(frozen=True, eq=False)
class Retrieval:
    """How far down each caption finds its image.

    Attributes:
        ranks: int64 [k], the candidates before the true image; 0 is best. A tie counts as before it, so that a model
            that scores all alike finds nothing.
        candidates: images that each caption chooses from.
    """

    ranks: Tensor
    candidates: int

    @classmethod
    def of(cls, scores: Tensor, true: Tensor) -> Retrieval:
        """Of scores [k, s], higher is better, and the position of the true image among the s candidates, int64 [k].

        Raises:
            ValueError: a score is not a finite number.
        """
        if not scores.isfinite().all():
            raise ValueError("scores must be finite numbers, got others: the model or an image is of no use")
        return cls((scores >= scores.gather(1, true[:, None])).sum(1) - 1, scores.shape[1])

    def recall(self, count: int) -> Share:
        """R@K: captions whose image is among the first `count`, rank < K. By chance it is K / candidates."""
        return Share(int((self.ranks < count).sum()), len(self.ranks))

    @property
    def median_rank(self) -> int:
        """⌊median of the ranks⌋ + 1, counted from 1."""
        return math.floor(float(np.median(self.ranks.numpy()))) + 1

    def __str__(self) -> str:
        """In per cent, with what chance gives."""
        shares = (f"R@{k} {self.recall(k)} (chance {100 * min(1, k / self.candidates):.0f})" for k in RECALLS)
        return f"{', '.join(shares)}, median rank {self.median_rank} of {self.candidates}"

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, ready for JSON."""
        recalls = {f"R@{k}": self.recall(k).to_dict() for k in RECALLS}
        return {**recalls, "median_rank": self.median_rank, "candidates": self.candidates, "captions": len(self.ranks)}


class Sharpening(NamedTuple):
    """How σ(c_T) is sharpened before it is the mean of the pixels, for captions and for ȳ."""

    network: Callable[[Tensor, Tensor], Tensor]  # images [R, C, H, W] and sentences [R, d] to sharp images
    sentences: Tensor  # of the captions, [k, d]
    mean: Tensor  # of the training captions, ȳ as the sharpener reads it: [1, d]
    epsilon: float = EPSILON  # as for `estimate_bound`


@torch.no_grad()
def mean_caption(
    model: Model,
    examples: Examples,
    batch_size: int = 500,
    *,
    on_batch: Callable[[int], object] = lambda captions: None,
) -> Caption:
    """ȳ, the mean sentence representation of the captions of examples, as one row for `Model.bound`.

    Without align a sentence is represented by the vector that the decoder sees. With align it is the mean of its words
    h_lang, and ȳ is passed as a sequence of one vector, so that α = 1.

    Raises:
        ValueError: no examples, or a model of the released conventions, in which a caption's representation depends on
            the others of its batch.
    """
    _check_model(model)
    if len(examples) == 0:
        raise ValueError("examples must be at least 1, got 0")
    device = model.canvas.device
    total, sentence = model.canvas.new_zeros(2, model.config.caption_units, dtype=torch.float64)
    for start in range(0, len(examples), batch_size):
        _, words, lengths = examples.batch(slice(start, start + batch_size))
        caption = model.describe(torch.from_numpy(words).to(device), torch.from_numpy(lengths).to(device))
        total += caption.mean_words().double().sum(0)
        sentence += caption.sentence.double().sum(0)
        on_batch(len(lengths))
    mean, last = ((t / len(examples)).to(model.canvas.dtype)[None] for t in (total, sentence))
    return model.represented(mean)._replace(sentence=last)  # what refines pictures reads the sentence, align or not


def shortlists(features: NDArray[Any], size: int = SHORTLIST) -> NDArray[np.int64]:
    """For each of n images the images nearest to it by Euclidean distance in a feature space, itself first.

    Args:
        features: [n, d], any real dtype.
        size: s, the image itself included.

    Returns:
        int64 [n, s].

    Raises:
        ValueError: the shape, or s is not from 1 to n.
    """
    if features.ndim != 2 or not 1 <= size <= len(features):
        raise ValueError(f"features must be [n, d] with n of at least size {size}, got {list(features.shape)}")
    itself = np.arange(len(features))
    if size == 1:
        return itself[:, None]
    found, _ = nearest(features, features, min(size, len(features)))
    # An image that others are equal to need not come first, and may even be missing.
    order = np.argsort(found != itself[:, None], axis=1, kind="stable")
    lists = np.take_along_axis(found, order, 1)
    missing = lists[:, 0] != itself
    lists[missing, 1:] = lists[missing, :-1]
    lists[:, 0] = itself
    return lists


def read_shortlists(path: Path, images: int) -> NDArray[np.int64]:
    """Shortlists from a .npy file of whole numbers [n, s], row i those of image i.

    Raises:
        ValueError: no such array, or as for `retrieve`.
        OSError: it cannot be read.
    """
    try:
        lists = np.load(path, allow_pickle=False)
    except ValueError as error:
        raise ValueError(f"{path} must be a .npy file of whole numbers [n, s]: {error}") from error
    return _checked(lists, images, str(path))


@torch.no_grad()
def likelihood_ratios(
    model: Model,
    mean: Caption,
    images: NDArray[np.uint8],
    words: Tensor,
    lengths: Tensor,
    candidates: NDArray[np.int64],
    *,
    samples: int = 1,
    seed: int = 0,
    batch_size: int = 500,
    sharpening: Sharpening | None = None,
    on_batch: Callable[[int], object] = lambda pairs: None,
) -> Tensor:
    """L(x | y) − L(x | ȳ) in nats of each caption with each of its candidates, [k, s].

    Args:
        model: on any device.
        mean: ȳ, from `mean_caption`.
        images: uint8 [n, C, H, W], in memory or mapped.
        words, lengths: the k captions, as `Model.describe` takes them.
        candidates: int64 [k, s], the images that each caption is scored with.
        samples: of the latents, of which both bounds are means.
        seed: image i takes stream i, whatever the caption and the batch size.
        batch_size: pairs of an image and a caption, times samples, at a time.
        sharpening: for the likelihoods of sharpened pictures; None for those of the pictures as they are drawn.
        on_batch: called with the number of bounds just taken: one an image, and one a pair.

    Raises:
        ValueError: shapes do not fit, or samples or batch_size is below 1.
    """
    _check_model(model)
    if samples < 1 or batch_size < 1:
        raise ValueError(f"samples and batch_size must be at least 1, got {samples} and {batch_size}")
    if candidates.ndim != 2 or len(candidates) != len(words):
        raise ValueError(f"candidates must be [k, s] for {len(words)} captions, got {list(candidates.shape)}")
    device, together = model.canvas.device, max(1, batch_size // samples)

    def bounds(index: NDArray[np.int64], caption: Caption, sentence: Tensor) -> Tensor:
        """L(x | y) of images with captions row by row, whose numbers the sharpener is told."""
        pixels = torch.from_numpy(np.asarray(images[index])).to(device, model.canvas.dtype) / 255
        generator, refine = [stream(seed, i) for i in index.tolist()], None
        if sharpening is not None:
            table = torch.cat([sharpening.sentences, sharpening.mean])
            vectors = table[sentence.repeat_interleave(samples)].to(device)
            refine = clipped(lambda drawn: sharpening.network(drawn, vectors), sharpening.epsilon)
        bound = model.bound(pixels, caption, generator=generator, samples=samples, refine=refine)
        on_batch(len(index))
        return -(bound.kl + bound.nll)

    used, position = np.unique(candidates, return_inverse=True)
    first = torch.zeros(together, dtype=torch.int64, device=device)
    last = torch.full((together,), len(words))  # where the sharpener's ȳ comes after the captions
    chunks = [used[start : start + together] for start in range(0, len(used), together)]
    usual = torch.cat([bounds(chunk, mean.rows(first[: len(chunk)]), last[: len(chunk)]) for chunk in chunks])
    pairs, width, parts = candidates.reshape(-1), candidates.shape[1], []
    for start in range(0, len(pairs), together):
        chunk = pairs[start : start + together]
        row = torch.arange(start, start + len(chunk)) // width
        block = slice(int(row[0]), int(row[-1]) + 1)
        caption = model.describe(words[block].to(device), lengths[block].to(device))
        parts.append(bounds(chunk, caption.rows((row - row[0]).to(device)), row))
    ratios = torch.cat(parts) - usual[torch.from_numpy(position.reshape(-1)).to(device)]
    return ratios.view(candidates.shape).cpu()


def retrieve(
    model: Model,
    mean: Caption,
    images: NDArray[np.uint8],
    words: Tensor,
    lengths: Tensor,
    image_index: NDArray[np.int64] | None = None,
    lists: NDArray[np.int64] | None = None,
    **options: Any,
) -> Retrieval:
    """Retrieval of n images by k captions.

    Args:
        model, mean, images, words, lengths: as in `likelihood_ratios`.
        image_index: int64 [k], the image of each caption; when None, caption i is of image i.
        lists: int64 [n, s], among which images each image is to be found, from `shortlists`; all when None.
        options: the others of `likelihood_ratios`.

    Raises:
        ValueError: shapes do not fit; a shortlist has an image twice, not its own, or one that does not exist.
    """
    count = len(images)
    true = np.arange(count) if image_index is None else np.asarray(image_index)
    if true.shape != (len(words),) or (len(true) and not 0 <= true.min() <= true.max() < count):
        raise ValueError(f"image_index must be positions of {count} images, one for each of {len(words)} captions")
    lists = np.tile(np.arange(count), (count, 1)) if lists is None else _checked(lists, count, "lists")
    candidates = lists[true]
    scores = likelihood_ratios(model, mean, images, words, lengths, candidates, **options)
    return Retrieval.of(scores, torch.from_numpy((candidates == true[:, None]).argmax(1)))


def _check_model(model: Model) -> None:
    if model.mixes_captions:
        raise ValueError(
            f"model must be of the paper's conventions for retrieval, got {model.config.conventions}: "
            "its language model mixes the captions of a batch"
        )


def _checked(lists: NDArray[Any], images: int, name: str) -> NDArray[np.int64]:
    """Shortlists, if they are such of so many images."""
    if lists.ndim != 2 or len(lists) != images or not np.issubdtype(lists.dtype, np.integer):
        got = f"{lists.dtype} {list(lists.shape)}"
        raise ValueError(f"{name} must be whole numbers [n, s], a row for each of {images} images, got {got}")
    lists = lists.astype(np.int64)
    if lists.size and not 0 <= lists.min() <= lists.max() < images:
        raise ValueError(f"{name} must be positions from 0 to {images - 1}, got {lists.min()} to {lists.max()}")
    for i, row in enumerate(lists):
        if i not in row or len(np.unique(row)) < len(row):
            raise ValueError(f"{name} must have image {i} in row {i}, and none twice, got {row[:5].tolist()}…")
    return lists
