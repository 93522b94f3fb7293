"""`aligndraw train skipthoughts`: consecutive sentences to skip-thoughts in a run folder."""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch

from aligndraw.cli.failure import Failure, failing
from aligndraw.cli.options import add_config, add_device, add_seed, chosen
from aligndraw.cli.outputs import writing
from aligndraw.cli.runs import add_run, keeps_settings, new_run, tell_stopped, updates_bar
from aligndraw.cli.stopping import stopped_by_signals
from aligndraw.text.skipthoughts import DICTIONARY, FILES
from aligndraw.training.expansion import expand_vocabulary
from aligndraw.training.run import RUN
from aligndraw.training.skipthoughts import (
    SkipThoughtsConfig,
    SkipThoughtsModel,
    SkipThoughtsRecipe,
    SkipThoughtsRun,
    SkipThoughtsTrainer,
    SkipThoughtsUpdate,
    Triples,
    train_skipthoughts,
)

MODEL, RECIPE = {"released": SkipThoughtsConfig()}, {"released": SkipThoughtsRecipe()}
SETTINGS = (
    "text", "word_vectors", "seed",
    *(f.name for config in (SkipThoughtsConfig, SkipThoughtsRecipe) for f in dataclasses.fields(config)),
)  # fmt: skip


def add_to(sets: Any) -> None:
    """Adds the command to the subparsers of `aligndraw train`."""
    parser = sets.add_parser(
        "skipthoughts",
        help="vectors of sentences, on text",
        description="Trains skip-thoughts on sentences that follow each other, and saves them in the form of the "
        "released ones. Values in [brackets] are those of the released code. Ctrl-C saves the run, and --resume takes "
        "it up again.",
    )
    parser.add_argument(
        "--text",
        type=Path,
        metavar="FILE",
        help="UTF-8 text, a sentence a line; an empty line between two texts",
    )
    add_run(parser, "aligndraw-skipthoughts")
    parser.add_argument(
        "--word-vectors",
        type=Path,
        metavar="FILE",
        help="word2vec's, .bin or text: at the end, all its words are mapped into the vocabulary",
    )
    add_seed(parser, "of the parameters and of the order of the sentences", default=None)
    add_device(parser)
    add_config(parser, "model", MODEL)
    add_config(parser, "training", RECIPE)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    folder: Path = arguments.out
    with ExitStack() as stack, writing(folder):
        run, trainer = stack.enter_context(_resumed(arguments) if arguments.resume else _new(arguments))
        parameters = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
        done = f", from update {trainer.index} on" if trainer.index else ""
        print(
            f"training {parameters:,} parameters on {len(trainer.data.middles):,} triples of sentences, "
            f"{len(trainer.data.words):,} words: {trainer.total:,} updates{done}; {arguments.device}",
            flush=True,
        )
        bar = stack.enter_context(updates_bar(trainer, trainer.total))

        def on_update(update: SkipThoughtsUpdate) -> None:
            bar.set_postfix_str(f"{update.loss:.3f} nats a word", refresh=False)
            bar.update()

        stopping = stack.enter_context(stopped_by_signals())
        with failing(FloatingPointError):
            finished = train_skipthoughts(
                run, trainer, checkpoint_every=arguments.checkpoint_every, on_update=on_update, stopping=stopping
            )
        if not finished:
            return tell_stopped("skipthoughts", trainer, trainer.total, folder)
        losses = [m["loss"] for m in run.metrics()][-trainer.updates_per_epoch :]
        print(f"finished: {sum(losses) / len(losses):.3f} nats a word in the last epoch")
        direction, vectors = run.model_config.direction, run.record["settings"]["word_vectors"]
        if vectors is not None:
            table = trainer.model.words.weight.detach().cpu().numpy()
            with failing(ValueError, FileNotFoundError):
                total = expand_vocabulary(trainer.data.words, table, vectors, folder, FILES[direction][1])
            print(f"expanded the vocabulary to {total:,} words")
    print(f"wrote {', '.join((DICTIONARY, *FILES[direction]))} into {folder}")
    print(f"next: aligndraw train sharpener --sentences {direction}-skip:{shlex.quote(str(folder))} ...")
    return 0


@contextmanager
def _new(arguments: argparse.Namespace) -> Iterator[tuple[SkipThoughtsRun, SkipThoughtsTrainer]]:
    if arguments.text is None:
        raise Failure("--text FILE must say what to train on", status=2)
    vectors: Path | None = arguments.word_vectors
    if vectors is not None and not vectors.is_file():
        raise Failure(f"there are no word vectors {vectors}")
    with failing(ValueError, status=2):
        config, recipe = chosen(MODEL["released"], arguments), chosen(RECIPE["released"], arguments)
    settings = {
        "text": os.path.abspath(arguments.text),
        "word_vectors": vectors and os.path.abspath(vectors),
        "seed": arguments.seed or 0,
    }
    trainer, checksum = _trainer(settings, config, recipe, arguments.device)
    notes = {"settings": settings, "sha256": checksum}
    with ExitStack() as stack:
        with failing(ValueError):
            begun = new_run(SkipThoughtsRun, arguments, config, recipe, settings["seed"], **notes)
            run = stack.enter_context(begun)
        yield run, trainer


@contextmanager
def _resumed(arguments: argparse.Namespace) -> Iterator[tuple[SkipThoughtsRun, SkipThoughtsTrainer]]:
    keeps_settings(arguments, SETTINGS)
    with ExitStack() as stack:
        with failing(ValueError):
            run = SkipThoughtsRun.open(arguments.out)
            settings = run.record.get("settings")
            if not isinstance(settings, dict) or set(settings) != {"text", "word_vectors", "seed"}:
                raise Failure(f"{arguments.out / RUN} is damaged or foreign: it has no settings of skip-thoughts")
            trainer, checksum = _trainer(settings, run.model_config, run.training_config, arguments.device)
            if checksum != run.record.get("sha256"):
                raise Failure(f"{settings['text']} is not the file any more that {arguments.out} began with")
            stack.enter_context(run.locked())
            for line in run.restore(trainer):
                print(line, file=sys.stderr)
        yield run, trainer


def _trainer(
    settings: dict[str, Any], config: SkipThoughtsConfig, recipe: SkipThoughtsRecipe, device: str
) -> tuple[SkipThoughtsTrainer, str]:
    """A fresh trainer, and the checksum of its text."""
    file = Path(settings["text"])
    try:
        content = file.read_bytes()
        lines = content.decode("utf-8").split("\n")
    except OSError as error:
        raise Failure(f"cannot read {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise Failure(f"{file} must be UTF-8 text: {error}") from error
    with failing(ValueError):
        data = Triples.of(lines, config.words, recipe.max_words)
    with torch.random.fork_rng(devices=()):
        torch.default_generator.manual_seed(settings["seed"])
        model = SkipThoughtsModel(config, len(data.words))
    trainer = SkipThoughtsTrainer(model.to(device), data, recipe, settings["seed"])
    return trainer, hashlib.sha256(content).hexdigest()
