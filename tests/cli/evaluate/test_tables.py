"""aligndraw tables: the numbers of the evaluation, in whatever parts and by however many processes they are taken."""

import hashlib
import json
import math
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from file_faults import FileFaults, Killed, tree

from aligndraw import AlignDRAW
from aligndraw.cli.evaluate import tables
from aligndraw.data import Scenes, evaluation_scenes
from aligndraw.data.stored_scenes import store_scenes
from aligndraw.evaluation.attributes import score_attributes
from aligndraw.evaluation.bound import estimate_bound
from aligndraw.evaluation.features import FeatureNetwork, FeaturesConfig
from aligndraw.evaluation.parts import Parts
from aligndraw.evaluation.retrieval import Likelihoods, Reference, encode_examples, mean_caption, retrieve, shortlists
from aligndraw.evaluation.similarity import score_similarity
from aligndraw.evaluation.tables import ModelParts
from aligndraw.files import load_tensors, sweep
from aligndraw.lapgan.config import LAPGANConfig
from aligndraw.model.lapgan import LAPGAN
from aligndraw.model.saved import load_model, save_model
from aligndraw.pipelines import Pipeline
from aligndraw.text import UNKNOWN, Vocabulary

SMALL = ("--images", 7, "--marginal", 5, "--drawn", 3, "--samples", 2, "--pictures", 2, "--seed", 1)


@pytest.fixture(autouse=True)
def few_captions(monkeypatch):
    monkeypatch.setattr("aligndraw.evaluation.tables.MEAN_CAPTION_SCENES", 30)


@pytest.fixture
def compare(command, tmp_path):
    """Makes the tables of models in the folder `out`; returns what is in the JSON file."""

    def run(*models, data="scenes", out=tmp_path / "out", options=SMALL):
        status, _, err = command("tables", "--data", data, "--model", *models, "-o", out, *options)
        assert (status, err) == (0, "")
        return json.loads((out / "tables.json").read_text())

    return run


@pytest.mark.parametrize("block", [3, 100])
def test_the_numbers(compare, scenes, scenes_sharpener, tmp_path, monkeypatch, block):
    """Those of the evaluation's own functions, in one part or in several."""
    monkeypatch.setattr("aligndraw.evaluation.tables.BLOCK", block)
    folder = scenes_sharpener(tmp_path / "sharpener", scenes)
    got = compare(f"tiny={scenes}", options=(*SMALL, "--sharpen", folder, "--sharpen-epsilon", 0.01))["models"]["tiny"]
    pipeline = Pipeline.from_pretrained(scenes).with_sharpener(folder)
    model, kinds = pipeline.model, evaluation_scenes("test", 1, 7)
    examples = {name: Scenes(name).epoch(1, size=7) for name in ("train", "validation")} | {"test": kinds["seen"]}
    for split, part in examples.items():
        bound = estimate_bound(model, part, 2, 1).bound
        assert got["bound"][split] == pytest.approx({"mean": -bound.mean, "error": bound.error}, rel=1e-5)
    sharpened = estimate_bound(model, kinds["seen"], 2, 1, sharpen=pipeline.sharpen, epsilon=0.01).bound
    assert got["bound_sharpened"] == pytest.approx({"mean": -sharpened.mean, "error": sharpened.error}, rel=1e-5)
    assert abs(sharpened.mean - estimate_bound(model, kinds["seen"], 2, 1).bound.mean) > 10
    images, words, lengths = kinds["seen"].batch(slice(None))
    lists = shortlists(images.reshape(7, -1), 7)
    references = [
        Reference(mean_caption(model, Scenes().epoch(1, size=30))),
        Reference(encode_examples(model, Scenes().epoch(1, size=5))),
    ]
    likelihoods = Likelihoods(model, images, samples=2, seed=1)
    found = retrieve(likelihoods, references, torch.from_numpy(words), torch.from_numpy(lengths), lists=lists)
    assert [got["retrieval"], got["retrieval_marginal"]] == [each.to_dict() for each in found]
    assert all(len(set(each.ranks.tolist())) > 1 for each in found)
    similarity = score_similarity(model, kinds["seen"], 3, 1)
    assert got["similarity"].pop("error") > 0
    assert got["similarity"] == pytest.approx(similarity.to_dict(), rel=1e-5)
    accuracy = score_attributes(model, pipeline.vocabulary, kinds, 2, 1)
    assert got["attributes"] == {kind: score.to_dict() for kind, score in accuracy.items()}


def test_the_error_of_the_similarity(compare, scenes, tmp_path):
    """From the means of the captions: pictures of one caption are not independent."""
    got = compare(f"tiny={scenes}")["models"]["tiny"]["similarity"]
    values = load_tensors(next((tmp_path / "out" / "parts").glob("*/similarity-000000.safetensors")))[0][
        "values"
    ].numpy()
    assert values.shape == (7, 3)
    assert got["error"] == pytest.approx(values.mean(1).std(ddof=1) / 7**0.5)
    assert (got["mean"], got["spread"]) == (pytest.approx(values.mean()), pytest.approx(values.std()))


def test_the_text(compare, command, scenes, scenes_model, tmp_path):
    other = scenes_model(tmp_path / "other", seed=1, align=False)
    record = compare(f"first={scenes}", f"second={other}")
    text = (tmp_path / "out" / "tables.md").read_text()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| ")]
    assert [row[0] for row in rows if row[0] not in ("model", "---")] == (
        2 * ["first", "second", "*chance*"] + ["first", "second"] + ["first", "second", "*real pictures*"]
    )
    one, marginal, two, three = (rows[i] for i, row in enumerate(rows) if row[0] == "second")
    found = record["models"]["second"]
    share = found["retrieval"]["R@5"]
    assert one[2] == f"{100 * share['mean']:.1f} ± {100 * share['error']:.1f}"
    assert one[5] == str(found["retrieval"]["median_rank"])
    share = found["retrieval_marginal"]["R@1"]
    assert marginal[1] == f"{100 * share['mean']:.1f} ± {100 * share['error']:.1f}" and len(marginal) == 6
    assert two[3] == f"{found['bound']['test']['mean']:.2f} ± {found['bound']['test']['error']:.2f}"
    assert len(two) == 4  # nothing was sharpened
    share = found["attributes"]["held_out"]["shares"]["right"]
    assert three[2] == f"{100 * share['mean']:.1f} ± {100 * share['error']:.1f}"
    assert f"```sh\n{record['command']}\n```" in text and "--samples 2" in record["command"]


def test_going_on(compare, command, scenes, scenes_model, tmp_path, monkeypatch):
    """Interrupted, what is done is not done again, and the tables are the same to the byte; so with one more model."""
    monkeypatch.setattr("aligndraw.evaluation.tables.BLOCK", 3)
    wanted = compare(f"a={scenes}")
    text = {name: (tmp_path / "out" / name).read_bytes() for name in ("tables.json", "tables.md")}
    done, likelihoods = [], ModelParts._likelihoods
    do = Parts.do
    monkeypatch.setattr(Parts, "do", lambda self, part: (done.append(part.name), do(self, part)))
    (tmp_path / "out").rename(tmp_path / "whole")

    def interrupted(self, *arguments):
        if arguments[-1].start > 0:
            raise KeyboardInterrupt
        return likelihoods(self, *arguments)

    monkeypatch.setattr(ModelParts, "_likelihoods", interrupted)
    status, _, err = command("tables", "--data", "scenes", "--model", f"a={scenes}", "-o", tmp_path / "out", *SMALL)
    assert status == 130 and not (tmp_path / "out" / "tables.md").exists()
    assert "finished parts are kept: the same command resumes with them" in err
    assert len(done) == 11  # three parts of each split's bound, one of the likelihoods, and the one it broke off
    monkeypatch.setattr(ModelParts, "_likelihoods", likelihoods)
    done.clear()
    assert compare(f"a={scenes}") == wanted
    assert {name: (tmp_path / "out" / name).read_bytes() for name in text} == text
    assert len(done) == 2 + 2 * 3 + 3 + 2 * 3 and len(set(done)) == len(done)
    done.clear()
    other = scenes_model(tmp_path / "other", seed=1)
    both = compare(f"renamed={scenes}", f"b={other}")
    assert both["models"]["renamed"] == wanted["models"]["a"]
    assert len(done) == 27 and len({name.split("/")[0] for name in done}) == 1


def test_two_processes(command, scenes, tmp_path, monkeypatch):
    """They share the parts, and the tables are those of one process to the byte."""
    monkeypatch.setattr("aligndraw.evaluation.tables.MEAN_CAPTION_SCENES", 20_000)  # as in the processes
    options = ["tables", "--data", "scenes", "--model", f"a={scenes}", "-o", "out", *map(str, SMALL)]
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "one")
    assert command(*options)[0] == 0
    start = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "-m", "aligndraw"]
    ran = subprocess.run([*start, *options], cwd=tmp_path / "two", capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("# Tables") == 1  # the first alone speaks
    for name in ("tables.json", "tables.md"):
        assert (tmp_path / "one" / "out" / name).read_bytes() == (tmp_path / "two" / "out" / name).read_bytes()


def test_captioned_images(compare, command, tmp_path):
    """Several captions of an image look for one and the same; what is not known of its pictures is left out."""
    data = store_scenes(tmp_path / "data", images=30, captions=5)
    tiny = "--steps 2 --encoder-units 6 --decoder-units 5 --latent-units 3 --language-units 4 --align-units 4".split()
    recipe = "--epochs 1 --epoch-size 8 --batch-size 4 --validation-size 3".split()
    status, _, err = command(
        "train", "captioned", "--data", tmp_path / "data", "--out", tmp_path / "model", *tiny, *recipe
    )
    assert status == 0, err
    lists = np.array([[1, 0], [1, 2], [0, 2]])
    np.save(tmp_path / "lists.npy", lists)
    options = ("--images", 12, "--drawn", 2, "--shortlists", tmp_path / "lists.npy")
    got = compare(f"m={tmp_path / 'model'}", data=tmp_path / "data", options=options)
    test = data.split("test").epoch(0, size=12)  # of 15 captions of 3 images
    _, words, lengths = test.batch(slice(None))
    model = Pipeline.from_pretrained(tmp_path / "model").model
    train = data.split("train")
    references = [Reference(mean_caption(model, train)), Reference(encode_examples(model, train.epoch(0, size=64)))]
    captions = torch.from_numpy(words), torch.from_numpy(lengths)
    found = retrieve(Likelihoods(model, test.images), references, *captions, test.image_index, lists)
    row = got["models"]["m"]
    assert [row["retrieval"], row["retrieval_marginal"]] == [each.to_dict() for each in found]
    assert all(len(set(each.ranks.tolist())) == 2 for each in found)
    assert got["models"]["m"]["attributes"] == {} and got["plan"]["sha256"] == data.checksum
    assert "## Attributes" not in (tmp_path / "out" / "tables.md").read_text()


def test_models_of_other_vocabularies(compare, scenes_model, tmp_path):
    """A model with more words, as after --init-from, in another order, has the same numbers: it reads the captions."""
    words = Scenes.vocabulary.words
    more = Vocabulary((UNKNOWN, "zebra", *reversed(words)))
    plain = load_model(scenes_model(tmp_path / "plain"))[0]
    model = AlignDRAW(plain.config.replace(vocabulary_size=len(more)))
    state = plain.state_dict()
    ids = [more.index(word) for word in words]
    for name, values in state.items():
        if name.endswith(".words"):
            state[name] = torch.randn(len(more), values.shape[1])
            state[name][ids] = values
    model.load_state_dict(state)
    save_model(model, more, tmp_path / "more")
    got = compare(f"plain={tmp_path / 'plain'}", f"more={tmp_path / 'more'}")["models"]
    for row in ("retrieval", "similarity", "bound", "attributes"):
        assert got["more"][row] == got["plain"][row]


@pytest.mark.parametrize("unknown", [(), (UNKNOWN,)])
def test_models_that_lack_words(command, scenes_model, tmp_path, unknown):
    """One line that names them: an error, or, where [UNK] stands for them, a warning."""
    lacking = evaluation_scenes("test", 0, 2)["seen"].captions()[0].split()[:2]
    fewer = Vocabulary((*unknown, *(word for word in Scenes.vocabulary.words if word not in lacking)))
    config = load_model(scenes_model(tmp_path / "m"))[0].config
    save_model(AlignDRAW(config.replace(vocabulary_size=len(fewer))), fewer, tmp_path / "fewer")
    options = ("--images", 2, "--marginal", 2, "--drawn", 1, "-o", tmp_path / "out")
    status, _, err = command("tables", "--data", "scenes", "--model", tmp_path / "fewer", *options)
    assert err.count("\n") == 1 and "2 words, such as " in err and all(map(err.__contains__, map(repr, lacking)))
    assert ("as [UNK] of scenes" in err, status) == ((True, 0) if unknown else (False, 1))
    assert unknown or "model fewer must know the words of scenes, but lacks 2 words" in err


def test_lists_by_features(compare, scenes, tmp_path):
    torch.manual_seed(0)
    network = FeatureNetwork(FeaturesConfig(hidden_channels=2))
    network.save(tmp_path / "features")
    got = compare(f"a={scenes}", options=("--images", 110, "--drawn", 1, "--features", tmp_path / "features"))
    images = evaluation_scenes("test", 0, 110)["seen"].pictures(slice(None))
    lists = shortlists(network.features(images))
    assert lists.shape == (110, 100)
    assert got["plan"]["shortlists_sha256"] == hashlib.sha256(lists.tobytes()).hexdigest()
    assert f"a shortlist of 100 (nearest by {tmp_path / 'features'})" in (tmp_path / "out" / "tables.md").read_text()


def rows_of(path):
    """The cells of each row by the model's name, of each table."""
    found = {}
    for line in path.read_text().splitlines():
        if line.startswith("| "):
            name, *cells = (cell.strip() for cell in line.split("|")[1:-1])
            found.setdefault(name, []).append(cells)
    return found


def test_a_lapgan_has_no_bound(compare, command, scenes, tmp_path):
    network = Pipeline.from_pretrained(scenes).model
    config = LAPGANConfig(
        image_size=(32, 32), channels=3, sentence_units=2 * network.config.language_units,
        hidden_channels=2, noise_units=3, generator_units=8, discriminator_units=7,
    )  # fmt: skip
    LAPGAN(config, Scenes.vocabulary, network.language).save(tmp_path / "lapgan")
    got = compare(f"a={scenes}", options=(*SMALL, "--lapgan", tmp_path / "lapgan"))["models"]
    assert list(got) == ["LAPGAN", "a"]
    assert got["LAPGAN"]["retrieval"] is None and got["LAPGAN"]["bound"] == {}
    pipeline = Pipeline.from_pretrained(tmp_path / "lapgan")
    similarity = score_similarity(pipeline.model, evaluation_scenes("test", 1, 7)["seen"], 3, 1)
    assert got["LAPGAN"]["similarity"]["mean"] == pytest.approx(similarity.mean, rel=1e-5)
    one, two = rows_of(tmp_path / "out" / "tables.md")["LAPGAN"]  # not in Table 3
    assert one[:5] == ["–"] * 5 and one[5] == str(similarity)
    status, _, err = command("tables", "--data", "scenes", "--model", f"a={scenes}", "--lapgan", scenes)
    assert status == 1 and "--lapgan must be the folder of a LAPGAN, got a alignDRAW" in err


def test_gaussian_pixels_are_told_apart(compare, scenes_model, tmp_path):
    model = scenes_model(tmp_path / "gaussian", likelihood="gaussian", observation_variance=0.5)
    got = compare(f"vae={model}")["models"]["vae"]
    assert got["gaussian_constant"] == pytest.approx(-1536 * math.log(math.pi))
    text = (tmp_path / "out" / "tables.md").read_text()
    assert "| vae\\* |" in text and f"Constant are {got['gaussian_constant']:.2f} of vae." in text


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["--data", "none"], 1, "there are no captioned images in none"),
        (["--data", "scenes", "--model", "a=none"], 1, "there is no model in none"),
        (["--data", "scenes", "--model", "a=scenes", "a=scenes"], 2, "--model must have different names"),
        (["--data", "scenes", "--sharpen-epsilon", "0.5"], 2, "--sharpen-epsilon: must be above 0 and below 0.5"),
        (
            ["--data", "scenes", "--model", "a=model"],
            1,
            "model a must be of pictures [3, 32, 32] for scenes, got [1, 60",
        ),
        (["--data", "scenes", "--shortlists", "lists.npy"], 1, "lists.npy must be whole numbers [n, s]"),
        (["--data", "scenes", "--images", "1"], 2, "must be a whole number of at least 2"),
    ],
)
def test_refused(command, scenes, model, listing, tmp_path, monkeypatch, options, status, message):
    monkeypatch.chdir(tmp_path)
    np.save("lists.npy", np.zeros((3, 3), np.int64))
    before = listing()
    models = [] if "--model" in options else ["--model", "a=scenes"]
    got, _, err = command("tables", *models, *options)
    (line,) = err.splitlines()
    assert got == status and message in line
    assert listing() == before


def test_other_tables_in_the_folder(compare, command, scenes, tmp_path):
    compare(f"a={scenes}")
    options = ("--data", "scenes", "--model", f"a={scenes}", "-o", tmp_path / "out", "--images", 7, "--drawn", 2)
    status, _, err = command("tables", *options)
    assert status == 1
    told = "marginal 5, now 64, samples 2, now 1, drawn 3, now 2, pictures 2, now 1, seed 1, now 0"
    assert f"holds parts of other tables ({told}" in err
    status, _, err = command("tables", *options, "--overwrite")
    assert (status, err) == (0, "")
    assert json.loads((tmp_path / "out" / "tables.json").read_text())["plan"]["drawn"] == 2
    plan = tmp_path / "out" / "parts" / "plan.json"
    plan.write_text("{")
    assert "plan.json is damaged" in command("tables", *options)[2]
    plan.unlink()
    assert "exists, and is not from `aligndraw tables`" in command("tables", *options, "--overwrite")[2]
    part = next((tmp_path / "out" / "parts").glob("*/similarity-*.safetensors"))
    assert part.is_file()


def test_a_damaged_part(compare, command, scenes, tmp_path):
    compare(f"a={scenes}")
    part = next((tmp_path / "out" / "parts").glob("*/similarity-*.safetensors"))
    part.write_bytes(part.read_bytes()[:-8])
    status, _, err = command("tables", "--data", "scenes", "--model", f"a={scenes}", "-o", tmp_path / "out", *SMALL)
    assert status == 1 and f"{part} is not the computed result: remove it, and start again" in err
    part.unlink()
    compare(f"a={scenes}")


@pytest.mark.skipif(sys.version_info < (3, 11), reason="pathlib keeps functions of its own")
@pytest.mark.parametrize("overwrite", [False, True])
def test_killed_at_every_file_operation_of_the_beginning(tmp_path, monkeypatch, overwrite):
    """The folder is that of the old tables or of the new ones, so that the same command can go on."""
    faults, place = FileFaults(monkeypatch), tmp_path / "parts"

    def old():
        if place.exists():
            shutil.rmtree(place)
        if overwrite:
            tables._begin(place, {"images": 1}, False)
            (place / "key").mkdir()
            (place / "key" / "part.safetensors").write_bytes(b"1")

    old()
    with faults.counted():
        tables._begin(place, {"images": 2}, overwrite)
    for k in range(len(faults.operations)):
        old()
        with faults.killed_at(k), pytest.raises(Killed):
            tables._begin(place, {"images": 2}, overwrite)
        tables._begin(place, {"images": 2}, overwrite)
        sweep(tmp_path)
        assert tree(tmp_path).keys() == {"parts", f"parts/{tables.PLAN}"}, faults.operations[k]
