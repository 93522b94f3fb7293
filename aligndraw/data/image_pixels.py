"""Decoding of image files to arrays.

All image files are opened here, so that one place limits their formats and their memory.
"""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from aligndraw.files import check_regular
from aligndraw.printable import counted

# Pillow's other formats are not read: some start programs (EPS: Ghostscript), and few of their decoders are maintained.
KINDS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")
MAX_PIXELS = 80_000_000  # per file: Pillow warns of more, which takes a gigabyte
MAX_SIDE = 65_535  # pixels
LARGE = 16_000_000  # pixels; larger images are decoded one at a time

_one_large_image: Any = threading.Lock()
_LUMA = np.array([0.299, 0.587, 0.114])  # weights of red, green and blue in grey, as in JPEG

# TIFF's tags, and three of their values.
_BITS, _PHOTOMETRIC, _TILE_WIDTH, _TILE_LENGTH, _SAMPLE_FORMAT = 258, 262, 322, 323, 339
_WHITE_IS_ZERO, _SIGNED, _FLOAT = 0, 2, 3


class ImageError(ValueError):
    """An image file is unusable; the message is one line and says why."""


def share(lock: Any) -> None:
    """Makes this process decode a large image only while it holds a lock that it shares with others."""
    global _one_large_image
    _one_large_image = lock


def read_image(file: Path | IO[bytes], size: tuple[int, int], crop: bool = False) -> NDArray[np.uint8]:
    """Returns an image file in colour, uint8 [3, H, W]; each pixel is the mean over its area.

    Args:
        file: of one of the KINDS, by its path or open.
        size: H, W.
        crop: crops to the centre of these proportions first; otherwise the image is squashed.

    Raises:
        ImageError: it is damaged, too large, or of another kind.
        OSError: it is missing or cannot be read.
    """
    pixels = decode_image(file)
    white = np.iinfo(pixels.dtype).max
    if crop:
        scale = min(pixels.shape[0] / size[0], pixels.shape[1] / size[1])
        for axis, wanted in enumerate(size):
            extent = max(1, round(wanted * scale))
            first = (pixels.shape[axis] - extent) // 2
            pixels = pixels.take(range(first, first + extent), axis)
    means: NDArray[Any] = pixels
    # A growing axis comes last, so that no intermediate array is larger than the file or the result.
    for axis in (0, 1) if size[0] <= len(pixels) else (1, 0):
        means = _area_means(means.swapaxes(0, axis), size[axis]).swapaxes(0, axis)
    levels = np.rint(means * np.float32(255 / white)).astype(np.uint8)  # [H, W, C]
    return np.ascontiguousarray(np.broadcast_to(levels.transpose(2, 0, 1), (3, *size)))


def read_levels(path: Path, channels: int) -> NDArray[np.float32]:
    """Returns an image file at its own size, float32 [C, H, W] in [0, 1], in grey (C = 1) or in colour (C = 3).

    Raises:
        ImageError, OSError: as for `read_image`.
    """
    pixels = decode_image(path)
    levels = pixels / np.float64(np.iinfo(pixels.dtype).max)
    if channels == 1 and levels.shape[2] == 3:
        levels = levels @ _LUMA[:, None]
    image = levels.astype(np.float32).transpose(2, 0, 1)  # [C, H, W]
    return np.array(np.broadcast_to(image, (channels, *image.shape[1:])), order="C")


def decode_image(file: Path | IO[bytes]) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Returns the first picture of a file, upright and on white.

    Returns:
        uint8 or uint16 [h, w, C], where 255 or 65535 is white; C is 1 for grey and 3 for colour.

    Raises:
        ImageError, OSError: as for `read_image`.
    """
    if not isinstance(file, Path):
        return _decode(file)
    check_regular(file, ImageError)
    # Given a path, Pillow 13 maps the file, and scrambles the pixels of a rotated TIFF file.
    with file.open("rb") as stream:
        return _decode(stream)


def _decode(stream: IO[bytes]) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """As `decode_image`."""
    try:
        file = Image.open(stream, formats=KINDS)
        _check_size(file)
        with _one_large_image if file.width * file.height > LARGE else nullcontext():
            frame = file.tile[0][1] if file.format == "GIF" and file.tile else None
            pixels = _samples(file, stream)
            return _upright(pixels if frame is None else _on_white(pixels, frame), _orientation(file))
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        kinds = ", ".join(KINDS[:-1]).replace("WEBP", "WebP")
        reason = _unread_form(stream) or f"it is damaged or no {kinds} or {KINDS[-1]} file"
        raise ImageError(reason) from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"it has more than {MAX_PIXELS:,} pixels") from error
    # Damage raises a dozen kinds of exception.
    except Exception as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ImageError(f"it is damaged: {reason}") from error


@contextmanager
def suppress_pillow_warnings() -> Iterator[None]:
    """Suppresses Pillow's warnings: each unreadable image has a message of its own.

    Warnings are process-wide, so enter this before threads begin to read.
    """
    log, nowhere = logging.getLogger("PIL"), logging.NullHandler()
    log.addHandler(nowhere)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="PIL")
            yield
    finally:
        log.removeHandler(nowhere)


def _check_size(file: ImageFile) -> None:
    """Raises ImageError for an image that would take too much memory, from its header alone."""
    pixels = file.width * file.height
    if pixels > MAX_PIXELS:
        raise ImageError(f"it has {pixels:,} pixels, more than {MAX_PIXELS:,}")
    if max(file.size) > MAX_SIDE:
        raise ImageError(f"it has a side of {max(file.size):,} pixels, more than {MAX_SIDE:,}")
    tile = _tag(file, _TILE_WIDTH, 0) * _tag(file, _TILE_LENGTH, 0)
    if tile > MAX_PIXELS:
        raise ImageError(f"it has tiles of {tile:,} pixels, more than {MAX_PIXELS:,}")


def _tag(file: ImageFile, number: int, default: int) -> int:
    """Returns a tag of a TIFF file, the first of several values; other files have none."""
    value = getattr(file, "tag_v2", {}).get(number, default)
    return int(value[0] if isinstance(value, tuple) else value)


def _unread_form(stream: IO[bytes]) -> str:
    """Returns why Pillow does not know the form of a sound TIFF file; "" for other files."""
    try:
        stream.seek(0)
        head = stream.read(8)
        tags = ImageFileDirectory_v2(head + (stream.read(8) if head[2] == 43 else b""))  # 43: of 64 bits
        stream.seek(tags.next)
        tags.load(stream)
        bits = tags[_BITS]
        kind = _unscaled(tags.get(_SAMPLE_FORMAT, (1,))[0], max(bits))
        samples = f"{counted(len(bits), 'sample')} of {counted(max(bits), 'bit')}"
        return kind or f"it is a TIFF file of {samples}, which are not read: save it as PNG"
    # Damage raises half a dozen kinds of exception.
    except Exception:
        return ""


def _unscaled(sample_format: int, bits: int) -> str:
    """Returns why samples have no agreed range; "" where they have one."""
    kinds = {_FLOAT: "floating-point numbers", _SIGNED: "signed whole numbers"}
    kind = kinds.get(sample_format, f"whole numbers of {counted(bits, 'bit')}" if bits > 16 else "")
    return kind and f"it holds {kind}, and nothing says which is white: save it with 8 or 16 bits a sample"


def _on_white(pixels: NDArray[Any], frame: tuple[int, int, int, int]) -> NDArray[Any]:
    """Returns pixels [h, w, C] that are white outside a frame: left, top, right, bottom."""
    left, top, right, bottom = frame
    screen = np.full_like(pixels, np.iinfo(pixels.dtype).max)
    screen[top:bottom, left:right] = pixels[top:bottom, left:right]
    return screen


def _check_palette(file: ImageFile) -> None:
    """Raises ImageError where a pixel has a colour that the palette lacks."""
    colours = len(file.palette.palette) // len(file.palette.mode) if file.palette else 0
    highest = int(np.asarray(file).max())
    if highest >= colours:
        raise ImageError(
            f"it is damaged: its palette has {counted(colours, 'colour')}, and a pixel is of number {highest}"
        )


def _lower_bytes(stream: IO[bytes]) -> NDArray[np.uint8]:
    """Returns the lower bytes of the samples of a PNG file of 16 bits, uint8 [h, w, C]; Pillow keeps the upper ones."""
    stream.seek(0)
    file = Image.open(stream, formats=("PNG",))
    file.tile = [file.tile[0]._replace(args="RGB;16L")]  # the other byte first
    file.load()
    return np.asarray(file)


def _samples(file: ImageFile, stream: IO[bytes]) -> NDArray[Any]:
    """Returns the stored pixels, on white: uint8 or uint16 [h, w, C]."""
    stored = file.tile[0][3] if file.format == "PNG" and file.tile else ""  # such as "L;4"; `load` forgets it
    file.load()
    sample_format = _FLOAT if file.mode == "F" else _tag(file, _SAMPLE_FORMAT, 1)
    wide = file.mode == "I" and file.format not in ("PNG", "PPM")  # Pillow keeps their 16 bits in 32
    reason = _unscaled(sample_format, 32 if wide else 8)
    if reason:
        raise ImageError(reason)
    if file.mode == "P":
        _check_palette(file)
    clear: Any = file.info.get("transparency")
    if file.mode.startswith("I"):
        grey = np.asarray(file).astype(np.uint16)
        top = 2 ** min(_tag(file, _BITS, 16), 16) - 1
        if top < 65535:
            grey = ((grey.astype(np.uint32) * 65535 + top // 2) // top).astype(np.uint16)
        if _tag(file, _PHOTOMETRIC, 1) == _WHITE_IS_ZERO:
            grey = 65535 - grey
        if clear is not None:
            grey[grey == clear] = 65535
        return grey[..., None]
    if file.has_transparency_data:
        # A PNG file gives the transparent colour in its own bit depth; Pillow's pixels have 8 bits.
        if stored in ("1", "L;2", "L;4"):
            bits = int(stored[-1])
            file.info["transparency"] = min(clear, 2**bits - 1) * 255 // (2**bits - 1)
        elif stored == "RGB;16B":
            upper, lower = np.array(file), _lower_bytes(stream)
            upper[((upper == [v >> 8 for v in clear]) & (lower == [v & 255 for v in clear])).all(2)] = 255
            return upper
        white = Image.new("RGBA", file.size, "white")
        return np.asarray(Image.alpha_composite(white, file.convert("RGBA")).convert("RGB"))
    pixels = np.asarray(file.convert("L" if file.mode in ("1", "L") else "RGB"))
    return pixels.reshape(*pixels.shape[:2], -1)


def _orientation(file: ImageFile) -> int:
    """Returns the orientation of the camera, 1…8 as in EXIF; 1, upright, where it is missing or illegible."""
    try:
        return int(file.getexif().get(ExifTags.Base.Orientation, 1))
    # Damage to this block raises half a dozen kinds of exception; the picture itself is whole.
    except Exception:
        return 1


def _upright(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Returns pixels [h, w, C], rotated or mirrored by an EXIF orientation."""
    if orientation in (3, 4, 6, 7):
        pixels = pixels[::-1]
    if orientation in (2, 3, 7, 8):
        pixels = pixels[:, ::-1]
    return pixels.swapaxes(0, 1) if orientation in (5, 6, 7, 8) else pixels


def _area_means(values: NDArray[Any], count: int) -> NDArray[np.float32]:
    """Returns means [count, …] over `count` equal parts of the first axis; a divided element counts in proportion."""
    flat = values.reshape(len(values), -1)
    step = max(1, 2**20 // flat.shape[1])  # limits the floats in memory
    means = np.zeros((count, flat.shape[1]), np.float32)
    for mean, (first, weights) in zip(means, _parts(len(values), count)):
        for start in range(0, len(weights), step):
            part = weights[start : start + step]
            mean += part @ flat[first + start : first + start + len(part)]
    return means.reshape(count, *values.shape[1:])


@lru_cache(64)
def _parts(extent: int, count: int) -> list[tuple[int, NDArray[np.float32]]]:
    """Returns for each of `count` equal parts of an axis its first element, and the share of each of its elements."""
    parts = []
    for part in range(count):
        low, high = part * extent, (part + 1) * extent  # in units of 1/count of an element
        first = low // count
        elements = np.arange(first, -(-high // count)) * count
        shares = np.minimum(elements + count, high) - np.maximum(elements, low)
        parts.append((first, (shares / extent).astype(np.float32)))
    return parts
