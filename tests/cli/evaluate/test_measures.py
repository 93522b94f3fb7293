"""aligndraw eval retrieval and similarity, and aligndraw train features: the page shows what the library computes."""

import json
import signal

import numpy as np
import pytest
import torch
from PIL import Image

from aligndraw.data import CaptionedImages, Scenes, evaluation_scenes
from aligndraw.data.scene_captions import VOCABULARY
from aligndraw.data.stored_scenes import store_scenes
from aligndraw.evaluation.features import FeatureNetwork
from aligndraw.evaluation.nearest import nearest_images
from aligndraw.evaluation.retrieval import Likelihoods, Reference, encode_examples, mean_caption, retrieve, shortlists
from aligndraw.evaluation.similarity import score_similarity
from aligndraw.lapgan.captioned import CaptionedSharpener
from aligndraw.model.saved import load_model
from aligndraw.noise import stream
from aligndraw.pipelines import Pipeline
from aligndraw.training.features import FeaturesTrainer

SHORT = "--epochs 1 --epoch-size 12 --batch-size 4 --validation-size 2 --latent-units 3"
FEATURES = "--hidden-channels 2 --epochs 2 --epoch-size 30 --batch-size 10".split()


@pytest.fixture
def stored(tmp_path):
    store_scenes(tmp_path / "data", 20, captions=2)
    return tmp_path / "data"


@pytest.fixture
def drawing(command, tmp_path):
    """The folder of a model of scenes that attends to words."""
    sizes = "--steps 2 --encoder-units 6 --decoder-units 5 --language-units 4 --align-units 4".split()
    assert command("train", "scenes", *SHORT.split(), *sizes, "--out", tmp_path / "drawing")[0] == 0
    return tmp_path / "drawing"


def references_of(model, training, some):
    return [Reference(mean_caption(model, training)), Reference(encode_examples(model, some))]


def test_retrieval_of_scenes(command, drawing, tmp_path, monkeypatch):
    """Seen and held-out ones apart, by pixels; some captions, and few pictures to choose from."""
    monkeypatch.setattr("aligndraw.cli.evaluate.measures.TRAINING_COUNT", 40)
    path = tmp_path / "out.json"
    given = ("--model", drawing, "--images", 9, "--captions", 4, "--shortlist", 5, "--samples", 2, "--seed", 3)
    given = (*given, "--marginal", 5)
    status, out, err = command("eval", "retrieval", *given, "--json", path)
    assert (status, err) == (0, "") and "candidates are nearest by pixels" in out
    model = load_model(drawing)[0]
    references = references_of(model, Scenes().epoch(3, size=40), Scenes().epoch(3, size=5))
    record = json.loads(path.read_text())
    for kind, examples in evaluation_scenes("test", 3, 9).items():
        images, words, lengths = examples.batch(slice(None))
        lists = shortlists(images.reshape(9, -1), 5)
        rows = np.sort(np.random.default_rng(3).permutation(9)[:4])
        likelihoods = Likelihoods(model, images, samples=2, seed=3)
        captions = torch.from_numpy(words[rows]), torch.from_numpy(lengths[rows])
        mean, marginal = retrieve(likelihoods, references, *captions, rows, lists)
        assert record["retrieval"][kind] == {"mean": mean.to_dict(), "marginal": marginal.to_dict()}
        assert f"log p(x | mean caption): {mean}" in out and f"log p(x), of 5 captions: {marginal}" in out
        assert mean.candidates == marginal.candidates == 5


def test_after_sharpening(command, drawing, scenes_sharpener, tmp_path, monkeypatch):
    """Both measures of the sharpened pictures; in retrieval, ȳ is sharpened with the mean training sentence."""
    monkeypatch.setattr("aligndraw.cli.evaluate.measures.TRAINING_COUNT", 40)
    model, path = load_model(drawing)[0], tmp_path / "out.json"
    sharpen = CaptionedSharpener.load(scenes_sharpener(tmp_path / "sharpener", drawing), model.language, VOCABULARY)
    given = ("--model", drawing, "--sharpen", tmp_path / "sharpener", "--seed", 3, "--json", path)
    options = ("--images", 6, "--captions", 4, "--shortlist", 5, "--marginal", 3, "--sharpen-epsilon", "1e-2")
    status, out, err = command("eval", "retrieval", *given, *options)
    assert (status, err) == (0, "") and "clipped to [0.01, 1 - 0.01]" in out
    training, some = Scenes().epoch(3, size=40), Scenes().epoch(3, size=3)
    usual = sharpen.sentences(training.captions()).mean(0, keepdim=True), sharpen.sentences(some.captions())
    references = [
        reference._replace(sentences=each) for reference, each in zip(references_of(model, training, some), usual)
    ]
    record, sets = json.loads(path.read_text()), evaluation_scenes("test", 3, 6)
    for kind, examples in sets.items():
        images, words, lengths = examples.batch(slice(None))
        rows = np.sort(np.random.default_rng(3).permutation(6)[:4])
        sentences = sharpen.sentences([examples.captions()[row] for row in rows])
        likelihoods = Likelihoods(model, images, seed=3, sharpen=sharpen.network, epsilon=1e-2)
        captions = torch.from_numpy(words[rows]), torch.from_numpy(lengths[rows])
        found = retrieve(likelihoods, references, *captions, rows, shortlists(images.reshape(6, -1), 5), sentences)
        assert list(record["retrieval"][kind].values()) == [each.to_dict() for each in found]
    assert (record["epsilon"], record["sharpen"]) == (1e-2, str(tmp_path / "sharpener"))
    assert command("eval", "similarity", *given, "--captions", 6, "-n", 2)[0] == 0
    record = json.loads(path.read_text())
    for kind, examples in sets.items():
        wanted = score_similarity(model, examples, 2, 3, sharpen=sharpen).to_dict()
        assert record["similarity"][kind]["similarity"] == wanted != score_similarity(model, examples, 2, 3).to_dict()


def test_retrieval_of_images_with_several_captions(command, stored, tmp_path):
    """Every caption looks for its image, in shortlists of a file; by a model that reads vectors."""
    data = CaptionedImages.open(stored)
    captions = sorted({text for split in data.sizes for text in data.split(split).captions()})
    vectors = np.random.default_rng(0).standard_normal((len(captions), 4)).astype(np.float32)
    np.savez(tmp_path / "v.npz", captions=captions, vectors=vectors)
    given = ("--data", stored, "--model", "fc-vae", "--hidden-units", 5, "--sentences", f"vectors:{tmp_path / 'v.npz'}")
    assert command("train", "captioned", *SHORT.split(), *given, "--out", tmp_path / "run")[0] == 0
    split = data.split("train")
    lists = np.array([[i, (i + 1) % 20, (i + 7) % 20] for i in range(20)])
    np.save(tmp_path / "lists.npy", lists)
    given = ("--model", tmp_path / "run", "--data", stored, "--split", "train", "--shortlists", tmp_path / "lists.npy")
    status, out, err = command("eval", "retrieval", *given, "--json", tmp_path / "out.json")
    assert (status, err) == (0, "") and f"candidates are as {tmp_path / 'lists.npy'} has them" in out
    pipeline = Pipeline.from_pretrained(tmp_path / "run")
    read, lengths = pipeline.reader.encode_batch(split.captions())
    training = pipeline.read(split.epoch(0, size=40))  # fewer than --marginal: all of them
    references = references_of(pipeline.model, training, training)
    likelihoods = Likelihoods(pipeline.model, split.images)
    mean, marginal = retrieve(likelihoods, references, read, lengths, split.image_index, lists)
    record = json.loads((tmp_path / "out.json").read_text())["retrieval"]["train"]
    assert record == {"mean": mean.to_dict(), "marginal": marginal.to_dict()}
    assert len(mean.ranks) == 40


def test_similarity(command, drawing, tmp_path, monkeypatch):
    """SSIM, and the nearest training pictures, on a sheet too."""
    monkeypatch.setattr("aligndraw.cli.evaluate.measures.TRAINING_COUNT", 30)
    path, sheet = tmp_path / "out.json", tmp_path / "sheet.png"
    given = ("--model", drawing, "--captions", 3, "-n", 4, "--seed", 2)
    status, out, err = command("eval", "similarity", *given, "--json", path, "--sheet", sheet)
    assert (status, err) == (0, "")
    pipeline, record = Pipeline.from_pretrained(drawing), json.loads(path.read_text())["similarity"]
    training = Scenes().epoch(0, size=30).pictures(slice(None))
    for kind, examples in evaluation_scenes("test", 2, 3).items():
        score = score_similarity(pipeline.model, examples, 4, 2)
        assert record[kind]["similarity"] == score.to_dict() and f"SSI {score}; " in out
        read = VOCABULARY.encode_batch(examples.captions())
        drawn = pipeline.model.sample(*read, generator=[stream(2, i) for i in range(3)]).images.numpy()
        for what, pictures in (("drawn", np.rint(255 * drawn).astype(np.uint8)), ("true", examples.batch(slice(3))[0])):
            away = nearest_images(pictures, training)[1].mean()
            assert record[kind]["nearest"][what] == pytest.approx(away) and f"{away:.2f}" in out
    with Image.open(sheet) as image:
        assert image.width > 4 * 32 and np.asarray(image).std() > 10


def test_a_picture_of_training_is_found(command, stored, tmp_path, monkeypatch):
    """A model whose pictures are those of training is 0 away from them."""
    given = ("--model", "fc-vae", "--hidden-units", 5, "--language-units", 3, "--data", stored)
    assert command("train", "captioned", *SHORT.split(), *given, "--out", tmp_path / "run")[0] == 0
    model = type(load_model(tmp_path / "run")[0])
    known = torch.from_numpy(np.array(CaptionedImages.open(stored).split("train").images)).float() / 255
    sample = model.sample

    def copying(self, words, lengths, **options):
        drawing = sample(self, words, lengths, **options)
        drawing.images = known[torch.arange(len(words)) % len(known)]
        return drawing

    monkeypatch.setattr(model, "sample", copying)
    given = ("--model", tmp_path / "run", "--data", stored, "--captions", 2, "-n", 1, "--json", tmp_path / "out.json")
    assert command("eval", "similarity", *given)[0] == 0
    found = json.loads((tmp_path / "out.json").read_text())["similarity"]["test"]["nearest"]
    assert found["drawn"] == 0 and found["true"] > 0 and found["pictures"] == 2


def test_features(command, drawing, tmp_path, monkeypatch):
    """They train, stop and go on to the same bits, and shortlists are made of them."""
    monkeypatch.setattr("aligndraw.cli.evaluate.measures.TRAINING_COUNT", 10)
    status, out, err = command("train", "features", *FEATURES, "--out", tmp_path / "whole")
    assert (status, err) == (0, "") and "on 16 classes of scenes: 6 updates; cpu" in out
    assert " % of 1,000 test images classified right" in out
    done = []

    def stopping(self, *arguments, **options):
        done.append(1)
        if len(done) == 4:
            signal.raise_signal(signal.SIGINT)
        return update(self, *arguments, **options)

    update = FeaturesTrainer.update
    with monkeypatch.context() as patch:
        patch.setattr(FeaturesTrainer, "update", stopping)
        status, _, err = command("train", "features", *FEATURES, "--out", tmp_path / "parts")
    assert status == 130 and f"aligndraw train features --out {tmp_path / 'parts'} --resume" in err
    assert command("train", "features", "--out", tmp_path / "parts", "--resume")[0] == 0
    for file in ("features.safetensors", "features.json", "metrics.jsonl"):
        assert (tmp_path / "parts" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()

    path = tmp_path / "out.json"
    given = ("--model", drawing, "--images", 8, "--shortlist", 3, "--features", tmp_path / "whole", "--json", path)
    status, out, err = command("eval", "retrieval", *given)
    assert (status, err) == (0, "")
    assert f"nearest by the last fully connected layer of {tmp_path / 'whole'}" in out
    model, network = load_model(drawing)[0], FeatureNetwork.load(tmp_path / "whole")
    reference = Reference(mean_caption(model, Scenes().epoch(0, size=10)))
    images, words, lengths = evaluation_scenes("test", 0, 8)["seen"].batch(slice(None))
    lists = shortlists(network.features(images), 3)
    assert not np.array_equal(lists, shortlists(images.reshape(8, -1), 3))
    captions = torch.from_numpy(words), torch.from_numpy(lengths)
    (found,) = retrieve(Likelihoods(model, images), [reference], *captions, None, lists)
    assert json.loads(path.read_text())["retrieval"]["seen"]["mean"] == found.to_dict()


def test_refused(command, drawing, stored, tmp_path):
    np.save(tmp_path / "lists.npy", np.zeros((3, 2), np.int64))
    assert command("train", "features", *FEATURES, "--out", tmp_path / "run")[0] == 0
    retrieval = ("eval", "retrieval", "--model", drawing)
    for arguments, status, message in (
        ((*retrieval, "--shortlists", tmp_path / "lists.npy", "--images", 4), 1, "a row for each of 4 images"),
        ((*retrieval, "--features", tmp_path / "none"), 1, "there is no feature network in"),
        ((*retrieval, "--split", "train"), 2, "--split must be one of test, validation for scenes, got train"),
        ((*retrieval, "--data", stored, "--split", "dev"), 1, "split must be one of 'train', "),
        ((*retrieval, "--features", "a", "--shortlists", "b"), 2, "not allowed with"),
        (("eval", "similarity", "--model", tmp_path / "none"), 1, "there is no model in"),
        (("eval", "similarity", "--model", drawing, "--sheet", tmp_path / "no" / "s.png"), 1, "cannot write"),
        (("train", "features", "--data", stored, "--out", tmp_path / "new"), 1, "must hold CIFAR-10's files"),
        (("train", "features", "--out", tmp_path / "run"), 1, "holds run.json already"),
        (
            ("train", "features", "--out", tmp_path / "run", "--resume", "--hidden-channels", 3),
            2,
            "leave out --hidden-channels",
        ),
        (("train", "features", "--out", tmp_path / "run", "--resume", "--seed", 3), 2, "leave out --seed"),
        (("train", "features", "--batch-size", 1, "--out", tmp_path / "new"), 2, "batch_size must be from 2"),
        (("train", "features", "--out", tmp_path / "none", "--resume"), 1, "there is no run in"),
    ):
        got, out, err = command(*arguments)
        assert (got, out) == (status, "") and message in err, (arguments, err)
        assert len(err.splitlines()) == 1
    assert not (tmp_path / "new").exists()
