"""From data to a model in a run folder, as the command line trains it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

import aligndraw
from aligndraw.arguments import check_int, check_kind, check_path, check_seed
from aligndraw.config import EndToEndConfig, ModelConfig, RefinedConfig, TrainingConfig
from aligndraw.data import DataError, DataSet, SentenceReader, Source, recorded_data_set, reworded
from aligndraw.data.captioned import drawn_rows
from aligndraw.data.scene_captions import EARLIER
from aligndraw.json_files import entry, naming
from aligndraw.lapgan.captioned import sentence_notes
from aligndraw.lapgan.sharpen import Sharpener
from aligndraw.model import AlignDRAW, Model, RefinedDRAW, build_model
from aligndraw.pipelines.pipeline import Pipeline
from aligndraw.pipelines.reading import with_sentences
from aligndraw.printable import counted
from aligndraw.provenance import data_of
from aligndraw.text import Vocabulary, WordPairs
from aligndraw.training import Trainer, Update
from aligndraw.training.end_to_end import EndToEndTrainer
from aligndraw.training.guards import NotFinite
from aligndraw.training.model_run import Run, train_run
from aligndraw.training.ranks import current
from aligndraw.training.run import LOCK, RUN, RunError
from aligndraw.training.start import copy_parameters

MAX_CAPTIONS = 20_000  # whose word pairs a model knows
_C = TypeVar("_C", bound=ModelConfig)


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
            f"{counted(recipe.epochs, 'epoch')} of "
            f"{counted(recipe.epoch_size, 'image')} in batches of {recipe.batch_size}, {recipe.optimizer} at "
            f"{recipe.learning_rate:g}; {counted(threads, 'thread')}, "
            f"{trainer.model.execution_mode()}, {trainer.precision} products"
            f"{graphs if device.startswith('cuda') else ''}"
        )

    @property
    def pipeline(self) -> Pipeline:
        """A pipeline of the model in training."""
        words, name = self.data.source.vocabulary, str(self.run.folder)
        return Pipeline(self.trainer.model, words, sentences=self.sentences, name=name)


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
    vocabulary: Vocabulary | None = None,
    **notes: Any,
) -> Iterator[Job]:
    """Begins a training in a folder, which is made if need be.

        quick = AlignDRAWConfig.preset("quick"), TrainingConfig.preset("quick")
        with new_run("seven", *quick, open_data_set("mnist")) as job:
            train(job)
        Pipeline.from_pretrained("seven")("the digit seven is at the top left of the image").save("seven.png")

    An error in the block before the first checkpoint removes all that was made.

    Args:
        model: of any kind; its sentence encoder is opened, and its path and size are noted.
        data: from `aligndraw.data.open_data_set`.
        seed: of the parameters, the examples and the noise.
        overwrite: removes a run or a model in the folder.
        start: the initial parameters; None draws them. Its words may be the first ones of the model's.
        vocabulary: the words of the model; None for those of the data.
        notes: kept in `run.json`.

    Raises:
        ValueError: the model does not fit the data set or its sentence encoder; `aligndraw.training.run.RunError`,
            for a folder that is taken.
        OSError: the folder cannot be written.
    """
    seed = check_seed(seed)
    folder = check_path("folder", folder)
    check_kind("model", model, ModelConfig)
    check_kind("training", training, TrainingConfig)
    check_kind("data", data, DataSet)
    model, sentences = with_sentences(model)
    if vocabulary is not None and vocabulary != data.source.vocabulary:
        data, notes = reworded(data, vocabulary), {**notes, "vocabulary": vocabulary.to_dict()}
    data = _read_by(sentences, data)
    trainer = _trainer(model, training, data, seed, device, start)
    with _removed_if_idle(folder):
        versions = {"aligndraw": aligndraw.__version__, "torch": torch.__version__}
        size = max(map(len, data.validation_sets.values()))
        notes = {"data": data.record, "validation_size": size, "versions": versions, **notes}
        if pairs := training_pairs(data.source):
            notes["word_pairs"] = pairs.to_dict()
        run = Run.create(folder, model, training, seed, overwrite, **notes)
        with run.begun():
            if start is not None:  # a resumed training needs the initial parameters
                run.checkpoint(trainer)
            yield Job(run, trainer, data, sentences)


@contextmanager
def resumed_run(
    folder: str | Path,
    device: torch.device | str = "cpu",
    *,
    data: str | Path | None = None,
    epochs: int | None = None,
) -> Iterator[Job]:
    """Resumes a training from its newest whole checkpoint.

    Args:
        data: the path of its data where they have moved; None for the recorded one.
        epochs: a larger number of them than before; None for the run's.

    Raises:
        ValueError: epochs is no whole number; or, as `RunError`, there is no run in the folder, it is damaged or in
            use, or its data are gone or have changed.
    """
    epochs = None if epochs is None else check_int("epochs", epochs, 1)
    run = Run.open(check_path("folder", folder))
    with naming(check_path("folder", folder) / RUN, "damaged or foreign", RunError):
        record = data_of(run.record)
        if data is not None:
            record["path"] = str(data)
        path, checksum = record["path"], record["sha256"]
        key = "scored" if "scored" in run.record else "validation_size"  # runs of version 0.1 name it "scored"
        size = entry(run.record, key, int)
        if size < 1:
            raise ValueError(f"{key!r} must be at least 1, got {size}")
        words = Vocabulary.from_dict(run.record["vocabulary"]) if "vocabulary" in run.record else None
    try:
        found = recorded_data_set(record, size)
    except DataError as error:
        raise RunError(f"{error}; if the data have moved, name their place (--data, --digits)") from error
    if found.record["sha256"] != checksum:
        raise RunError(f"{path or 'the package'} holds other data than those that {folder} began with")
    if data is not None:
        run.record["data"]["path"] = found.record["path"]
    changed = run.extend(epochs)
    model, sentences = with_sentences(run.model_config)
    # A run of version 0.1, whose record lacks the words of scenes.
    if words is None and found.name == "scenes" and model.vocabulary_size == len(EARLIER):
        words = EARLIER
    found = _read_by(sentences, found if words is None else reworded(found, words))
    trainer = _trainer(model, run.training_config, found, run.record["seed"], device)
    with run.locked():
        remarks = run.restore(trainer)
        if data is not None or epochs is not None:
            run.save_record()
        yield Job(run, trainer, found, sentences, [*remarks, *changed])


def train(
    job: Job,
    *,
    checkpoint_every: int = 100,
    on_update: Callable[[Update], None] = lambda update: None,
    on_epoch: Callable[[int, dict[str, Any]], None] = lambda epoch, scores: None,
    stopping: Callable[[], bool] = lambda: False,
    max_skipped: int = 0,
    on_skip: Callable[[NotFinite], None] = lambda error: None,
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
        max_skipped=max_skipped,
        on_skip=on_skip,
    )


def training_pairs(source: Source) -> WordPairs | None:
    """Returns the word pairs of the captions of a source; None where its captions are free (`WordPairs.closed`)."""
    captions = source.all_captions()
    if captions is None:
        captions = source.epoch(0, size=MAX_CAPTIONS).captions(slice(0, MAX_CAPTIONS))
    order = drawn_rows(np.random.default_rng(0), len(captions), min(MAX_CAPTIONS, len(captions)))
    return WordPairs.closed([captions[i].split() for i in order.tolist()])


def config_for(model: _C, data: DataSet) -> _C:
    """Returns the configuration with the image size, channels and vocabulary size of a data set."""
    channels, *size = data.image_shape
    return model.replace(image_size=tuple(size), channels=channels, vocabulary_size=len(data.source.vocabulary))


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
        copy_parameters(network, start)
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
        if current().first and not (folder / RUN).exists():
            with suppress(OSError):
                (folder / LOCK).unlink()
            for place in made:
                with suppress(OSError):
                    place.rmdir()
