"""Collections of image files with captions, stored as folders of captioned images."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from aligndraw.data.captioned import CaptionedImages, DataError
from aligndraw.data.captioned_writer import CaptionedWriter
from aligndraw.data.image_pixels import read_image, suppress_pillow_warnings
from aligndraw.data.workers import in_order
from aligndraw.printable import counted

CHUNK_SIZE, CHUNK_BYTES = 256, 2**26  # most images, and bytes of images, that are read before they are stored
MAX_SIDE = 2048  # pixels, of a stored image; a process takes about 0.2 GB for one of these
MAX_EVALUATION_IMAGES = 5000  # of validation, and of test
MAX_SKIPPED = 0.05  # share of the captions that may be left out


@dataclass
class Collection:
    """Image files and their captions.

    Attributes:
        captions: of each split, pairs of an image name and a caption.
        files: the file of each image.
        skipped: one line per omission, with the reason.
        lost: the number of captions left out.
        unread: the columns of tables that have no meaning here.
        likely_cause: returns the likely cause of many omissions in a few words, or "".
    """

    captions: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    lost: int = 0
    unread: list[str] = field(default_factory=list)
    likely_cause: Callable[[], str] = lambda: ""

    def skip(self, what: str, why: str, lost: int = 0) -> None:
        """Notes an omission, with which `lost` captions are lost."""
        self.skipped.append(f"{what}: {why}")
        self.lost += lost

    def check_lost(self, allowed: float, unread: int = 0) -> None:
        """Raises DataError where more than the allowed share of the captions is lost.

        `unread` of them are in `captions`.
        """
        self.check_share(self.lost + unread, self.lost + sum(map(len, self.captions.values())), allowed)

    def check_share(self, lost: int, total: int, allowed: float) -> None:
        """Raises DataError where more than the allowed share of so many captions is lost."""
        if lost > allowed * total:
            raise DataError(
                f"{lost:,} of {counted(total, 'caption')} cannot be used, more than {100 * allowed:g} "
                f"%{self.example()}; "
                "mend it, or allow a larger share with --allow-skipped"
            )

    def example(self) -> str:
        """Returns a line of `skipped` with the most frequent reason, and the likely cause, as the end of a message."""
        reasons = Counter(line.rpartition(": ")[2] for line in self.skipped)
        such = [f", such as {line}" for line in self.skipped if line.endswith(reasons.most_common(1)[0][0])]
        cause = self.likely_cause()
        return "".join(such[:1]) + (f" ({cause})" if cause else "")


def random_split(names: Sequence[str], validation: int | None = None, test: int | None = None) -> dict[str, list[str]]:
    """Returns names divided at random into train, validation and test; the division depends on their number alone.

    Args:
        names: of the images.
        validation: the number; when None a tenth of them, at least 1 of 3 and at most 5,000.
        test: as validation.

    Raises:
        DataError: there are too few.
    """
    few = min(MAX_EVALUATION_IMAGES, len(names) // 10) or min(1, len(names) // 3)  # 1 of 3 to 9
    held_out = {"validation": few if validation is None else validation, "test": few if test is None else test}
    if sum(held_out.values()) > len(names):
        wanted = " and ".join(f"{n:,} for {split}" for split, n in held_out.items())
        raise DataError(f"there are {counted(len(names), 'image')} to take {wanted} from")
    order = np.random.default_rng(0).permutation(len(names)).tolist()
    parts = {}
    for split, number in held_out.items():
        parts[split], order = sorted(order[:number]), order[number:]
    return {split: [names[i] for i in part] for split, part in {"train": sorted(order), **parts}.items()}


def store_collection(
    collection: Collection,
    folder: str | os.PathLike[str],
    plan: Mapping[str, Any],
    *,
    size: tuple[int, int] = (32, 32),
    crop: bool = False,
    min_count: int = 1,
    processes: int | None = None,
    overwrite: bool = False,
    allow_skipped: float = MAX_SKIPPED,
    on_images: Callable[[int], object] = lambda images: None,
) -> CaptionedImages:
    """Reads the images and stores them with their captions; skips unreadable images.

    After an interruption the same call resumes with the images read so far.

    Args:
        collection: unreadable images are added to its `skipped`.
        folder: where to.
        plan: describes the collection, for the manifest.
        size: H, W.
        crop: as for `read_image`.
        min_count: least count of a word in the training captions for it to be in the vocabulary.
        processes: that read images; None for one per core. A chunk of images is read by one.
        overwrite: replaces captioned images in the folder.
        allow_skipped: the share of all captions that may be left out.
        on_images: called with the number of images just done, or found done.

    Raises:
        DataError: the size is out of range, the folder is taken, too many captions are left out, or a split is left
            empty.
        OSError: it cannot be written.
    """
    check_size(size)
    collection.check_lost(allow_skipped)

    def key(name: str) -> str:
        """Returns a key that changes with the file, so that a stored image is never out of date."""
        with suppress(OSError):
            status = collection.files[name].stat()
            return f"{name} {status.st_size} {status.st_mtime_ns}"
        return name

    keys = {name: key(name) for pairs in collection.captions.values() for name, _ in pairs}
    plan = {**plan, "size": list(size), "crop": crop, "min_count": min_count}
    with (
        suppress_pillow_warnings(),
        CaptionedWriter(folder, (3, *size), plan, resumable=True, overwrite=overwrite) as writer,
    ):
        parts: list[tuple[str, list[str]]] = []
        for split, pairs in collection.captions.items():
            names = list(dict.fromkeys(name for name, _ in pairs))
            missing = [name for name in names if keys[name] not in writer.stored(split)]
            on_images(len(names) - len(missing))
            parts += ((split, part) for part in _chunks(missing, chunk_size(size)))
        tasks = ([collection.files[name] for name in part] for _, part in parts)
        read = partial(_read_files, size=size, crop=crop)
        with in_order(read, tasks, max(1, min(processes or os.cpu_count() or 1, len(parts)))) as results:
            for (split, part), images in zip(parts, results):
                good = {keys[name]: image for name, image in zip(part, images) if not isinstance(image, str)}
                for name, image in zip(part, images):
                    if isinstance(image, str):
                        collection.skip(f"image {name}", image)  # its captions are counted below
                if good:
                    writer.store(split, list(good), np.stack(list(good.values())))
                on_images(len(part))
        captions = {split: [(keys[n], text) for n, text in pairs] for split, pairs in collection.captions.items()}
        unread = sum(key not in writer.stored(split) for split, pairs in captions.items() for key, _ in pairs)
        collection.check_lost(allow_skipped, unread)
        if unread == sum(map(len, captions.values())):
            raise DataError(f"there is no image to store{collection.example()}")
        return writer.finish(captions, min_count=min_count, skipped=collection.skipped)


def check_size(size: tuple[int, int]) -> None:
    """Raises DataError where images of a size cannot be stored."""
    if not all(1 <= side <= MAX_SIDE for side in size):
        raise DataError(f"size must be 1…{MAX_SIDE} by 1…{MAX_SIDE}, got {size[0]} by {size[1]}")


def chunk_size(size: tuple[int, int]) -> int:
    """Returns the number of images of a size that are read before they are stored."""
    return max(1, min(CHUNK_SIZE, CHUNK_BYTES // (3 * size[0] * size[1])))


def read_or_fault(file: Path | IO[bytes], size: tuple[int, int], crop: bool) -> NDArray[np.uint8] | str:
    """Returns an image as `read_image` does; or why it cannot be read, in one line."""
    try:
        return read_image(file, size, crop)
    # Damage raises a dozen kinds of exception, some of them Pillow's own.
    except Exception as error:
        return str(error).partition("\n")[0] or type(error).__name__


def _read_files(files: list[Path], size: tuple[int, int], crop: bool) -> list[NDArray[np.uint8] | str]:
    return [read_or_fault(file, size, crop) for file in files]


def _chunks(items: list[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
