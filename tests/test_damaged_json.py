"""Every JSON file that the project reads, with every fault: it is read, or one line names it and says why not."""

import json

import numpy as np
import pytest
import torch
from json_faults import faults

from aligndraw import AlignDRAW, AlignDRAWConfig, TrainingConfig
from aligndraw.data import CaptionedImages
from aligndraw.data.captioned_writer import CaptionedWriter
from aligndraw.data.mnist_captions import VOCABULARY
from aligndraw.evaluation.features import FeatureNetwork, FeaturesConfig
from aligndraw.lapgan.config import LAPGANConfig, SharpenerConfig
from aligndraw.lapgan.sharpen import Sharpener
from aligndraw.model.language import LanguageModel
from aligndraw.model.lapgan import LAPGAN
from aligndraw.model.saved import load_model, save_model
from aligndraw.text import Vocabulary, read_tokenizer, write_tokenizer
from aligndraw.training.checkpoint import load_checkpoint, save_checkpoint
from aligndraw.training.model_run import Run
from aligndraw.training.skipthoughts import (
    SkipThoughtsConfig,
    SkipThoughtsModel,
    SkipThoughtsRecipe,
    SkipThoughtsRun,
    SkipThoughtsTrainer,
    Triples,
)

TINY = AlignDRAWConfig(steps=2, encoder_units=6, decoder_units=5, latent_units=3, language_units=4, align_units=4)
WORDS = Vocabulary(("a", "."))


def model(folder):
    save_model(AlignDRAW(TINY), VOCABULARY, folder, notes={"seed": 1, "data": {"name": "mnist"}})
    return folder / "config.json", lambda: load_model(folder)


def lapgan(folder):
    config = LAPGANConfig(sentence_units=6, hidden_channels=2, generator_units=2, discriminator_units=2)
    LAPGAN(config, WORDS, LanguageModel(2, 3)).save(folder)
    return folder / "lapgan.json", lambda: LAPGAN.load(folder)


def sharpener(folder):
    Sharpener(SharpenerConfig(sentence_units=3, hidden_channels=2)).save(folder)
    return folder / "sharpener.json", lambda: Sharpener.load(folder)


def features(folder):
    FeatureNetwork(FeaturesConfig(hidden_channels=2)).save(folder)
    return folder / "features.json", lambda: FeatureNetwork.load(folder)


def run(folder):
    Run.create(folder, TINY, TrainingConfig(), 0, data={"name": "mnist", "path": None, "sha256": ""})
    return folder / "run.json", lambda: Run.open(folder)


def settings(folder):
    kept = {"text": "t.txt", "word_vectors": None, "seed": 0}
    SkipThoughtsRun.create(folder, SkipThoughtsConfig(), SkipThoughtsRecipe(), 0, settings=kept)
    kinds = {"text": (str,), "word_vectors": (str, type(None)), "seed": (int,)}
    return folder / "run.json", lambda: SkipThoughtsRun.open(folder).settings(kinds)


def trainer():
    torch.manual_seed(0)
    data = Triples.of(["a", "b", "a"], 4, 3)
    config = SkipThoughtsConfig(words=4, word_units=2, units=2)
    return SkipThoughtsTrainer(SkipThoughtsModel(config, len(data.words)), data, SkipThoughtsRecipe())


def checkpoint(folder):
    save_checkpoint(trainer(), folder / "c")
    return folder / "c" / "manifest.json", lambda: load_checkpoint(trainer(), folder / "c")


def captioned(folder):
    with CaptionedWriter(folder / "d", (1, 2, 2), plan={"kind": "none"}) as writer:
        writer.store("train", ["a"], np.zeros((1, 1, 2, 2), np.uint8))
        writer.finish({"train": [("a", "a cat .")]})
    return folder / "d" / "manifest.json", lambda: CaptionedImages.open(folder / "d").split("train")


def tokenizer(folder):
    write_tokenizer(WORDS, folder / "tokenizer.json")
    return folder / "tokenizer.json", lambda: read_tokenizer(folder / "tokenizer.json")


MADE = [model, lapgan, sharpener, features, run, settings, checkpoint, captioned, tokenizer]


@pytest.mark.parametrize("made", MADE, ids=lambda made: made.__name__)
def test_every_fault(made, tmp_path):
    (tmp_path / "f").mkdir()
    path, load = made(tmp_path / "f")
    load()
    refused = 0
    for fault in faults(path):
        try:
            load()
        except ValueError as error:
            assert str(path.parent) in str(error) and "\n" not in str(error) and len(str(error)) < 600, (fault, error)
            refused += 1
        except Exception as error:
            pytest.fail(f"{fault}: {type(error).__name__}: {error}")
    assert refused > 20
    load()


def test_a_damaged_line_of_metrics_blocks_no_resume(tmp_path):
    """It is named, and its numbers are lost; those of all other lines are kept."""
    kept = Run.create(tmp_path, TINY, TrainingConfig(), 0)
    for update in range(1, 4):
        kept.log(update=update, loss=0.5)
    path = tmp_path / "metrics.jsonl"
    good = path.read_text().splitlines()
    bad = ["{", "\0" * 50, "[1]", "7", "{}", "[" * 99_999]
    bad += ['{"update": "x"}', '{"update": 2.5}', '{"update": 1, "loss": NaN}', '{"update": 1, "loss": []}']
    lines = [good[0], *bad, *good[1:], '{"update": 4, "lo']
    path.write_text("\n".join(lines), errors="surrogateescape")
    assert [m["update"] for m in kept.metrics()] == [1, 2, 3]
    start = trainer()
    start.index = 3
    save_checkpoint(start, tmp_path / "checkpoints" / "update-00000003")
    told = kept.restore(trainer())
    assert [line.partition(" is damaged")[0] for line in told] == [f"{path}, line {2 + i}" for i in range(len(bad))]
    assert all("\n" not in line and len(line) < 300 for line in told)
    assert [json.loads(line) for line in path.read_text().splitlines()] == [json.loads(line) for line in good]
    path.write_bytes(b"\xff\n" + path.read_bytes())
    assert len(kept.restore(trainer())) == 1 and len(kept.metrics()) == 3
