"""Pipelines for Python, as the command line runs them: from captions to pictures, and from data to a model."""

from aligndraw.pipelines.drawing import Drawing
from aligndraw.pipelines.pipeline import CaptionWarning, Pipeline
from aligndraw.pipelines.runs import Job, config_for, joined, new_run, resumed_run, train
from aligndraw.pipelines.shipped import shipped_models

__all__ = [
    "CaptionWarning",
    "Drawing",
    "Job",
    "Pipeline",
    "config_for",
    "joined",
    "new_run",
    "resumed_run",
    "shipped_models",
    "train",
]
