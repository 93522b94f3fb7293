"""Pipelines for Python, as the command line runs them: from captions to pictures, and from data to a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch

import aligndraw
from aligndraw.arguments import check_int, check_seed
from aligndraw.config import EndToEndConfig, ModelConfig, RefinedConfig, TrainingConfig
from aligndraw.data import CaptionReader, DataSet, Examples, SentenceReader, recorded_data_set
from aligndraw.evaluation.drawing import Sharpen
from aligndraw.json_files import entry, naming
from aligndraw.lapgan.captioned import sentence_notes
from aligndraw.lapgan.sharpen import Sharpener
from aligndraw.model import AlignDRAW, Drawing, Model, PictureModel, RefinedDRAW, build_model, has_bound, lapgan
from aligndraw.model.graphs import GraphedSampler
from aligndraw.model.lapgan import LAPGAN
from aligndraw.model.saved import load_model
from aligndraw.noise import stream
from aligndraw.provenance import data_of
from aligndraw.text import Vocabulary
from aligndraw.text.sentences import absolute_specification, open_encoder
from aligndraw.text.vocabulary import check_captions
from aligndraw.training import Trainer, Update
from aligndraw.training.end_to_end import EndToEndTrainer
from aligndraw.training.model_run import Run, train_run
from aligndraw.training.run import LOCK, RUN, RunError

SHIPPED = Path(__file__).parent / "weights" / "mnist"
_C = TypeVar("_C", bound=ModelConfig)


@dataclass(frozen=True, eq=False)
class Pipeline:
    """A model with a reader of captions: `Pipeline.load().draw(["a caption"]).images`.

    Attributes:
        model: of any kind.
        vocabulary: the model's words; for a model of sentence vectors, those of its training data.
        notes: how the model came about.
        sharpen: maps captions and images to sharp images, such as an `aligndraw.lapgan.captioned.CaptionedSharpener`.
        sentences: encodes captions, for a model of sentence vectors.
    """

    model: PictureModel
    vocabulary: Vocabulary
    notes: Mapping[str, Any] = field(default_factory=dict)
    sharpen: Sharpen | None = None
    sentences: SentenceReader | None = None

    @cached_property
    def _sampler(self) -> GraphedSampler | PictureModel:
        return GraphedSampler(self.model) if has_bound(self.model) else self.model

    @classmethod
    def load(
        cls, folder: str | Path | None = None, device: torch.device | str = "cpu", sentences: str | None = None
    ) -> Pipeline:
        """Returns the model of a folder, or the one that ships with the package, on a device.

        Args:
            sentences: the sentence encoder, as for `aligndraw.text.sentences.open_encoder`, where that of the training
                has moved.

        Raises:
            FileNotFoundError: there is no model in the folder.
            ValueError: the model is damaged, foreign or does not fit its vocabulary or its sentence encoder.
        """
        if folder is None and not SHIPPED.is_dir():
            raise FileNotFoundError(
                "no trained model ships with this installation: "
                "run `aligndraw train mnist`, then name its folder (--model DIR)"
            )
        folder = SHIPPED if folder is None else Path(folder)
        if (folder / lapgan.NAMES[1]).is_file():
            network = LAPGAN.load(folder)
            if sentences is not None and network.language is not None:
                raise ValueError(f"sentences must be left out: the LAPGAN in {folder} reads words, got {sentences!r}")
            reader = None
            if network.language is None:
                reader = _open_sentences(sentences or network.config.sentences, network.config.sentence_units)
            return cls(network.to(device), network.vocabulary, network.notes, sentences=reader)
        model, vocabulary, notes = load_model(folder)
        if not all(p.isfinite().all() for p in model.parameters()):
            raise ValueError(f"the model in {folder} is damaged: some parameters are not finite")
        if sentences is not None and not model.config.sentence_units:
            raise ValueError(f"sentences must be left out: the model in {folder} reads words, got {sentences!r}")
        try:
            given = model.config if sentences is None else model.config.replace(sentences=sentences)
            _, reader = _with_sentences(given)
        except ValueError as error:
            raise ValueError(f"the model in {folder} needs its sentence encoder: {error}") from error
        return cls(model.to(device), vocabulary, notes, sentences=reader)

    @property
    def reader(self) -> CaptionReader:
        """The reader of captions: the sentence encoder's, or the vocabulary."""
        return self.sentences or self.vocabulary

    def read(self, examples: Examples) -> Examples:
        """Returns examples in the form that the model takes."""
        return self.sentences.examples(examples) if self.sentences else examples

    def draw(
        self,
        captions: Sequence[str],
        n: int = 1,
        seed: int = 0,
        temperature: float = 1.0,
        steps: int | None = None,
    ) -> Drawing:
        """Draws n pictures per caption: first those of the first caption, then of the second, ...

        Picture i of every caption comes from the same noise, which only `seed` and i determine. It depends neither on n
        nor on the other captions, so two captions show the effect of their words.

        Args:
            captions: in words of the vocabulary, or readable by the sentence encoder.
            n: pictures per caption, at least 1.
            seed: at least 0, below 2^63.
            temperature: factor of the prior's σ, at least 0; 0 draws the mean.
            steps: T, at least 1; None for the model's.

        Raises:
            ValueError: an argument is out of range; `aligndraw.text.CaptionError`, for a caption that cannot be read.
        """
        check_int("n", n, 1)
        check_seed(seed)
        captions = check_captions(captions)
        read, lengths = self.reader.encode_batch(captions)
        if self.model.mixes_captions:
            different = {self.vocabulary.decode(row[:k]) for row, k in zip(read, lengths.tolist())}
            if len(different) > 1:
                raise ValueError(
                    "captions must be the same for a model of the released conventions, whose language "
                    f"model mixes those of a batch, got {len(different)} captions: draw one at a time"
                )
        device = next(self.model.parameters()).device
        drawing = self._sampler.sample(
            read.repeat_interleave(n, 0).to(device),
            lengths.repeat_interleave(n, 0).to(device),
            generator=[stream(seed, i) for _ in captions for i in range(n)],
            temperature=temperature,
            steps=steps,
        )
        if self.sharpen is not None:
            drawing.images = self.sharpen([caption for caption in captions for _ in range(n)], drawing.images)
        return drawing


@dataclass(frozen=True, eq=False)
class Job:
    """A training with its locked run folder, from `new_run` or `resumed_run`.

    Attributes:
        data: the training and validation data, in the form that the model takes.
        sentences: encodes captions, for a model of sentence vectors.
        remarks: lines for the user who resumes it: damaged checkpoints, changed conditions.
    """

    run: Run
    trainer: Trainer
    data: DataSet
    sentences: SentenceReader | None = None
    remarks: Sequence[str] = ()

    def description(self, device: str) -> str:
        """Returns one line: model, data, recipe, and how a device runs it."""
        trainer, recipe = self.trainer, self.trainer.config
        parameters = sum(p.numel() for p in trainer.model.parameters())
        preset = f"preset {self.run.record['preset']}, " if "preset" in self.run.record else ""
        threads, ungraphed = torch.get_num_threads(), trainer.ungraphed_reason
        graphs = f", no CUDA graphs ({ungraphed})" if ungraphed else ", updates from CUDA graphs"
        return (
            f"{trainer.model.config.title} of {parameters:,} parameters on {self.data.title}: {preset}"
            f"{recipe.epochs} epoch{'s' * (recipe.epochs > 1)} of "
            f"{recipe.epoch_size:,} images in batches of {recipe.batch_size}, {recipe.optimizer} at "
            f"{recipe.learning_rate:g}; {threads} thread{'s' * (threads > 1)}, "
            f"{trainer.model.execution_mode()}, {trainer.precision} products"
            f"{graphs if device.startswith('cuda') else ''}"
        )

    @property
    def pipeline(self) -> Pipeline:
        """A pipeline of the model in training."""
        return Pipeline(self.trainer.model, self.data.source.vocabulary, sentences=self.sentences)


@contextmanager
def new_run(
    folder: str | Path,
    model: ModelConfig,
    training: TrainingConfig,
    data: DataSet,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
    overwrite: bool = False,
    start: Model | None = None,
    **notes: Any,
) -> Iterator[Job]:
    """Begins a training in a folder, which is made if need be.

        quick = AlignDRAWConfig.preset("quick"), TrainingConfig.preset("quick")
        with new_run("seven", *quick, open_data_set("mnist")) as job:
            train(job)
        Pipeline.load("seven").draw(["the digit seven is at the top left of the image"])

    An error in the block before the first checkpoint removes all that was made.

    Args:
        model: of any kind; its sentence encoder is opened, and its path and size are noted.
        data: from `aligndraw.data.open_data_set`.
        seed: of the parameters, the examples and the noise.
        overwrite: removes a run or a model in the folder.
        start: the initial parameters; None draws them.
        notes: kept in `run.json`.

    Raises:
        ValueError: the model does not fit the data set or its sentence encoder; `aligndraw.training.run.RunError`,
            for a folder that is taken.
        OSError: the folder cannot be written.
    """
    check_seed(seed)
    folder = Path(folder)
    model, sentences = _with_sentences(model)
    data = _read_by(sentences, data)
    trainer = _trainer(model, training, data, seed, device, start)
    with _removed_if_idle(folder):
        versions = {"aligndraw": aligndraw.__version__, "torch": torch.__version__}
        size = max(map(len, data.validation_sets.values()))
        notes = {"data": data.record, "validation_size": size, "versions": versions, **notes}
        run = Run.create(folder, model, training, seed, overwrite, **notes)
        with run.begun():
            if start is not None:  # a resumed training needs the initial parameters
                run.checkpoint(trainer)
            yield Job(run, trainer, data, sentences)


@contextmanager
def resumed_run(folder: str | Path, device: torch.device | str = "cpu") -> Iterator[Job]:
    """Resumes a training from its newest whole checkpoint.

    Raises:
        ValueError: as `RunError`, there is no run in the folder, it is damaged or in use, or its data are gone or have
            changed.
    """
    run = Run.open(Path(folder))
    with naming(Path(folder) / RUN, "damaged or foreign", RunError):
        record = data_of(run.record)
        path, checksum = record["path"], record["sha256"]
        key = "scored" if "scored" in run.record else "validation_size"  # runs of version 0.1 name it "scored"
        size = entry(run.record, key, int)
        if size < 1:
            raise ValueError(f"{key!r} must be at least 1, got {size}")
    data = recorded_data_set(record, size)
    if data.record["sha256"] != checksum:
        raise RunError(f"{path or 'the package'} holds other data than those that {folder} began with")
    model, sentences = _with_sentences(run.model_config)
    data = _read_by(sentences, data)
    trainer = _trainer(model, run.training_config, data, run.record["seed"], device)
    with run.locked():
        yield Job(run, trainer, data, sentences, run.restore(trainer))


def train(
    job: Job,
    *,
    checkpoint_every: int = 100,
    on_update: Callable[[Update], None] = lambda update: None,
    on_epoch: Callable[[int, dict[str, Any]], None] = lambda epoch, scores: None,
    stopping: Callable[[], bool] = lambda: False,
) -> str:
    """Trains to the end of the recipe; arguments, result and errors are those of `train_run`."""
    return train_run(
        job.run,
        job.trainer,
        job.data.validation_sets,
        checkpoint_every=checkpoint_every,
        on_update=on_update,
        on_epoch=on_epoch,
        stopping=stopping,
    )


def config_for(model: _C, data: DataSet) -> _C:
    """Returns the configuration with the image size, channels and vocabulary size of a data set."""
    channels, *size = data.image_shape
    return model.replace(image_size=tuple(size), channels=channels, vocabulary_size=len(data.source.vocabulary))


def _with_sentences(model: ModelConfig) -> tuple[ModelConfig, SentenceReader | None]:
    """Returns the configuration with its sentence encoder's path and size, and the reader; None for a model of words.

    Raises:
        ValueError: there is no such encoder, or its vectors are of another size than the model's.
    """
    if model.sentences == "caption":
        if model.sentence_units:
            raise ValueError(f"sentences must name an encoder of {model.sentence_units} numbers, got 'caption'")
        return model, None
    specification = absolute_specification(model.sentences)
    reader = _open_sentences(specification, model.sentence_units)
    return model.replace(sentences=specification, sentence_units=reader.units), reader


def _open_sentences(specification: str, units: int) -> SentenceReader:
    """Returns a reader of `units` numbers per vector, of any number for 0; errors as in `_with_sentences`."""
    try:
        reader = SentenceReader(open_encoder(specification))
    except OSError as error:
        raise ValueError(f"sentences must be there to be read, got {specification!r}: {error}") from error
    if units not in (0, reader.units):
        raise ValueError(
            f"sentence_units must be {reader.units} for {specification}, the size of its vectors, got {units}"
        )
    return reader


def _read_by(sentences: SentenceReader | None, data: DataSet) -> DataSet:
    """Returns the data set in the form that a model takes. Raises CaptionError for an unreadable preview caption."""
    if sentences is None:
        return data
    sentences.encode_batch([caption for caption, _ in data.preview_captions])
    validation_sets = {kind: sentences.examples(examples) for kind, examples in data.validation_sets.items()}
    return replace(data, source=sentences.source(data.source), validation_sets=validation_sets)


def joined(pipeline: Pipeline, sharpener: str | Path, epsilon: float = RefinedConfig.epsilon) -> RefinedDRAW:
    """Returns a drawing model and a sharpener's generator as one model, for `new_run(..., start=...)` to train on.

    Args:
        pipeline: of the drawing model.
        sharpener: a folder; the sharpener must have been trained with this model's reading of captions.
        epsilon: of `aligndraw.config.RefinedConfig`.

    Raises:
        FileNotFoundError: there is no sharpener in the folder.
        ValueError: it is damaged, or the two do not fit.
    """
    model, found = pipeline.model, Sharpener.load(sharpener)
    if type(model) is not AlignDRAW:
        raise ValueError(f"model must be one that draws in steps, and not refined yet, got a {model.config.title}")
    notes = sentence_notes(model.config.sentences, model.language)
    if found.notes.get("sentences", notes) != notes:
        raise ValueError(f"the sharpener in {sharpener} must read captions as the model does, and reads them otherwise")
    return RefinedDRAW.of(model, found.generator, epsilon)


def _trainer(
    model: ModelConfig,
    training: TrainingConfig,
    data: DataSet,
    seed: int,
    device: torch.device | str,
    start: Model | None = None,
) -> Trainer:
    """Returns a fresh trainer."""
    channels, *size = data.image_shape
    words = len(data.source.vocabulary)
    for name, rule, fits in (
        ("image_size", " x ".join(map(str, size)), model.image_size == tuple(size)),
        ("channels", str(channels), model.channels == channels),
        ("vocabulary_size", str(words), model.vocabulary_size == words),
    ):
        if not fits:
            raise ValueError(f"{name} must be {rule} for {data.title}, got {getattr(model, name)}")
    with torch.random.fork_rng(devices=()):
        torch.default_generator.manual_seed(seed)
        network = build_model(model)
        network.reset_parameters(training.init)
    if start is not None:
        network.load_state_dict(start.state_dict())
    network.to(device)
    if isinstance(network, RefinedDRAW) and isinstance(training, EndToEndConfig):
        return EndToEndTrainer(network, data.source, training, seed)
    return Trainer(network, data.source, training, seed)


@contextmanager
def _removed_if_idle(folder: Path) -> Iterator[None]:
    """Removes a folder that the block made, and its lock, unless it holds a run at the end."""
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        yield
    finally:
        if not (folder / RUN).exists():
            with suppress(OSError):
                (folder / LOCK).unlink()
            for place in made:
                with suppress(OSError):
                    place.rmdir()
