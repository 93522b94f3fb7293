"""The scene reader that ships, on scenes that it was not trained on; its training; and the score of pictures."""

import math

import numpy as np
import pytest
import torch

from aligndraw.data import Scene, SceneExamples, evaluation_scenes, to_tensors
from aligndraw.data.scene import ATTRIBUTES, is_held_out
from aligndraw.data.scene_captions import VOCABULARY, caption, named_attributes
from aligndraw.data.scenes import new_to_objects
from aligndraw.evaluation.attributes import GROUPS, AttributeAccuracy, score_attributes, score_scene_reader
from aligndraw.evaluation.fidelity import Share
from aligndraw.evaluation.scene_reader import UNSURE, SceneReader
from aligndraw.noise import stream
from aligndraw.training import scene_reader

BUS = Scene("bus", "red", "blue", "road", "large", "left", False)
KITE = Scene("kite", "pink", "night", "snow", "small", "right", True)


def attributes(*scenes):
    return torch.tensor([[v.index(x) for v, x in zip(ATTRIBUTES.values(), scene)] for scene in scenes])


def hits(shown, scenes, choices):
    examples = SceneExamples.of(scenes)
    examples.choices[:] = choices
    shares = AttributeAccuracy.of(attributes(*shown), examples).shares
    return {group: (share.hits, share.count) for group, share in shares.items()}


@pytest.mark.parametrize(
    ("group", "change"),
    [
        ("object", {"object": "car"}),
        ("colour", {"colour": "blue"}),
        ("place", {"ground": "sand"}),
        ("place", {"flying": True}),
    ],
)
def test_one_thing_wrong(group, change):
    got = hits([BUS._replace(**change), KITE], [BUS, KITE], 0)
    assert got["right"] == got[group] == (1, 2)
    assert all(got[other] == (2, 2) for other in {"object", "colour", "place"} - {group})


def test_what_is_new_to_the_object():
    """A house in blue, a cat in the air, and a bus both green and at sea; of the second the object is wrong."""
    house = Scene("house", "blue", "night", "snow", "small", "right", False)
    scenes = [
        house,
        BUS,
        Scene("cat", "red", "blue", "sea", "large", "left", True),
        BUS._replace(colour="green", ground="sea"),
    ]
    shown = [house, BUS, scenes[2]._replace(object="bird"), scenes[3]]
    examples = SceneExamples.of(scenes)
    accuracy = AttributeAccuracy.of(attributes(*shown), examples)
    assert accuracy.new == {"colour": Share(2, 2), "ground": Share(1, 1), "sky": Share(0, 1)}
    lines = str(accuracy).splitlines()
    assert lines[1].split()[:4] == ["object,", "colour", "and", "place"]
    assert lines[4].split() == ["flying", "for", "the", "first", "time", "0.0", "±", "0.0"]
    assert AttributeAccuracy.of(attributes(BUS), SceneExamples.of([BUS])).new == {}
    held_out = evaluation_scenes(size=300)["held_out"]
    new = new_to_objects(held_out.attributes)
    assert np.any(list(new.values()), 0).all() and (new["ground"] & new["sky"]).sum() == 0
    assert [is_held_out(scene._replace(colour="grey")) for scene in held_out.scenes()] == list(
        new["ground"] | new["sky"]
    )


def test_the_ground_below_is_no_place():
    assert hits([KITE._replace(ground="sea")], [KITE], 0)["place"] == (1, 1)
    assert hits([KITE._replace(flying=False)], [KITE], 0)["place"] == (0, 1)


def test_only_what_is_told_counts():
    """Template 0 tells size and sky, template 4 the side, and the last choices leave them out."""
    wrong = KITE._replace(sky="blue", size="large", side="left")
    assert [hits([wrong], [KITE], 0)[k] for k in ("right", "sky", "size", "side")] == [(1, 1), (0, 1), (0, 1), (0, 0)]
    side = (4, *[0] * 9)
    assert [hits([wrong], [KITE], side)[k] for k in ("sky", "size", "side")] == [(0, 0), (0, 0), (0, 1)]
    assert named_attributes((0,) * 7 + (1, 3, 3)) == {"object", "colour", "ground", "flying"}


def test_told_is_what_the_caption_says():
    """What is told changes the caption, what is not does not."""
    rng = np.random.default_rng(0)
    other = {"sky": "sunset", "size": "small", "side": "middle"}
    for choices in rng.integers(0, 5040, (200, 10)).tolist():
        for part, value in other.items():
            differs = caption(BUS, choices) != caption(BUS._replace(**{part: value}), choices)
            assert differs == (part in named_attributes(choices))


def test_real_pictures():
    """Others than those of the record are read as well as it says, and it is shown beside the score."""
    reader = SceneReader.load()
    for kind, got in score_scene_reader(reader, "test", n=500, seed=12).items():
        claimed = reader.record["accuracy"][kind]
        assert set(claimed) == set(GROUPS) == set(got.shares)
        assert claimed["right"]["mean"] > 0.97
        spread = math.sqrt(claimed["right"]["mean"] * (1 - claimed["right"]["mean"]) / 500)
        assert got.shares["right"].mean > claimed["right"]["mean"] - 4 * spread
        shown = AttributeAccuracy(got.shares, AttributeAccuracy.of(attributes(BUS), SceneExamples.of([BUS])).shares)
        assert f"{got.shares['right']!s:>12}{'100.0 ± 0.0':>22}" in str(shown)


def test_what_is_nothing_is_not_right():
    """Grey, noise, and the pictures of other captions."""
    reader = SceneReader.load()
    examples = evaluation_scenes(size=400)["seen"]
    pictures = torch.from_numpy(examples.pictures(slice(None))).float() / 255
    noise = torch.rand(pictures.shape, generator=torch.Generator().manual_seed(0))
    for wrong in (torch.full_like(pictures, 0.5), noise, pictures.mean(0).expand_as(pictures), pictures.roll(1, 0)):
        assert AttributeAccuracy.of(reader.read(wrong), examples).shares["right"].mean < 0.02


def test_undecided():
    """A value counts only if its probability exceeds 1/2."""
    reader = SceneReader()
    reader.forward = lambda images: torch.zeros(1, 40).index_fill(1, torch.tensor([16]), 3.0)
    assert reader.read(torch.zeros(1, 3, 32, 32)).tolist() == [[UNSURE, 0, *[UNSURE] * 5]]


def test_pictures_of_a_model(scene_model):
    """Each from a stream of its own, whatever the batches; real pictures as the reader's record has them."""
    model = scene_model
    examples = evaluation_scenes(size=3)
    seen = {"pictures": []}

    class Watching(SceneReader):
        def read(self, images):
            seen["pictures"].append(images)
            return attributes(*[BUS] * len(images))

    reader = Watching()
    reader.record = SceneReader.load().record
    got = score_attributes(model, VOCABULARY, examples, n=2, seed=4, reader=reader, batch_size=4)
    assert list(got) == ["seen", "held_out"]
    wanted = [
        model.sample(*to_tensors(part, slice(i, i + 1))[1:], generator=[stream(4, i + 3 * j)]).images
        for part in examples.values() for i in range(3) for j in range(2)
    ]  # fmt: skip
    torch.testing.assert_close(torch.cat(seen["pictures"]), torch.cat(wanted))
    assert got["seen"].shares["right"].count == 6
    assert got["seen"].accuracy["right"].to_dict() == reader.record["accuracy"]["seen"]["right"]
    with pytest.raises(ValueError, match="must be of scenes"):
        score_attributes(model.__class__(model.config.replace(channels=1)), VOCABULARY, examples, reader=reader)


def test_training(tmp_path, capsys, monkeypatch):
    """Pictures and attributes belong together, held-out ones among them; what is written can be read."""
    pictures, wanted = scene_reader.scene_batch(0, 10**6, 100)
    assert pictures.shape == (100, 3, 32, 32) and 0 <= pictures.min() and pictures.max() <= 1
    assert (SceneReader.load().read(pictures) == wanted).all(1).double().mean() > 0.85
    scenes = [Scene(*(v[i] for v, i in zip(ATTRIBUTES.values(), row))) for row in wanted.tolist()]
    assert sum(map(is_held_out, scenes)) == 25
    assert torch.equal(pictures, scene_reader.scene_batch(0, 10**6, 100)[0])
    monkeypatch.setattr(scene_reader, "EVALUATION_PICTURES", 20)
    scene_reader.main(["--updates", "3", "--out", str(tmp_path / "new" / "reader.safetensors")])
    record = SceneReader.load(tmp_path / "new" / "reader.safetensors").record
    assert record["command"].endswith("--updates 3 --seed 0")
    assert record["accuracy"]["held_out"]["right"]["count"] == 20
    assert "seen, object, colour and place: " in capsys.readouterr().out
