"""The names that a data set gives to its image files."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

from aligndraw.data.captioned import DataError


def safe_name(name: object) -> str:
    """A file name of somebody's data set.

    Raises:
        ValueError: it is none, or leads elsewhere.
    """
    if not isinstance(name, str) or "\0" in name or len(name) > 1000:
        raise ValueError("it is no file name")
    path = PurePosixPath(name.replace("\\", "/"))
    if not path.parts or any(len(os.fsencode(part)) > 255 for part in path.parts):
        raise ValueError("it is no file name")
    if path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
        raise ValueError("it leads out of the folder of the images")
    return name


def check_folder(images: Path) -> None:
    """Raises a DataError where there is no such folder."""
    if not images.is_dir():
        raise DataError(f"there is no folder {images}")
