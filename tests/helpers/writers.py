"""Everything that writes files, as commands at tiny sizes: what is begun, and how a user goes on after a fault."""

import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from aligndraw import AlignDRAW, AlignDRAWConfig
from aligndraw.data import Scenes
from aligndraw.data.stored_scenes import store_scenes
from aligndraw.lapgan.captioned import sentence_notes
from aligndraw.lapgan.config import SharpenerConfig
from aligndraw.lapgan.sharpen import Sharpener
from aligndraw.model.saved import save_model
from aligndraw.pipelines import Pipeline

NETWORK = "--steps 2 --encoder-units 6 --decoder-units 5 --latent-units 3 --language-units 4 --align-units 4"
RECIPE = "--epochs 1 --epoch-size 12 --batch-size 4 --kl-warmup 0 --validation-size 2 --checkpoint-every 1"
BUS = "a red bus stands on grass"


@dataclass(frozen=True)
class Writer:
    """One command that writes below a folder.

    Attributes:
        begin: the arguments of the command, given the folder of inputs and the place to write to.
        again: the arguments by which a user goes on; None for those of `begin`.
        training: whether it keeps checkpoints.
    """

    begin: Callable[[Path, Path], list]
    again: Callable[[Path, Path], list] | None = None
    training: bool = False


def _train(kind, options):
    def begin(inputs, place):
        given = [str(inputs / o[1:]) if o.startswith("@") else o for o in options.split()]
        return ["train", kind, *given, "--out", place / "run"]

    def again(inputs, place):
        started = (place / "run" / "run.json").exists()
        every = ["--checkpoint-every", 1]
        return ["train", kind, "--out", place / "run", "--resume", *every] if started else begin(inputs, place)

    return Writer(begin, again, training=True)


def _into(name, options, over=""):
    def arguments(inputs, place, more=""):
        words = f"{options} {more}".split()
        return [str(inputs / o[1:]) if o.startswith("@") else place / o[1:] if o.startswith(">") else o for o in words]

    def again(inputs, place):
        return arguments(inputs, place, over if (place / name).exists() else "")

    return Writer(arguments, again if over else None)


ADVERSARIAL = "--hidden-channels 2 --epochs 1 --batch-size 8 --checkpoint-every 1"
WRITERS = {
    "train mnist": _train("mnist", f"{NETWORK} {RECIPE}"),
    "train scenes conv-vae": _train(
        "scenes", f"--model conv-vae --hidden-channels 2 --latent-units 3 --language-units 4 {RECIPE}"
    ),
    "train end-to-end": _train("end-to-end", f"--model @drawing --sharpener @sharpener {RECIPE}"),
    "train sharpener": _train("sharpener", f"--data @data --model @drawing {ADVERSARIAL}"),
    "train lapgan": _train(
        "lapgan", f"--data @data --model @drawing {ADVERSARIAL} --generator-units 4 --discriminator-units 5"
    ),
    "train skipthoughts": _train(
        "skipthoughts", "--text @text.txt --word-units 4 --units 3 --epochs 1 --batch-size 2 --checkpoint-every 1"
    ),
    "train features": _train(
        "features", "--hidden-channels 2 --epochs 1 --epoch-size 16 --batch-size 8 --checkpoint-every 1"
    ),
    "data scenes": _into("data", "data scenes --images 3 --out >data", "--overwrite"),
    "data folder": _into(
        "data",
        "data folder --images @images --captions @images/table.csv --size 4 4 --processes 1 --out >data",
        "--overwrite",
    ),
    "data coco": _into(
        "data",
        "data coco --images @images --annotations @images/captions.json --size 4 4 --processes 1 --out >data",
        "--overwrite",
    ),
    "data webdataset": _into(
        "data", "data webdataset --shards @shards --size 4 4 --processes 1 --out >data", "--overwrite"
    ),
    "tables": _into(
        "out", "tables --data scenes --model @drawing -o >out --images 4 --drawn 1 --samples 1 --pictures 1"
    ),
    "export": _into("out", "export @drawing --out >out"),
    "sample": _into("out", "sample CAPTION --model @drawing -n 1 -o >picture.png"),
    "sample archive": _into("out", "sample CAPTION --model @drawing -n 1 -o >pictures.npz"),
}


def make_inputs(folder):
    """Writes a model of scenes, its sharpener, a data set, images with a table and COCO's annotations, shards of them,
    and text.
    """
    torch.manual_seed(0)
    sizes = dict(zip((o[2:].replace("-", "_") for o in NETWORK.split()[::2]), map(int, NETWORK.split()[1::2])))
    size = dict(image_size=(32, 32), channels=3, canvas_init=0.0, vocabulary_size=len(Scenes.vocabulary))
    model = AlignDRAW(AlignDRAWConfig(**size, **sizes))
    data = {"name": "scenes", "path": None, "sha256": None}
    notes = {"data": data, "seed": 3, "epochs": 1, "training": {"epoch_size": 30}}
    save_model(model, Scenes.vocabulary, folder / "drawing", notes=notes)
    network = Pipeline.from_pretrained(folder / "drawing").model
    sharpener = Sharpener(SharpenerConfig(image_size=(32, 32), channels=3, sentence_units=8, hidden_channels=2))
    sharpener.notes = {"sentences": sentence_notes("caption", network.language)}
    sharpener.save(folder / "sharpener")
    store_scenes(folder / "data", 2, captions=1)
    (folder / "images").mkdir()
    splits = ("train", "train", "train", "validation", "test")
    for i in range(len(splits)):
        Image.fromarray(np.full((4, 4, 3), 40 * i, np.uint8)).save(folder / "images" / f"{i}.png")
    rows = [f"{i}.png,picture {i},{split}" for i, split in enumerate(splits)]
    (folder / "images" / "table.csv").write_text("\n".join(["file,caption,split", *rows]) + "\n")
    record = {
        "images": [{"id": i, "file_name": f"{i}.png"} for i in range(len(splits))],
        "annotations": [{"id": i, "image_id": i, "caption": f"picture {i}"} for i in range(len(splits))],
    }
    (folder / "images" / "captions.json").write_text(json.dumps(record))
    (folder / "shards").mkdir()
    for split, numbers in (("train", (0, 1, 2)), ("validation", (3,))):
        with tarfile.open(folder / "shards" / f"{split}.tar", "w") as tar:
            for i in numbers:
                tar.add(folder / "images" / f"{i}.png", f"{i}.png")
                info = tarfile.TarInfo(f"{i}.txt")
                info.size = len(f"picture {i}")
                tar.addfile(info, io.BytesIO(f"picture {i}".encode()))
    (folder / "text.txt").write_text(3 * "A dog runs.\nIt sleeps.\nThen it runs.\nA cat sees it.\n\n")
    return folder
