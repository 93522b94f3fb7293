"""The build backend: setuptools, with the PyTorch of the environment that is being installed into.

With `torch` among pyproject's build requirements, pip would download one for every install, and not
the one that the user has. So `requires` is empty, and torch is asked for where the target has none.

pip runs these hooks with the target's interpreter. Build isolation hides the target's packages from
`sys.path`, but `sysconfig` and `site` still name the folders that they are in.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import re
import site
import sys
import sysconfig
from typing import Any

MINIMUM = (2, 11)  # of torch: the first whose stable ABI has all that csrc/ calls
FALLBACK = "torch==2.13.0"
SETUPTOOLS = "setuptools>=77,<82"  # torch 2.11 allows no newer one


def _target_folders() -> list[str]:
    """Where the target environment keeps its packages."""
    folders = [
        sysconfig.get_path("purelib"),
        sysconfig.get_path("platlib"),
        *site.getsitepackages(),
    ]
    if site.ENABLE_USER_SITE:
        folders.append(site.getusersitepackages())
    return list(dict.fromkeys(folders))


def _version(package: str, folders: list[str]) -> tuple[int, ...] | None:
    found = next(iter(importlib.metadata.distributions(name=package, path=folders)), None)
    return tuple(int(n) for n in re.findall(r"\d+", found.version)[:3]) if found else None


def _text(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def torch_requirement() -> str:
    """What the package asks for at run time: any torch from the minimum on.

    Where the build itself had to fetch a torch, it is that version: pip would otherwise go on to
    the newest release, which is often gigabytes larger.
    """
    if _version("torch", _target_folders()) is None:
        fetched = _version("torch", sys.path)
        if fetched:
            return f"torch=={_text(fetched)}"
    return f"torch>={_text(MINIMUM)}"


def _refuse_old_torch() -> None:
    torch = _version("torch", [*sys.path, *_target_folders()])
    if torch and torch < MINIMUM:
        sys.exit(
            f"aligndraw needs torch {_text(MINIMUM)} or newer and found {_text(torch)}: "
            "run `pip install --upgrade torch` first"
        )


def _requirements() -> list[str]:
    _refuse_old_torch()
    target = _target_folders()
    if _version("torch", target) is None:
        return [SETUPTOOLS, "pybind11", FALLBACK]
    setuptools = _version("setuptools", target) or (0,)
    builds_wheels = setuptools >= (70, 1) or (setuptools >= (64,) and _version("wheel", target))
    return [] if builds_wheels else [SETUPTOOLS]


def _setuptools(hook: str, *arguments: Any) -> str:
    _refuse_old_torch()
    sys.path += [folder for folder in _target_folders() if folder not in sys.path]
    name: str = getattr(importlib.import_module("setuptools.build_meta"), hook)(*arguments)
    return name


# ---- the hooks of PEP 517 and PEP 660 ----

Settings = dict[str, Any] | None


def get_requires_for_build_wheel(config_settings: Settings = None) -> list[str]:
    return _requirements()


def get_requires_for_build_editable(config_settings: Settings = None) -> list[str]:
    return _requirements()


def get_requires_for_build_sdist(config_settings: Settings = None) -> list[str]:
    return [r for r in _requirements() if r.startswith("setuptools")]


def prepare_metadata_for_build_wheel(folder: str, config_settings: Settings = None) -> str:
    return _setuptools("prepare_metadata_for_build_wheel", folder, config_settings)


def prepare_metadata_for_build_editable(folder: str, config_settings: Settings = None) -> str:
    return _setuptools("prepare_metadata_for_build_editable", folder, config_settings)


def build_wheel(folder: str, config_settings: Settings = None, metadata: str | None = None) -> str:
    return _setuptools("build_wheel", folder, config_settings, metadata)


def build_editable(folder: str, config_settings: Settings = None, metadata: str | None = None) -> str:
    return _setuptools("build_editable", folder, config_settings, metadata)


def build_sdist(folder: str, config_settings: Settings = None) -> str:
    return _setuptools("build_sdist", folder, config_settings)
