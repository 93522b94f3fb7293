"""Attribute accuracy: the share of scene pictures that show their captions, by the scene reader.

A picture is *right* when its object, its colour and its place (the ground under it, or the sky) are those that its
caption names; every caption names all three. See docs/evaluation.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from aligndraw.data import CaptionReader, SceneExamples, as_images, evaluation_scenes
from aligndraw.data.scene import ATTRIBUTES, SIDE
from aligndraw.data.scene_captions import named_attributes
from aligndraw.data.scenes import Split, new_to_objects
from aligndraw.evaluation.drawing import Sharpen, draw_each
from aligndraw.evaluation.fidelity import Share
from aligndraw.evaluation.scene_reader import SceneReader
from aligndraw.model import PictureModel

GROUPS = {
    "right": "object, colour and place",
    "object": "object",
    "colour": "its colour",
    "place": "its place",
    "sky": "sky, where it is told",
    "size": "size, where it is told",
    "side": "side, where it is told",
}
NEW = {
    "colour": "  in a colour new to the object",
    "ground": "  on a ground new to the object",
    "sky": "  flying for the first time",
}


@dataclass(frozen=True)
class AttributeAccuracy:
    """How well pictures of scenes show their captions.

    Attributes:
        shares: of pictures that show their captions, by group: the keys of `GROUPS`.
        accuracy: the same shares for real pictures, which a perfect model would reach. Empty where the reader's record
            has none.
        new: the share of right pictures among those that show their object as training never does, by the keys of
            `NEW`. Empty where training shows all combinations.
    """

    shares: Mapping[str, Share]
    accuracy: Mapping[str, Share]
    new: Mapping[str, Share] = field(default_factory=dict)

    @classmethod
    def of(
        cls, readings: Tensor, examples: SceneExamples, record: Mapping[str, Any] | None = None
    ) -> AttributeAccuracy:
        """Returns the accuracy of a reader's readings.

        Args:
            readings: int64 [n · P, 7], of P pictures per example, those of an example in a row.
            examples: n.
            record: the accuracy on real pictures, by group, as from `Share.to_dict`.

        Raises:
            ValueError: the numbers of readings and examples do not fit, or are 0.
        """
        count = len(examples)
        if count == 0 or len(readings) == 0 or len(readings) % count or readings.shape[1:] != (len(ATTRIBUTES),):
            raise ValueError(
                f"readings must be [n P, {len(ATTRIBUTES)}] for n examples, n and P at least 1, "
                f"got {list(readings.shape)} for {count}"
            )
        pictures = len(readings) // count
        wanted = torch.from_numpy(examples.attributes).repeat_interleave(pictures, 0)
        hit = dict(zip(ATTRIBUTES, (readings == wanted).T))
        flies = wanted[:, list(ATTRIBUTES).index("flying")].bool()
        hit["place"] = hit["flying"] & (hit["ground"] | flies)
        hit["right"] = hit["object"] & hit["colour"] & hit["place"]
        tells = [named_attributes(choices) | {"place", "right"} for choices in examples.choices.tolist()]
        among = {group: torch.tensor([group in parts for parts in tells]) for group in GROUPS}
        new = {name: torch.from_numpy(found) for name, found in new_to_objects(examples.attributes).items()}

        def share(group: str, some: Tensor) -> Share:
            some = some.repeat_interleave(pictures)
            return Share(int((hit[group] & some).sum()), int(some.sum()))

        return cls(
            {group: share(group, some) for group, some in among.items()},
            {group: Share(s["hits"], s["count"]) for group, s in (record or {}).items()},
            {name: share("right", some) for name, some in new.items() if some.any()},
        )

    def __str__(self) -> str:
        """Returns a table in per cent, with the shares of real pictures beside the model's."""
        lines = [f"  {'':<34}{'this model':>12}{'real pictures':>22}"]
        for group, text in GROUPS.items():
            lines.append(f"  {text:<34}{self.shares[group]!s:>12}{self.accuracy.get(group, 'unknown')!s:>22}")
            if group == "right":
                lines += [f"  {NEW[name]:<34}{share!s:>12}" for name, share in self.new.items()]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain numbers, ready for JSON."""
        return {name: {k: share.to_dict() for k, share in table.items()} for name, table in vars(self).items()}


def score_attributes(
    model: PictureModel,
    captions: CaptionReader,
    examples: Mapping[str, SceneExamples],
    n: int = 1,
    seed: int = 0,
    *,
    reader: SceneReader | None = None,
    sharpen: Sharpen | None = None,
    batch_size: int = 100,
    on_batch: Callable[[int], object] = lambda pictures: None,
) -> dict[str, AttributeAccuracy]:
    """Draws n pictures of the caption of each example and reads their attributes.

    Args:
        model: of scenes, on any device.
        captions: the reader of captions, such as the model's vocabulary.
        examples: "seen" and "held_out", from `evaluation_scenes`.
        n, seed, batch_size, sharpen: as in `draw_each`.
        reader: on the model's device; by default the one that ships with the package.
        on_batch: called with the number of pictures just read.

    Raises:
        ValueError: a number out of range; a model of other pictures; `CaptionError`, for an unreadable caption.
    """
    shape = [model.config.channels, *model.config.image_size]
    if shape != [3, SIDE, SIDE]:
        raise ValueError(f"model must be of scenes, [3, {SIDE}, {SIDE}], got one of {shape}")
    reader = reader or SceneReader.load().to(next(model.parameters()).device)
    scores = {}
    for kind, part in examples.items():
        readings = []
        for _, drawn in draw_each(model, part, n, seed, batch_size, sharpen, captions):
            readings.append(reader.read(drawn.float()).cpu())
            on_batch(len(drawn))
        scores[kind] = AttributeAccuracy.of(torch.cat(readings), part, reader.record.get("accuracy", {}).get(kind))
    return scores


def score_scene_reader(
    reader: SceneReader, split: Split = "test", n: int = 1000, seed: int = 0
) -> dict[str, AttributeAccuracy]:
    """Returns the accuracy of n real pictures of each kind, "seen" and "held_out", by a reader on the CPU.

    Raises:
        ValueError: n or seed out of range.
    """
    scores = {}
    for kind, part in evaluation_scenes(split, seed, n).items():
        parts = [as_images(torch.from_numpy(part.pictures(slice(i, i + 500)))) for i in range(0, n, 500)]
        scores[kind] = AttributeAccuracy.of(torch.cat([reader.read(pictures) for pictures in parts]), part)
    return scores
