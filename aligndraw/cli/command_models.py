"""`aligndraw models`: lists the models that ship, with a picture of each caption."""

from __future__ import annotations

import argparse
from pathlib import Path

import aligndraw
from aligndraw.cli.failure import Failure, failing
from aligndraw.cli.options import add_seed, path_with_suffix
from aligndraw.cli.outputs import check_file, draw_one_by_one, writing
from aligndraw.cli.telling import tell
from aligndraw.pipelines import Pipeline, shipped_models
from aligndraw.pipelines.card import Card, size_of
from aligndraw.pipelines.shipped import NONE_SHIPS
from aligndraw.viz import Captioned, contact_sheet, save_png


def add_to(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the command to its parser."""
    parser.description = (
        "Lists the models that ship: what they draw, their size, and captions that work. `aligndraw sample` finds the "
        "one that knows the words of a caption; --model NAME takes one by name."
    )
    parser.add_argument(
        "-o", type=path_with_suffix(".png"), metavar="FILE", help="also write a .png with a picture of each caption"
    )
    add_seed(parser, "seed of the noise of the pictures")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    if arguments.o is not None:
        check_file(arguments.o)
    models = shipped_models()
    if not models:
        raise Failure(NONE_SHIPS)
    with failing(ValueError):
        cards = {name: card for name, folder in models.items() if (card := Card.read(folder))}
    for name, card in cards.items():
        tell(f"{name}: {card.draws}; {size_of(models[name])}", *(f'  "{caption}"' for caption in card.captions))
    if arguments.o is not None:
        _write_sheet(arguments.o, models, cards, arguments.seed)
        tell(f"wrote {arguments.o}: a picture of each caption, seed {arguments.seed}")
    return 0


def _write_sheet(path: Path, models: dict[str, Path], cards: dict[str, Card], seed: int) -> None:
    blocks: list[Captioned] = []
    for name, card in cards.items():
        with failing(ValueError):
            pipeline = Pipeline.from_pretrained(models[name])
        for caption in card.captions:
            drawing = draw_one_by_one(pipeline, [caption], seed=seed)
            blocks.append(Captioned(caption, drawing.arrays(), name))
    captions = "\n".join(block.caption for block in blocks)
    texts = {"Software": f"aligndraw {aligndraw.__version__}", "Caption": captions, "Seed": str(seed)}
    with writing(path):
        save_png(contact_sheet(blocks), path, texts)
