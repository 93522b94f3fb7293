"""The image files of a data set: one name per file, and no file outside the folder."""

from __future__ import annotations

import os
import posixpath
import re
import stat
import unicodedata
from pathlib import Path

from aligndraw.data.captioned import DataError

_IMAGE = re.compile(r"\.(png|jpe?g|gif|bmp|tiff?|webp|p[bgpn]m)$", re.IGNORECASE)
_MAX_SEARCHED = 1_000_000  # files, in search of a missing one


class ImageNames:
    """Images of a folder, found by name.

    Args:
        folder: that names are relative to.

    Attributes:
        files: the file of each image.
        missing: names without a file.

    Raises:
        DataError: there is no such folder.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise DataError(f"there is no folder {folder}")
        self.folder = folder
        self.files: dict[str, Path] = {}
        self.missing: list[str] = []
        self._root = os.path.realpath(folder)
        self._found: dict[tuple[str, Path | None], str] = {}  # a cache: several captions name the same image
        self._alike: dict[str, list[str]] = {}

    def find(self, name: object, second: Path | None = None) -> str:
        """Returns the canonical name of an image: the first spelling under which it was found.

        Args:
            second: another folder to search.

        Raises:
            ValueError: it is no file name, leads out of the folder, or there is no such file.
        """
        usual = safe_name(name)
        if (usual, second) not in self._found:
            place = self._place(usual, second)
            real = os.path.realpath(place)
            if not Path(real).is_relative_to(self._root):
                raise ValueError("it is a link that leads out of the folder of the images")
            self._found[usual, second] = self._first_name(usual, place, real)
        return self._found[usual, second]

    def likely_cause(self) -> str:
        """Returns where the first missing file may be instead, for a message; "" if nothing is missing or similar."""
        if not self.missing:
            return ""
        wanted, similar, seen = posixpath.basename(self.missing[0]), "", 0
        for folder, _, files in os.walk(self.folder):
            if wanted in files:
                return f"{wanted} is in {folder}"
            alike = (file for file in files if posixpath.splitext(file)[0] == posixpath.splitext(wanted)[0])
            similar = similar or next((f"{folder} has {file}, not {wanted}" for file in alike), "")
            seen += len(files)
            if seen > _MAX_SEARCHED:
                break
        return similar if seen else f"{self.folder} has no files"

    def _place(self, usual: str, second: Path | None) -> Path:
        places, reason = [], f"there is no such file in {self.folder}"
        for place in (self.folder / usual, *([] if second is None else [second / usual])):
            try:
                status = os.stat(place)
            except OSError as error:
                if isinstance(error, PermissionError):
                    reason = str(error.strerror)
                continue
            if stat.S_ISREG(status.st_mode):
                places.append((status.st_size == 0, place))
        if not places:
            self.missing.append(usual)
            raise ValueError(reason)
        # A non-empty file before an empty one.
        return min(places, key=lambda found: found[0])[1]

    def _first_name(self, usual: str, place: Path, real: str) -> str:
        alike = self._alike.setdefault(unicodedata.normalize("NFC", real).casefold(), [])
        for name in alike:
            if os.path.samefile(self.files[name], place):
                return name
        alike.append(usual)
        self.files.setdefault(usual, place)
        return usual


def is_image(name: str) -> bool:
    """Returns whether a file name ends as those of images do."""
    return bool(_IMAGE.search(name))


def safe_name(name: object) -> str:
    """Returns a file name in its canonical spelling: "t/0.jpg" for "./t//0.jpg" and "t\\0.jpg".

    Raises:
        ValueError: it is no file name, or leads out of the folder.
    """
    if not isinstance(name, str) or "\0" in name or len(name) > 1000:
        raise ValueError("it is no file name")
    usual = posixpath.normpath(name.replace("\\", "/"))
    try:
        parts = [os.fsencode(part) for part in usual.split("/")]
    except UnicodeEncodeError:
        raise ValueError("it is no file name") from None
    if not name or usual == "." or any(len(part) > 255 for part in parts):
        raise ValueError("it is no file name")
    if usual.startswith("/") or parts[0] == b".." or re.match("[A-Za-z]:", usual):
        raise ValueError("it leads out of the folder of the images")
    return usual
