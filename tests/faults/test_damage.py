"""Files that are cut short, or of which one bit is another: each is refused with one line, or read as it was.

Files from outside have no checksum of ours. A changed bit may be other data there, but never a traceback.
"""

import gzip
import io
import random
import shutil
from contextlib import redirect_stderr, redirect_stdout

import numpy as np
import pytest
import torch
from PIL import Image
from writers import WRITERS

from aligndraw.cli import main
from aligndraw.data import CaptionedImages, Scenes, load_digits
from aligndraw.data.caption_files import read_captions
from aligndraw.data.coco import read_coco
from aligndraw.data.image_files import store_collection
from aligndraw.evaluation.features import FeatureNetwork
from aligndraw.lapgan.sharpen import Sharpener
from aligndraw.model import build_model
from aligndraw.model.lapgan import LAPGAN
from aligndraw.model.saved import load_model
from aligndraw.pipelines import Pipeline
from aligndraw.text.sentences import open_encoder
from aligndraw.training.checkpoint import load_checkpoint
from aligndraw.training.expansion import read_word_vectors
from aligndraw.training.model_run import Run
from aligndraw.training.trainer import Trainer


def of_network(network):
    return [(name, tensor.numpy().tobytes()) for name, tensor in network.state_dict().items()]


def of_model(folder):
    model, vocabulary, _ = load_model(folder)
    return of_network(model), vocabulary.words, model.config


def of_exported(folder):
    pipeline = Pipeline.from_pretrained(folder)
    return of_network(pipeline.model), pipeline.vocabulary.words


def of_run(folder):
    """What a resumed training goes on with."""
    run = Run.open(folder)
    trainer = Trainer(build_model(run.model_config), Scenes(), run.training_config, run.record["seed"])
    run.restore(trainer)
    return of_network(trainer.model), trainer.index, run.training_config


def of_checkpoint(folder):
    run = Run.open(folder.parents[1])
    trainer = Trainer(build_model(run.model_config), Scenes(), run.training_config, 0)
    load_checkpoint(trainer, folder, run._digest)
    slots = trainer.optimizer.state_dict()["state"]
    return (
        of_network(trainer.model),
        trainer.index,
        [(i, k, v.tolist()) for i, s in slots.items() for k, v in s.items()],
    )


def of_data(folder):
    data = CaptionedImages.open(folder)
    data.verify()
    rows = {split: data.split(split) for split in data.sizes}
    return [(s, e.images.tobytes(), e.captions(slice(0, len(e)))) for s, e in rows.items()], data.vocabulary.words


def of_encoder(folder):
    return open_encoder(f"uni-skip:{folder}").encode(["a dog runs", "nothing"]).tolist()


def of_captions(path):
    found = read_captions(path.parent, path)
    return found.skipped, repr(found)


def of_coco(folder):
    files = [folder / f"captions_{name}.json" for name in ("train", "val")]
    return repr(read_coco(folder, files, validation=1, test=1))


def of_images(folder):
    place = folder.parent / "stored"
    shutil.rmtree(place, ignore_errors=True)
    collection = read_captions(folder, folder / "table.csv")
    store_collection(collection, place, {}, size=(4, 4), processes=1, allow_skipped=0.5)
    return of_data(place)


def of_digits(path):
    digits = load_digits(path)
    return digits.images.tobytes(), digits.labels.tobytes()


def of_vectors(path):
    return {w: v.tolist() for w, v in read_word_vectors(path)}


# Each kind of file: who wrote it, its name below the folder of inputs, what reads it, and whether it has a checksum.
FILES = {
    "weights of a model": ("drawing/model.safetensors", lambda p: of_model(p.parent), True),
    "configuration of a model": ("drawing/config.json", lambda p: of_model(p.parent), True),
    "exported weights": ("exported/model.safetensors", lambda p: of_exported(p.parent), True),
    "exported configuration": ("exported/config.json", lambda p: of_exported(p.parent), True),
    "record of a run": ("run/run.json", lambda p: of_run(p.parent), True),
    "state of a checkpoint": ("run/checkpoints/*/state.safetensors", lambda p: of_checkpoint(p.parent), True),
    "numbers of a checkpoint": ("run/checkpoints/*/state.json", lambda p: of_checkpoint(p.parent), True),
    "manifest of a checkpoint": ("run/checkpoints/*/manifest.json", lambda p: of_checkpoint(p.parent), True),
    "metrics": ("run/metrics.jsonl", lambda p: Run.open(p.parent).metrics(), False),
    "sharpener": ("sharpener/sharpener.safetensors", lambda p: of_network(Sharpener.load(p.parent)), True),
    "configuration of a sharpener": ("sharpener/sharpener.json", lambda p: of_network(Sharpener.load(p.parent)), True),
    "LAPGAN": ("lapgan/lapgan.safetensors", lambda p: of_network(LAPGAN.load(p.parent)), True),
    "features": ("features/features.safetensors", lambda p: of_network(FeatureNetwork.load(p.parent)), True),
    "skip-thoughts": ("skip/uni_skip.npz", lambda p: of_encoder(p.parent), True),
    "table of words": ("skip/utable.npy", lambda p: of_encoder(p.parent), True),
    "dictionary": ("skip/dictionary.txt", lambda p: of_encoder(p.parent), True),
    "manifest of images": ("data/manifest.json", lambda p: of_data(p.parent), True),
    "stored images": ("data/train-images.npy", lambda p: of_data(p.parent), True),
    "stored captions": ("data/train-captions.txt", lambda p: of_data(p.parent), True),
    "stored indices": ("data/train-image-index.npy", lambda p: of_data(p.parent), True),
    "captions .csv": ("images/table.csv", of_captions, False),
    "captions .jsonl": ("images/table.jsonl", of_captions, False),
    "captions of COCO": ("images/captions_train.json", lambda p: of_coco(p.parent), False),
    "image .png": ("images/1.png", lambda p: of_images(p.parent), False),
    "image .jpg": ("images/0.jpg", lambda p: of_images(p.parent), False),
    "digits .npz": ("digits.npz", of_digits, False),
    "digits IDX": ("idx/train-images-idx3-ubyte", lambda p: of_digits(p.parent), False),
    "digits IDX, packed": ("packed/train-images-idx3-ubyte.gz", lambda p: of_digits(p.parent), False),
    "labels IDX": ("idx/train-labels-idx1-ubyte", lambda p: of_digits(p.parent), False),
    "word vectors": ("vectors.txt", of_vectors, False),
}


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


@pytest.fixture(scope="module")
def inputs(inputs):
    """Those of the writers, with files of more kinds."""
    folder = inputs
    Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3)).save(folder / "images" / "0.jpg")
    (folder / "images" / "table.csv").write_text(
        (folder / "images" / "table.csv").read_text().replace("0.png", "0.jpg"), encoding="utf-8"
    )
    rows = [f'{{"file_name": "{i}.png", "text": "picture {i}"}}\n' for i in range(1, 5)]
    (folder / "images" / "table.jsonl").write_text("".join(rows), encoding="utf-8")
    for name, which in (("train", (1, 2)), ("val", (3, 4))):
        pictures = ", ".join(f'{{"id": {i}, "file_name": "{i}.png"}}' for i in which)
        texts = ", ".join(f'{{"id": {i}, "image_id": {i}, "caption": "picture {i}"}}' for i in which)
        record = f'{{"images": [{pictures}], "annotations": [{texts}]}}'
        (folder / "images" / f"captions_{name}.json").write_text(record)
    (folder / "vectors.txt").write_text("2 3\ndog 0.5 1.5 2.5\ncat 1.0 2.0 3.0\n")
    images = np.random.default_rng(0).integers(0, 256, (2001, 28, 28), np.uint8)
    labels = (np.arange(2001) % 10).astype(np.uint8)
    np.savez(folder / "digits.npz", images=images[:, ::1], labels=labels)
    for place, pack in (("idx", bytes), ("packed", gzip.compress)):
        (folder / place).mkdir()
        end = ".gz" if pack is gzip.compress else ""
        for kind, n in (("train", 2001), ("t10k", 10)):
            (folder / place / f"{kind}-images-idx3-ubyte{end}").write_bytes(pack(idx(images[:n])))
            (folder / place / f"{kind}-labels-idx1-ubyte{end}").write_bytes(pack(idx(labels[:n])))
    made = {"train scenes conv-vae": "run", "train lapgan": "lapgan", "train features": "features"}
    made |= {"train skipthoughts": "skip", "export": "exported"}
    for writer, name in made.items():
        place = folder / f"at-{name}"
        place.mkdir()
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()) as complaint:
            assert main([str(a) for a in WRITERS[writer].begin(folder, place)]) == 0, complaint.getvalue()
        next(place.iterdir()).rename(folder / name)
    return folder


def damages(content, count):
    """Cuts, from nothing on, and flipped bits; half of them each."""
    draw = random.Random(0)
    for i in range(count):
        if i % 2 == 0:
            yield "cut", content[: int(len(content) * draw.random()) if i else 0]
        else:
            changed = bytearray(content)
            changed[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
            yield "bit flipped", bytes(changed)


@pytest.mark.parametrize("few", [8, pytest.param(None, marks=pytest.mark.faults)], ids=["few", "many"])
@pytest.mark.parametrize("kind", FILES)
def test_damage(kind, few, inputs, ledger, seconds):
    name, read, checked = FILES[kind]
    (path,) = list(inputs.glob(name))[-1:]
    torch.manual_seed(0)
    expected, whole = read(path), path.read_bytes()
    try:
        cases = list(damages(whole, few or 1000))
        for i in ledger.each(kind, "damage", len(cases), few, None if few else seconds):
            how, content = cases[i]
            path.write_bytes(content)
            torch.manual_seed(0)
            try:
                found = read(path)
            except (ValueError, OSError) as error:
                assert "\n" not in str(error).strip() and len(str(error)) > 10, (how, error)
            else:
                assert not checked or content == whole or found == expected, how
    finally:
        path.write_bytes(whole)
