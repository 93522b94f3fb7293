"""Shards: tar files as the package `webdataset` writes them, read sample by sample.

    a/0001.jpg  a/0001.txt      consecutive members with one name up to its first dot are a sample:
    a/0002.png  a/0002.json     an image, and captions: a .txt with one per line, or a .json with "caption"

Members are never unpacked to files, and none but these kinds is opened: no .pyd, .pkl or .npy.
"""

from __future__ import annotations

import io
import json
import os
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from aligndraw.data.caption_files import captions_of
from aligndraw.data.caption_folders import SPLITS
from aligndraw.data.caption_tables import CAPTION, caption_names, either
from aligndraw.data.captioned import CaptionedImages, DataError
from aligndraw.data.captioned_writer import CaptionedWriter, caption_error
from aligndraw.data.image_files import MAX_SKIPPED, Collection, check_size, chunk_size, read_or_fault
from aligndraw.data.image_names import is_image
from aligndraw.data.workers import in_order
from aligndraw.files import check_regular
from aligndraw.json_files import parse_json
from aligndraw.printable import one_line

MAX_IMAGE, MAX_TEXT = 2**28, 2**20  # bytes of a member


@dataclass(frozen=True)
class Piece:
    """Consecutive samples of a shard.

    Attributes:
        shard: the file.
        start, end: of the samples in it, in bytes.
        samples: their number.
        stamp: changes with the file.
    """

    shard: Path
    start: int
    end: int
    samples: int
    stamp: str

    @property
    def name(self) -> str:
        return f"{self.shard.name} {self.stamp} {self.start}-{self.end}"


@dataclass
class Samples:
    """The samples of a piece.

    Attributes:
        images: uint8 [n, C, H, W].
        captions: of each image.
        skipped: one line per omission.
        lost: the number of captions left out.
        unread: the ends of names of members that are not opened.
    """

    images: NDArray[np.uint8]
    captions: list[list[str]] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    lost: int = 0
    unread: list[str] = field(default_factory=list)


def find_shards(paths: Iterable[Path]) -> dict[str, list[Path]]:
    """Returns the shards of each split, train first.

    The names of shards tell their split, such as train-0001.tar; where none does, their folders, such as val/0001.tar,
    unless all tell the same. Otherwise the last tenth of the shards, at least one, is for testing, and the tenth before
    for validation; of two shards the second is for validation.

    Args:
        paths: of shards, or of folders with them.

    Raises:
        DataError: there are none, too few to divide, or some tell a split and others do not.
    """
    shards: list[Path] = []
    for path in paths:
        found = sorted(path.glob("*.tar")) if path.is_dir() else [path]
        if not found or not all(map(Path.is_file, found)):
            raise DataError(f"there are no shards at {path}: give .tar files, or folders with them")
        shards += found
    shards = list(dict.fromkeys(shards))
    told = {shard: _told(shard.stem) for shard in shards}
    if not any(told.values()):
        told = {shard: _told(shard.absolute().parent.name) for shard in shards}
        if len(set(told.values())) == 1:
            told = dict.fromkeys(shards)
    if any(told.values()):
        strange = next((shard for shard in shards if not told[shard]), None)
        if strange:
            known = next(shard for shard in shards if told[shard])
            raise DataError(
                f"{strange} tells no split by its name or folder, as {known} does ({told[known]}): rename it, with "
                "train, validation or test"
            )
    else:
        few = max(1, len(shards) // 10)
        tested = few if len(shards) > 2 else 0
        if len(shards) < 2:
            names = ", ".join(map(str, shards))
            raise DataError(f"there must be two shards or more to train on and to validate with, got {names or 'none'}")
        kinds = ["train"] * (len(shards) - few - tested) + ["validation"] * few + ["test"] * tested
        told = dict(zip(shards, kinds))
    return {
        split: found
        for split in dict.fromkeys(("train", *filter(None, told.values())))
        if (found := [shard for shard in shards if told[shard] == split])
    }


def _told(name: str) -> str | None:
    """Returns the split that a name tells, or None."""
    kinds = {SPLITS[word] for word in re.findall("[a-z]+", name.lower()) if word in SPLITS}
    return kinds.pop() if len(kinds) == 1 else None


def index_shard(shard: Path, count: int) -> list[Piece]:
    """Returns the pieces of a shard, of `count` samples each but for the last, from the heads of its members.

    Raises:
        DataError: it cannot be read, is packed, damaged or cut off.
    """
    check_regular(shard, DataError)
    status = shard.stat()
    stamp, starts, samples, last = f"{status.st_size} {status.st_mtime_ns}", [], 0, ""
    with shard.open("rb") as file:
        for member in _members(file, shard, 0):
            key = _key(member.name)
            if key != last:
                if samples % count == 0:
                    starts.append(member.offset)
                samples, last = samples + 1, key
        end = file.tell()
    return [
        Piece(shard, start, stop, min(count, samples - i * count), stamp)
        for i, (start, stop) in enumerate(zip(starts, [*starts[1:], end]))
    ]


def read_piece(piece: Piece, size: tuple[int, int], crop: bool = False) -> Samples:
    """Returns the samples of a piece.

    Args:
        size: H, W.
        crop: as for `image_pixels.read_image`.

    Raises:
        DataError: the shard is damaged, or has changed.
    """
    images: list[NDArray[np.uint8]] = []
    found = Samples(np.zeros((0, 3, *size), np.uint8))
    with piece.shard.open("rb") as file:
        for key, members in _grouped(_members(file, piece.shard, piece.start, piece.end)):
            what = f"{piece.shard.name}: sample {one_line(key)[:80]}"
            captions, fault = _captions(file, members, found.unread)
            good: list[str] = []
            for text in captions:
                error = caption_error(text)
                text = text if error else " ".join(text.split())
                if error or text in good:
                    found.skipped.append(f"{what}: {error or 'it has this caption twice'}")
                    found.lost += bool(error)
                else:
                    good.append(text)
            image = _image(file, members, size, crop)
            if fault or isinstance(image, str):
                found.skipped.append(f"{what}: {fault or image}")
                found.lost += max(1, len(good))
            elif good:
                images.append(image)
                found.captions.append(good)
    if images:
        found.images = np.stack(images)
    return found


def store_shards(
    splits: dict[str, list[Path]],
    folder: str | os.PathLike[str],
    *,
    size: tuple[int, int] = (32, 32),
    crop: bool = False,
    min_count: int = 1,
    processes: int | None = None,
    overwrite: bool = False,
    allow_skipped: float = MAX_SKIPPED,
    on_total: Callable[[int], object] = lambda images: None,
    on_images: Callable[[int], object] = lambda images: None,
) -> tuple[CaptionedImages, Collection]:
    """Stores the samples of shards as captioned images, which are never all in memory.

    After an interruption the same call resumes with the pieces read so far.

    Args:
        splits: from `find_shards`.
        on_total: called with the number of samples, once it is known.
        folder, size, crop, min_count, processes, overwrite, allow_skipped, on_images: as for
            `image_files.store_collection`.

    Returns:
        the data set, and the omissions.

    Raises:
        DataError: as `store_collection`; or a shard is damaged.
        OSError: it cannot be written.
    """
    check_size(size)
    collection, kept = Collection(), 0
    names = {split: [shard.name for shard in shards] for split, shards in splits.items()}
    plan = {"kind": "webdataset", "shards": names, "size": list(size), "crop": crop, "min_count": min_count}
    cores = processes or os.cpu_count() or 1
    with CaptionedWriter(folder, (3, *size), plan, resumable=True, overwrite=overwrite) as writer:
        pieces: list[tuple[str, Piece]] = []
        for split, shards in splits.items():
            index = partial(index_shard, count=chunk_size(size))
            pieces += ((split, piece) for found in map(index, shards) for piece in found)
        on_total(sum(piece.samples for _, piece in pieces))
        missing = [piece for split, piece in pieces if not writer.has_part(split, piece.name)]
        read = partial(read_piece, size=size, crop=crop)
        with in_order(read, missing, max(1, min(cores, len(missing)))) as results:
            for split, piece in pieces:
                if writer.has_part(split, piece.name):
                    notes = writer.take(split, piece.name)
                else:
                    found = next(results)
                    count = sum(map(len, found.captions))
                    notes = {"skipped": found.skipped, "lost": found.lost, "unread": found.unread, "kept": count}
                    writer.add(split, piece.name, found.images, found.captions, notes)
                collection.skipped += notes["skipped"]
                collection.lost += notes["lost"]
                collection.unread += (name for name in notes["unread"] if name not in collection.unread)
                kept += notes["kept"]
                on_images(piece.samples)
        collection.check_share(collection.lost, collection.lost + kept, allow_skipped)
        if not kept:
            raise DataError(f"there is no image to store{collection.example()}")
        return writer.finish(min_count=min_count, skipped=collection.skipped), collection


def _members(file: IO[bytes], shard: Path, start: int, end: int | None = None) -> Iterator[tarfile.TarInfo]:
    """Yields the regular members of a shard from an offset on; at the end checks that it is the end.

    Raises:
        DataError: the shard is damaged, cut off or packed.
    """
    file.seek(start)
    place = start
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            while (member := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # it would keep them all
                if tar.offset <= place or member.size < 0:
                    raise tarfile.ReadError(f"a member of a size that cannot be, at byte {place}")
                if end is not None and member.offset >= end:
                    return
                place = tar.offset
                if member.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not member.issparse():
                    yield member
                if place == end:
                    return
            place = tar.offset
    except (tarfile.TarError, ValueError, OverflowError) as error:
        packed = "" if start else _packed(file)
        raise DataError(f"{shard} is {packed or f'damaged or no tar file: {one_line(str(error))}'}") from error
    if end is not None:
        raise DataError(f"{shard} has changed since it was read: start again")
    file.seek(place)
    if len(block := file.read(tarfile.BLOCKSIZE)) < tarfile.BLOCKSIZE:
        raise DataError(f"{shard} is cut off at byte {place}: it has no end")
    while block:
        if block.strip(b"\0"):
            raise DataError(f"{shard} is damaged at byte {place}, or has other data after its end")
        block = file.read(1 << 20)
    file.seek(place)


def _packed(file: IO[bytes]) -> str:
    file.seek(0)
    head = file.read(6)
    kinds = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
    kind = next((name for magic, name in kinds.items() if head.startswith(magic)), "")
    return kind and f"packed by {kind}: unpack it first"


def _key(name: str) -> str:
    """Returns the name of a sample: that of a member up to the first dot after the last slash."""
    folder, slash, base = name.rpartition("/")
    return folder + slash + base.partition(".")[0]


def _grouped(members: Iterable[tarfile.TarInfo]) -> Iterator[tuple[str, list[tarfile.TarInfo]]]:
    """Yields the samples: name, and members."""
    group: list[tarfile.TarInfo] = []
    for member in members:
        if group and _key(group[0].name) != _key(member.name):
            yield _key(group[0].name), group
            group = []
        group.append(member)
    if group:
        yield _key(group[0].name), group


def _end(member: tarfile.TarInfo) -> str:
    """Returns the end of a member's name, in lower case: "jpg"; "seg.png"."""
    return member.name.rpartition("/")[2].partition(".")[2].lower()


def _captions(file: IO[bytes], members: Sequence[tarfile.TarInfo], unread: list[str]) -> tuple[list[Any], str]:
    """Returns the captions of a sample, or why there are none; adds to the ends of names that are not opened."""
    ends = [_end(member) for member in members]
    unread += (e for e in dict.fromkeys(ends) if e not in (*unread, "txt", "json") and not _is_picture(e))
    for end in ("txt", "json"):
        found = [member for member in members if _end(member) == end]
        if len(found) > 1:
            return [], f"it has several members .{end}"
        if found:
            try:
                text = _read(file, found[0], MAX_TEXT)
                if end == "txt":
                    return [line for line in text.decode().splitlines() if line.strip()], ""
                record = parse_json(text)
                if not isinstance(record, dict):
                    raise ValueError("it is no object")
                if not caption_names(record):
                    raise ValueError(f"it has no key {either(CAPTION)}")
                return captions_of(record), ""
            except ValueError as error:
                return [], f"its .{end} is of no use: {one_line(str(error))}"
    return [], "it has no caption: no .txt and no .json"


def _is_picture(end: str) -> bool:
    return "." not in end and is_image(f".{end}")


def _image(
    file: IO[bytes], members: Sequence[tarfile.TarInfo], size: tuple[int, int], crop: bool
) -> NDArray[np.uint8] | str:
    """Returns the image of a sample, or why there is none."""
    found = [member for member in members if _is_picture(_end(member))]
    if len(found) != 1:
        kinds = json.dumps([_end(member) for member in found])
        return f"it has several images: {kinds}" if found else "it has no image"
    try:
        return read_or_fault(io.BytesIO(_read(file, found[0], MAX_IMAGE)), size, crop)
    except ValueError as error:
        return str(error)


def _read(file: IO[bytes], member: tarfile.TarInfo, most: int) -> bytes:
    """Returns the bytes of a member; the place in the file stays as it was.

    Raises:
        ValueError: it has more than `most`, or the file fewer than it says.
    """
    if member.size > most:
        raise ValueError(f"a member has {member.size:,} bytes, more than {most:,}")
    place = file.tell()
    file.seek(member.offset_data)
    content = file.read(member.size)
    file.seek(place)
    if len(content) < member.size:
        raise ValueError("the shard is cut off")
    return content
