"""Captions from the user: read from a file, and checked with a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from aligndraw.cli.failure import Failure
from aligndraw.cli.telling import tell
from aligndraw.data import CaptionReader
from aligndraw.printable import counted
from aligndraw.text import CaptionError

MAX_REMARKS = 3  # of captions, in lines of their own


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


def tell_remarks(remark: Callable[[str], str], captions: Iterable[str]) -> None:
    """Prints one line on stderr per caption with unknown words, or worded unlike those of the training, at most a few.

    Args:
        remark: returns the line, or "", as `Pipeline.remark` and `Vocabulary.remark`.
    """
    remarks = list(filter(None, map(remark, dict.fromkeys(captions))))
    for line in remarks[:MAX_REMARKS]:
        tell(f"aligndraw: warning: {line}", error=True)
    if len(remarks) > MAX_REMARKS:
        more = len(remarks) - MAX_REMARKS
        tell(
            f"aligndraw: warning: {more} more captions have unknown words or are worded unlike the training captions",
            error=True,
        )


def tell_quotes(captions: Sequence[str]) -> None:
    """Prints a hint on stderr where the captions look like the words of one caption without quotes."""
    if len(captions) > 1 and all(len(caption.split()) == 1 for caption in captions):
        words = " ".join(captions)
        hint = f'these are {counted(len(captions), "caption")} of one word; for one caption, quote it: "{words}"'
        tell(f"aligndraw: hint: {hint}", error=True)
