"""alignDRAW, generating images from captions with attention (Mansimov et al., ICLR 2016), on custom kernels.

Modules are imported when they are first used, torch included: `import aligndraw` alone takes no time, and
`aligndraw.Pipeline` needs no further import. `import aligndraw.ops` defines `torch.ops.aligndraw`.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aligndraw import arguments as arguments
    from aligndraw import backends as backends
    from aligndraw import cli as cli
    from aligndraw import config as config
    from aligndraw import convert as convert
    from aligndraw import data as data
    from aligndraw import demo as demo
    from aligndraw import evaluation as evaluation
    from aligndraw import files as files
    from aligndraw import info as info
    from aligndraw import json_files as json_files
    from aligndraw import lapgan as lapgan
    from aligndraw import machine as machine
    from aligndraw import model as model
    from aligndraw import module_files as module_files
    from aligndraw import nn as nn
    from aligndraw import noise as noise
    from aligndraw import ops as ops
    from aligndraw import pipelines as pipelines
    from aligndraw import presets as presets
    from aligndraw import printable as printable
    from aligndraw import provenance as provenance
    from aligndraw import settings as settings
    from aligndraw import sharpening as sharpening
    from aligndraw import text as text
    from aligndraw import training as training
    from aligndraw import viz as viz
    from aligndraw.backends import use_backend
    from aligndraw.config import AlignDRAWConfig, TrainingConfig
    from aligndraw.model import AlignDRAW
    from aligndraw.pipelines import Drawing, Pipeline

__version__ = "0.1.0"
__all__ = ["AlignDRAW", "AlignDRAWConfig", "Drawing", "Pipeline", "TrainingConfig", "use_backend"]

_PLACES = {
    "AlignDRAW": "model",
    "AlignDRAWConfig": "config",
    "Drawing": "pipelines",
    "Pipeline": "pipelines",
    "TrainingConfig": "config",
    "use_backend": "backends",
}
_MODULES = (
    "arguments", "backends", "cli", "config", "convert", "data", "demo", "evaluation", "files", "info", "json_files",
    "lapgan", "machine", "model", "module_files", "nn", "noise", "ops", "pipelines", "presets", "printable",
    "provenance", "settings", "sharpening", "text", "training", "viz",
)  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"aligndraw.{name}")
    if name in _PLACES:
        value = getattr(importlib.import_module(f"aligndraw.{_PLACES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'aligndraw' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES, *_PLACES})
