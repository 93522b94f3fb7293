"""Data sets of pictures with captions."""

from aligndraw.data.batches import CaptionReader, Examples, Resident, Source, as_images, to_parts, to_tensors
from aligndraw.data.captioned import CaptionedImages, CaptionedSplit, DataError
from aligndraw.data.captioned_writer import CaptionedWriter
from aligndraw.data.digits import Digits, load_digits
from aligndraw.data.mnist_captions import (
    BANS,
    PLACES,
    STRICT,
    TEMPLATES,
    VOCABULARY,
    Bans,
    MNISTCaptions,
    MNISTExamples,
    Place,
    Template,
    all_captions,
    all_placements,
    bans_named,
    caption,
    evaluation_sets,
    is_held_out,
)
from aligndraw.data.scene import Scene
from aligndraw.data.scenes import SceneExamples, Scenes, evaluation_scenes
from aligndraw.data.sentences import SentenceReader
from aligndraw.data.sets import DataSet, open_data_set, recorded_data_set, reworded

__all__ = [
    "BANS",
    "PLACES",
    "STRICT",
    "TEMPLATES",
    "VOCABULARY",
    "Bans",
    "CaptionReader",
    "CaptionedImages",
    "CaptionedSplit",
    "CaptionedWriter",
    "DataError",
    "DataSet",
    "Digits",
    "Examples",
    "MNISTCaptions",
    "MNISTExamples",
    "Place",
    "Resident",
    "Scene",
    "SceneExamples",
    "Scenes",
    "SentenceReader",
    "Source",
    "Template",
    "all_captions",
    "all_placements",
    "as_images",
    "bans_named",
    "caption",
    "evaluation_scenes",
    "evaluation_sets",
    "is_held_out",
    "load_digits",
    "open_data_set",
    "recorded_data_set",
    "reworded",
    "to_parts",
    "to_tensors",
]
