"""Captions from the user: read from a file, and checked with a model's reader."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from aligndraw.cli.failure import Failure
from aligndraw.data import CaptionReader
from aligndraw.text import CaptionError


def read_lines(file: Path) -> list[str]:
    """Returns the lines of a file of captions, without surrounding white space."""
    try:
        lines = file.read_bytes().removesuffix(b"\n").split(b"\n")
    except OSError as error:
        raise Failure(f"cannot read {file}: {error.strerror}") from error
    captions = []
    for i, line in enumerate(lines, 1):
        try:
            captions.append(line.decode("utf-8-sig" if i == 1 else "utf-8").strip())
        except UnicodeDecodeError as error:
            raise Failure(f"{file}, line {i}: captions must be UTF-8 text: {error}", status=2) from error
    return captions


def check_readable(reader: CaptionReader, captions: Iterable[tuple[int, str]], file: Path | None) -> None:
    """Raises Failure for the first caption that the reader cannot read; each comes with its line number."""
    for line, caption in captions:
        try:
            reader.encode_batch([caption])
        except CaptionError as error:
            raise Failure(f"{file}, line {line}: {error}" if file else str(error), status=2) from error
