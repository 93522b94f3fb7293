"""The Hugging Face hub: models are read from it and written to it. The package `huggingface_hub` is optional."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

FILES = ["*.safetensors", "*.json", "README.md"]  # nothing that could run


def download(repository: str, revision: str | None = None, token: str | None = None) -> Path:
    """Returns a local folder with the model of a repository, from the hub or from the cache of earlier calls.

    Raises:
        FileNotFoundError: `huggingface_hub` is not installed.
        OSError: the repository cannot be read.
    """
    hub = _library(FileNotFoundError, f"there is no model in {repository}; to look for it on the Hugging Face hub")
    try:
        return Path(hub.snapshot_download(repository, revision=revision, token=token, allow_patterns=FILES))
    except Exception as error:  # of classes that differ between versions of the library
        raise OSError(f"cannot read {repository} from the Hugging Face hub: {_line(error)}") from error


def upload(folder: Path, repository: str, *, private: bool | None, token: str | None, message: str) -> str:
    """Writes the files of a folder into a repository, which is made if need be, as one commit.

    Returns:
        the address of the commit.

    Raises:
        ValueError: `huggingface_hub` is not installed.
        OSError: the repository cannot be written.
    """
    api = _library(ValueError, "to write to the Hugging Face hub").HfApi(token=token)
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        return str(api.upload_folder(repo_id=repository, folder_path=str(folder), commit_message=message))
    except Exception as error:  # of classes that differ between versions of the library
        raise OSError(f"cannot write {repository} to the Hugging Face hub: {_line(error)}") from error


def _library(kind: type[Exception], purpose: str) -> Any:
    try:
        return importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise kind(f"{purpose}: pip install 'aligndraw[hub]'") from error


def _line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
