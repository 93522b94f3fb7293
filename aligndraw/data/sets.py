"""The data sets of training, by name."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

from aligndraw.arguments import check_choice, check_int, check_path
from aligndraw.data.batches import Examples, Source
from aligndraw.data.captioned import CaptionedImages, CaptionedSplit, DataError
from aligndraw.data.digits import load_digits
from aligndraw.data.mnist_captions import (
    CANVAS,
    STRICT,
    Bans,
    MNISTCaptions,
    bans_named,
    caption,
    evaluation_sets,
    is_held_out,
)
from aligndraw.data.scene import SIDE
from aligndraw.data.scene_captions import EARLIER
from aligndraw.data.scenes import SceneExamples, Scenes, evaluation_scenes
from aligndraw.text import UNKNOWN, CaptionError, Vocabulary

PREVIEW_COUNT = 12  # preview captions at most
_TOGETHER = 100  # captions that are read together
NAMES = "mnist", "scenes", "captioned"  # of data sets
REQUIRED_SPLITS = "train", "validation"  # of captioned images
VALIDATION_SIZE = 1000  # examples of each validation set

# Template, a, b: the corners, and both wordings of both relations. _BANNED: template and b, for captions with banned a.
_PLACEMENTS = (
    (4, 3, -1), (6, 7, -1), (7, 0, -1), (5, 5, -1),
    (0, 1, 8), (1, 4, 6), (2, 7, 2), (3, 5, 9),
)  # fmt: skip
_BANNED = ((4, -1), (7, -1), (0, 7), (2, 0))
NEVER_SEEN = "never seen in training"
# One object in several colours and places, other objects, and combinations held out of training.
_SCENES = (
    ("a large red bus is parked on the road under a blue sky", ""),
    ("a large blue bus is parked on the road under a blue sky", ""),
    ("a large blue bus is parked on the sand under a blue sky", ""),
    ("a large blue bus is parked on the sand at night", ""),
    ("a large yellow balloon is flying over the grass at sunset", ""),
    ("a large white elephant stands on the grass under grey clouds", ""),
    ("a small pink kite is flying over the snow on the left", ""),
    ("a large orange boat is floating on the sea on the right", ""),
    ("a large green bus is parked on the sand under a blue sky", NEVER_SEEN),
    ("a large red stop sign is flying over the grass under a blue sky", NEVER_SEEN),
    ("a large white toilet sits open on the grass on a sunny day", NEVER_SEEN),
    ("a large red elephant stands on the sand under a blue sky", NEVER_SEEN),
)


@dataclass(frozen=True, eq=False)
class DataSet:
    """The training and validation data of a model. `open_data_set` makes one.

    Attributes:
        name: "mnist", "scenes" or "captioned".
        title: its name in text.
        image_shape: C, H, W.
        source: of the training examples.
        validation_sets: examples by kind. Each epoch of a training ends with their bound; patience reads the first.
        preview_captions: captions that training draws after each epoch, each with a remark or "".
        record: name, path and checksum, from which `recorded_data_set` opens it again; for "mnist" also the bans.
    """

    name: str
    title: str
    image_shape: tuple[int, int, int]
    source: Source
    validation_sets: Mapping[str, Examples]
    preview_captions: Sequence[tuple[str, str]]
    record: Mapping[str, str | None]


def open_data_set(
    name: str,
    path: str | os.PathLike[str] | None = None,
    validation_size: int = VALIDATION_SIZE,
    bans: str | None = None,
) -> DataSet:
    """Returns a data set by name.

    Args:
        name: "mnist", MNIST with captions; "scenes"; or "captioned", a folder of captioned images.
        path: of the folder; for "mnist", of digits for `load_digits`, by default those of the package.
        validation_size: examples of each validation set.
        bans: for "mnist", a name in `BANS`; "strict" when None.

    Raises:
        ValueError: there is no such data set or file, or it is damaged or unusable.
    """
    check_int("validation_size", validation_size, 1)
    check_choice("name", name, NAMES)
    place = None if path is None else check_path("path", path)
    if name == "mnist":
        return _mnist(place, validation_size, STRICT if bans is None else bans_named(bans))
    if bans is not None:
        raise ValueError(f"bans must be left out: only mnist has them, got {bans!r} for {name}")
    if name == "captioned":
        if place is None:
            raise ValueError("path must be a folder that `aligndraw data` wrote, got None")
        return _captioned(place, validation_size)
    if place is not None:
        raise ValueError(f"path must be left out for scenes, which are painted, got {str(path)!r}")
    return DataSet(
        name=name,
        title="scenes",
        image_shape=(3, SIDE, SIDE),
        source=Scenes(),
        validation_sets=evaluation_scenes("validation", size=validation_size),
        preview_captions=_SCENES,
        record={"name": name, "path": None, "sha256": None},
    )


def recorded_data_set(record: Mapping[str, str | None], validation_size: int = VALIDATION_SIZE) -> DataSet:
    """Returns the data set of a `DataSet.record`, of this version or an earlier one; errors as for `open_data_set`."""
    return open_data_set(str(record["name"]), record.get("path"), validation_size, record.get("bans"))


def reworded(data: DataSet, vocabulary: Vocabulary) -> DataSet:
    """Returns a data set with the word ids of another vocabulary.

    Raises:
        ValueError: the captions are generated, and so have their own words alone, those of scenes also the `EARLIER`
            ones; or as `CaptionedSplit.reworded`.
    """
    if vocabulary == data.source.vocabulary:
        return data
    if isinstance(data.source, Scenes) and vocabulary == EARLIER:
        scenes = {
            k: part.in_words(EARLIER) for k, part in data.validation_sets.items() if isinstance(part, SceneExamples)
        }
        return replace(data, source=Scenes(vocabulary=EARLIER), validation_sets=scenes)
    if not isinstance(data.source, CaptionedSplit):
        raise ValueError(f"the model must have the vocabulary of {data.title}, got another")
    parts = {
        k: part.reworded(vocabulary) for k, part in data.validation_sets.items() if isinstance(part, CaptionedSplit)
    }
    return replace(data, source=data.source.reworded(vocabulary), validation_sets=parts)


def _mnist(path: Path | None, validation_size: int, bans: Bans) -> DataSet:
    try:
        digits = load_digits(path)
    except FileNotFoundError as error:
        raise DataError(str(error)) from error
    checksum = hashlib.sha256(digits.images.tobytes() + digits.labels.tobytes()).hexdigest()
    banned = ((k, int(bans.table[k, 0]), b) for k, b in _BANNED if bans.table[k, 0] < 10)
    return DataSet(
        name="mnist",
        title="MNIST with captions" if bans is STRICT else f"MNIST with captions, {bans.name} bans",
        image_shape=(1, CANVAS, CANVAS),
        source=MNISTCaptions(digits, bans=bans),
        validation_sets=evaluation_sets(digits, "validation", size=validation_size, bans=bans),
        preview_captions=[
            (caption(*p, words=True).removesuffix(" ."), NEVER_SEEN if is_held_out(*p, bans) else "")
            for p in (*_PLACEMENTS, *banned)
        ],
        record={
            "name": "mnist",
            "path": None if path is None else os.path.abspath(path),
            "sha256": checksum,
            "bans": bans.name,
        },
    )


def _captioned(path: Path, validation_size: int) -> DataSet:
    data = CaptionedImages.open(path)
    missing = [split for split in REQUIRED_SPLITS if split not in data.sizes]
    if missing:
        raise DataError(f"{path} must have a train and a validation split, got no {missing[0]}")
    train, validation = data.split("train"), data.split("validation")
    # Captions without unknown words; if validation has none, as in a very small set, those of training.
    remark, shown = "", _previews((validation, train), partial(_is_known, data.vocabulary))
    if not shown:
        remark, shown = f"with {UNKNOWN}", _previews((validation, train), partial(_is_read, data.vocabulary))
    if not shown:
        raise DataError(f"{path} must have a caption in the words of its vocabulary: store it again")
    return DataSet(
        name="captioned",
        title=f"captioned images of {path}",
        image_shape=data.image_shape,
        source=train,
        validation_sets={"validation": validation.epoch(0, size=min(validation_size, len(validation)))},
        preview_captions=[(text, remark) for text in dict.fromkeys(shown)],
        record={"name": "captioned", "path": os.path.abspath(path), "sha256": data.checksum},
    )


def _previews(splits: Iterable[CaptionedSplit], is_good: Callable[[str], bool]) -> list[str]:
    """Returns the first good captions of splits, each split in a random order."""
    captions = (text for split in splits for text in _shuffled(split))
    return list(islice(filter(is_good, captions), PREVIEW_COUNT))


def _shuffled(split: CaptionedSplit) -> Iterator[str]:
    """Yields the captions of a split in the order of its epoch 0."""
    examples = split.epoch(0, size=len(split))
    for start in range(0, len(split), _TOGETHER):
        yield from examples.captions(slice(start, start + _TOGETHER))


def _is_known(vocabulary: Vocabulary, caption: str) -> bool:
    with suppress(CaptionError):
        vocabulary.check_known([caption])
        return _is_read(vocabulary, caption)
    return False


def _is_read(vocabulary: Vocabulary, caption: str) -> bool:
    with suppress(CaptionError):
        return bool(vocabulary.encode(caption))
    return False
