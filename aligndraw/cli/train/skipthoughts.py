"""`aligndraw train skipthoughts`: train skip-thoughts on consecutive sentences, in a run folder."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from aligndraw.cli.failure import Failure, failing
from aligndraw.cli.options import add_presets
from aligndraw.cli.train import job
from aligndraw.text.skipthoughts import DICTIONARY, FILES
from aligndraw.text.words import RULE
from aligndraw.training.expansion import expand_vocabulary
from aligndraw.training.skipthoughts import PRESETS, SkipThoughtsSetup, SkipThoughtsUpdate, save_skipthoughts


class SkipThoughtsJob(job.SetupJob):
    """The training of skip-thoughts."""

    NAME, SETUP = "skipthoughts", SkipThoughtsSetup
    setup: SkipThoughtsSetup

    @classmethod
    def settings_from(cls, arguments: argparse.Namespace) -> tuple[dict[str, Any], str]:
        if arguments.text is None:
            raise Failure("--text FILE must name the training text", status=2)
        vectors: Path | None = arguments.word_vectors
        if vectors is not None and not vectors.is_file():
            raise Failure(f"there are no word vectors {vectors}")
        paths = {"text": arguments.text, "word_vectors": vectors}
        given = {name: path and os.path.abspath(path) for name, path in paths.items()}
        return {**given, "word_rule": RULE, "seed": arguments.seed}, "released"

    def status(self, update: SkipThoughtsUpdate) -> str:
        return f"{update.loss:.3f} nats per word"

    def end_epoch(self, epoch: int) -> Mapping[str, Any]:
        save_skipthoughts(self.setup.trainer.model, self.setup.data.words, self.run.folder, self.setup.data.rule)
        return {}

    def finish(self, ended: str) -> Iterator[str]:
        folder, direction = self.run.folder, self.setup.model_config.direction
        losses = [m["loss"] for m in self.run.metrics() if "loss" in m][-self.trainer.updates_per_epoch :]
        yield f"finished: {sum(losses) / max(len(losses), 1):.3f} nats per word in the last epoch"
        if vectors := self.setup.settings["word_vectors"]:
            table = self.setup.trainer.model.words.weight.detach().cpu().numpy()
            with failing(ValueError, FileNotFoundError):
                total = expand_vocabulary(self.setup.data.words, table, vectors, folder, direction)
            yield f"expanded the vocabulary to {total:,} words"
        yield f"wrote {', '.join((DICTIONARY, *FILES[direction]))} into {folder}"
        yield f"next: aligndraw train sharpener --sentences {direction}-skip:{shlex.quote(str(folder))} ..."


def add_to(parsers: Any) -> None:
    """Adds the command to the subparsers of `aligndraw train`."""
    parser = job.add_training(
        parsers,
        SkipThoughtsJob.NAME,
        SkipThoughtsJob.begin,
        "skip-thoughts, a sentence encoder, on text",
        "Trains skip-thoughts on consecutive sentences, and saves them in the form of the released ones.",
        "the released code",
        "the parameters and of the order of the sentences",
    )
    text = "UTF-8 text, one sentence per line; an empty line between two texts"
    parser.add_argument("--text", type=Path, metavar="FILE", help=text)
    vectors = "word2vec file, .bin or text, whose words are added to the vocabulary after training"
    parser.add_argument("--word-vectors", type=Path, metavar="FILE", help=vectors)
    add_presets(parser, PRESETS)
