"""The paper's Tables 1 and 3 for one model: the parts to compute, and the row of their results."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from aligndraw.data import CaptionedImages, Examples, SceneExamples, Scenes, evaluation_scenes
from aligndraw.data.scene import SIDE
from aligndraw.evaluation.attributes import AttributeAccuracy
from aligndraw.evaluation.bound import EPSILON, Estimate, each_bound
from aligndraw.evaluation.drawing import Sharpen, draw_each
from aligndraw.evaluation.parts import Part, Parts
from aligndraw.evaluation.retrieval import MARGINAL, Likelihoods, Reference, Retrieval, encode_examples, mean_caption
from aligndraw.evaluation.scene_reader import SceneReader
from aligndraw.evaluation.similarity import Similarity, ssim
from aligndraw.model import Model, PictureModel, has_bound
from aligndraw.text import Vocabulary

Lists = Callable[[NDArray[np.uint8]], NDArray[np.int64]]  # images [n, C, H, W] to shortlists [n, s]

SPLITS = ("train", "validation", "test")
BLOCK = 100  # examples per part
BATCH_SIZE = 500  # bounds or pictures
MEAN_CAPTION_SCENES = 20_000  # whose captions are averaged for the mean caption


@dataclass(frozen=True)
class Protocol:
    """The sizes of the comparison, and its seed.

    Attributes:
        images: per split; on scenes also per kind of combination.
        marginal: training captions of the marginal of retrieval.
        samples: of the latents, over which bounds are means.
        drawn: pictures per caption that are compared with its true image.
        pictures: per caption, whose attributes are read.
        seed: of the examples and of the noise.
        epsilon: after sharpening, means of pixels are clipped to [epsilon, 1 - epsilon].
    """

    images: int = 1000
    marginal: int = MARGINAL
    samples: int = 1
    drawn: int = 50
    pictures: int = 1
    seed: int = 0
    epsilon: float = EPSILON


@dataclass(frozen=True, eq=False)
class TableData:
    """The data on which models are compared.

    Attributes:
        title: its name in text.
        vocabulary: of its word ids.
        image_shape: C, H, W.
        splits: examples for the bound; the captions of "test" also retrieve and are drawn.
        captions: training examples for the mean caption.
        marginal: random training examples, for the captions of the marginal.
        images: uint8 [n, C, H, W], among which the captions of "test" search for theirs.
        image_index: int64 [k], the image of each of these captions.
        lists: int64 [n, s], as from `shortlists`.
        scenes: by kind of combination, examples whose drawn attributes are read.
        record: the origin of the data, for `plan.json`.
    """

    title: str
    vocabulary: Vocabulary
    image_shape: tuple[int, int, int]
    splits: Mapping[str, Examples]
    captions: Examples
    marginal: Examples
    images: NDArray[np.uint8]
    image_index: NDArray[np.int64]
    lists: NDArray[np.int64]
    scenes: Mapping[str, SceneExamples]
    record: Mapping[str, Any]

    def all_captions(self) -> Iterator[str]:
        """Yields the captions of all examples."""
        for examples in (*self.splits.values(), self.captions, self.marginal, *self.scenes.values()):
            yield from examples.captions()

    @classmethod
    def of_scenes(cls, protocol: Protocol, lists: Lists) -> TableData:
        """Returns scenes: train, validation and test of seen combinations, held-out combinations for attributes."""
        seed, size = protocol.seed, protocol.images
        kinds = evaluation_scenes("test", seed, size)
        splits: dict[str, Examples] = {name: Scenes(name).epoch(seed, size=size) for name in ("train", "validation")}
        splits["test"] = kinds["seen"]
        images = kinds["seen"].pictures(slice(None))
        return cls(
            "scenes",
            Scenes.vocabulary,
            (3, SIDE, SIDE),
            splits,
            Scenes().epoch(seed, size=MEAN_CAPTION_SCENES),
            Scenes().epoch(seed, size=protocol.marginal),
            images,
            np.arange(size),
            lists(images),
            kinds,
            {"data": "scenes"},
        )

    @classmethod
    def of_folder(cls, folder: Path, protocol: Protocol, lists: Lists) -> TableData:
        """Returns captioned images of each split, drawn without repetition.

        Raises:
            ValueError: a split is missing, or the folder is damaged.
        """
        data = CaptionedImages.open(folder)
        missing = [split for split in SPLITS if split not in data.sizes]
        if missing:
            raise ValueError(f"{folder} must have the splits {', '.join(SPLITS)}, got no {missing[0]}")
        parts = {split: data.split(split) for split in SPLITS}
        examples = {k: part.epoch(protocol.seed, size=min(protocol.images, len(part))) for k, part in parts.items()}
        used, image_index = np.unique(examples["test"].image_index, return_inverse=True)
        images = np.asarray(examples["test"].images[used])
        return cls(
            f"captioned images of {folder}",
            data.vocabulary,
            data.image_shape,
            examples,
            parts["train"],
            parts["train"].epoch(protocol.seed, size=min(protocol.marginal, len(parts["train"]))),
            images,
            image_index.reshape(-1),
            lists(images),
            {},
            {"data": str(folder), "sha256": data.checksum},
        )


class ModelParts:
    """The parts of one model's rows.

    Args:
        key: the folder of its parts.
        model: on any device. One without a bound, such as a LAPGAN, has only similarity and attributes.
        read: converts examples of the data to the model's inputs: `Pipeline.read` with the data's vocabulary.
        sharpen: for the bound after sharpening, with the key of its parts.
    """

    def __init__(
        self,
        key: str,
        model: PictureModel,
        read: Callable[[Examples], Examples],
        data: TableData,
        protocol: Protocol,
        sharpen: tuple[str, Sharpen] | None = None,
    ) -> None:
        self.model, self.data, self.protocol = model, data, protocol
        p = protocol
        splits = {split: read(examples) for split, examples in data.splits.items()}
        test = splits["test"]
        self.measures: dict[str, list[Part]] = {}

        def add(measure: str, count: int, work: int, compute: Callable[..., NDArray[Any]], *arguments: Any) -> None:
            blocks = [range(i, min(i + BLOCK, count)) for i in range(0, count, BLOCK)]
            self.measures[measure] = [
                Part(f"{key}/{measure}-{block.start:06d}", work * len(block), partial(compute, *arguments, block))
                for block in blocks
            ]

        if has_bound(model):
            for split, examples in splits.items():
                add(f"bound-{split}", len(examples), p.samples, self._bounds, model, examples, None)
            if sharpen is not None:
                add(f"bound-sharpened-{sharpen[0]}", len(test), p.samples, self._bounds, model, test, sharpen[1])
            likelihoods = Likelihoods(model, data.images, p.samples, p.seed, BATCH_SIZE)
            add("likelihoods", len(test), p.samples * data.lists.shape[1], self._likelihoods, likelihoods, test)
            mean = cache(lambda: Reference(mean_caption(model, read(data.captions))))
            marginal = cache(lambda: Reference(encode_examples(model, read(data.marginal))))
            for measure, reference, count in (("mean", mean, 1), ("marginal", marginal, len(data.marginal))):
                add(f"baseline-{measure}", len(data.images), p.samples * count, self._baselines, likelihoods, reference)
        add("similarity", len(test), p.drawn, self._similarities, test)
        reader = cache(lambda: SceneReader.load().to(next(model.parameters()).device))
        for kind, scenes in data.scenes.items():
            add(f"readings-{kind}", len(scenes), p.pictures, self._readings, reader, read(scenes))

    @property
    def parts(self) -> list[Part]:
        """All parts."""
        return [part for parts in self.measures.values() for part in parts]

    def _bounds(self, model: Model, examples: Examples, sharpen: Sharpen | None, block: range) -> NDArray[np.float64]:
        """Returns lower bounds of log p(x | y), in nats [B]."""
        p = self.protocol
        batch_size = max(1, BATCH_SIZE // p.samples)
        found = each_bound(
            model, examples, p.samples, p.seed, batch_size, sharpen=sharpen, epsilon=p.epsilon, positions=block
        )
        return torch.cat([-(bound.kl + bound.nll) for bound in found]).double().cpu().numpy()

    def _likelihoods(self, likelihoods: Likelihoods, test: Examples, block: range) -> NDArray[np.float32]:
        """Returns L(x | y) of captions with the images of their shortlists, [B, s]."""
        _, words, lengths = test.batch(slice(block.start, block.stop))
        candidates = self.data.lists[self.data.image_index[block.start : block.stop]]
        return likelihoods.conditional(torch.from_numpy(words), torch.from_numpy(lengths), candidates).numpy()

    def _baselines(
        self, likelihoods: Likelihoods, reference: Callable[[], Reference], block: range
    ) -> NDArray[np.float64]:
        """Returns L(x) of images, [B]."""
        return likelihoods.baseline(reference(), np.arange(block.start, block.stop)).numpy()

    def _similarities(self, test: Examples, block: range) -> NDArray[np.float64]:
        """Returns the SSIM of each drawn picture with the true image of its caption, [B, drawn]."""
        p = self.protocol
        pairs = draw_each(self.model, test, p.drawn, p.seed, BATCH_SIZE, positions=block)
        values = torch.cat([ssim(drawn.double().cpu(), images.double()) for images, drawn in pairs])
        return values.view(len(block), p.drawn).numpy()

    def _readings(self, reader: Callable[[], SceneReader], scenes: Examples, block: range) -> NDArray[np.int64]:
        """Returns the scene reader's readings of drawn pictures, [B · pictures, 7]."""
        p = self.protocol
        pairs = draw_each(self.model, scenes, p.pictures, p.seed, BATCH_SIZE, positions=block)
        return torch.cat([reader().read(drawn.float()).cpu() for _, drawn in pairs]).numpy()


@dataclass(frozen=True)
class TableRow:
    """The results of one model; None, or missing, where not computed.

    Attributes:
        retrieval: of test captions, by L(x | y) − L(x | ȳ).
        retrieval_marginal: the same by L(x | y) less the marginal.
        similarity: its `spread` is the ± of Table 1.
        similarity_error: the standard error of its mean, from the means of the captions.
        bounds: lower bounds of log p, by split; higher is better.
        sharpened: the bound on test after sharpening.
        attributes: of scenes, by kind of combination.
        constant: nats of the bound that depend on the variance of Gaussian pixels alone; None for Bernoulli pixels.
    """

    retrieval: Retrieval | None
    retrieval_marginal: Retrieval | None
    similarity: Similarity
    similarity_error: float
    bounds: Mapping[str, Estimate]
    sharpened: Estimate | None
    attributes: Mapping[str, AttributeAccuracy]
    constant: float | None

    @classmethod
    def of(cls, done: Parts, model: ModelParts) -> TableRow:
        """Returns the row of finished parts.

        Raises:
            ValueError: a part is damaged, or the model has results that are not finite.
        """
        data, measures = model.data, model.measures
        values = {name: done.read(parts) for name, parts in measures.items()}
        for name, array in values.items():
            if not np.isfinite(array).all():
                raise ValueError(f"the model is unusable: its {name} are not finite numbers")
        estimates = {name: Estimate.of(torch.from_numpy(v)) for name, v in values.items() if name.startswith("bound")}
        sharpened = [estimate for name, estimate in estimates.items() if name.startswith("bound-sharpened")]
        candidates = data.lists[data.image_index]
        true = torch.from_numpy((candidates == data.image_index[:, None]).argmax(1))

        def retrieval(usual: str) -> Retrieval | None:
            if usual not in values:
                return None
            return Retrieval.of(torch.from_numpy(values["likelihoods"] - values[usual][candidates]), true)

        similar = values["similarity"]
        record = SceneReader.load().record.get("accuracy", {}) if data.scenes else {}
        return cls(
            retrieval("baseline-mean"),
            retrieval("baseline-marginal"),
            Similarity(float(similar.mean()), float(similar.std()), *similar.shape),
            Estimate.of(torch.from_numpy(similar.mean(1))).error,
            {split: estimates[f"bound-{split}"] for split in SPLITS if f"bound-{split}" in estimates},
            sharpened[0] if sharpened else None,
            {
                kind: AttributeAccuracy.of(torch.from_numpy(values[f"readings-{kind}"]), scenes, record.get(kind))
                for kind, scenes in data.scenes.items()
            },
            _constant(model.model),
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns plain numbers, ready for JSON."""
        return {
            "retrieval": self.retrieval and self.retrieval.to_dict(),
            "retrieval_marginal": self.retrieval_marginal and self.retrieval_marginal.to_dict(),
            "similarity": {
                **self.similarity.to_dict(),
                "error": None if math.isnan(self.similarity_error) else self.similarity_error,
            },
            "bound": {split: estimate.to_dict() for split, estimate in self.bounds.items()},
            "bound_sharpened": self.sharpened and self.sharpened.to_dict(),
            "attributes": {kind: accuracy.to_dict() for kind, accuracy in self.attributes.items()},
            "gaussian_constant": self.constant,
        }


def _constant(model: PictureModel) -> float | None:
    if not has_bound(model) or model.config.likelihood == "bernoulli":
        return None
    config = model.config
    pixels = config.channels * math.prod(config.image_size)
    return -pixels * math.log(2 * math.pi * config.observation_variance) / 2
