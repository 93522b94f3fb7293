"""Data sets by name."""

import numpy as np
import pytest
import torch

from aligndraw.data import (
    BANS,
    CaptionedWriter,
    DataError,
    Scenes,
    all_captions,
    open_data_set,
    recorded_data_set,
    to_tensors,
)
from aligndraw.data.scene import COLOURS, HELD_OUT
from aligndraw.data.scene_captions import VOCABULARY
from aligndraw.data.sets import NEVER_SEEN
from aligndraw.data.stored_scenes import store_scenes


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets") / "scenes"
    store_scenes(folder, 30, captions=3)
    return folder


@pytest.fixture(params=["mnist", "scenes", "captioned"])
def data(request, folder):
    return open_data_set(request.param, folder if request.param == "captioned" else None, validation_size=5)


def test_every_set_is_a_source(data):
    """A batch is what a model takes: pictures in [0, 1], ids of the vocabulary, lengths that tell words from zeros."""
    examples = data.source.epoch(0, 1, 40)
    assert len(examples) == 40
    images, ids, lengths = to_tensors(examples, slice(3, 10))
    assert images.shape == (7, *data.image_shape) and images.dtype == torch.float32
    assert 0 <= images.min() < images.max() <= 1
    assert ids.dtype == lengths.dtype == torch.int64
    assert lengths.max() == ids.shape[1] and ids.max() < len(data.source.vocabulary)
    assert not ids[torch.arange(ids.shape[1]) >= lengths[:, None]].any()
    for part in data.validation_sets.values():
        assert len(part) == 5 and part.batch(slice(0, 1))[0].shape == (1, *data.image_shape)


def test_what_is_shown_can_be_drawn(data):
    assert data.preview_captions and len(data.preview_captions) <= 12
    for caption, _ in data.preview_captions:
        assert data.source.vocabulary.encode(caption)


def test_a_record_finds_the_set_again(data):
    record = data.record
    again = recorded_data_set(record, 5)
    assert again.record == record and again.preview_captions == data.preview_captions


@pytest.mark.parametrize("name", BANS)
def test_bans_of_digits(name):
    """Training, scoring and the captions shown are those of the bans, and the record finds them again."""
    data = open_data_set("mnist", None, 50, name)
    again = recorded_data_set(data.record, 50)
    assert (
        again.record == data.record and data.record["bans"] == name and again.preview_captions == data.preview_captions
    )
    seen, held_out = (set(all_captions(p, bans=BANS[name])) for p in ("seen", "held_out"))
    assert set(data.source.epoch(0, size=500).captions()) <= seen
    assert (
        set(data.validation_sets["seen"].captions()) <= seen
        and set(data.validation_sets["held_out"].captions()) <= held_out
    )
    spelled = {text.removesuffix(" .") for text in all_captions("held_out", words=True, bans=BANS[name])}
    assert [remark for _, remark in data.preview_captions] == [
        NEVER_SEEN * (text in spelled) for text, _ in data.preview_captions
    ]
    assert sum(text in spelled for text, _ in data.preview_captions) >= 3


def test_a_record_from_before_there_were_bans_is_of_the_strict_ones():
    record = dict(open_data_set("mnist", None, 5).record)
    assert record.pop("bans") == "strict"
    assert recorded_data_set(record, 5).record["bans"] == "strict"


def test_bans_are_refused_where_there_are_none():
    with pytest.raises(ValueError, match="bans must be left out: only mnist has them, got 'strict' for scenes"):
        open_data_set("scenes", bans="strict")
    with pytest.raises(ValueError, match="bans must be one of 'strict', .* got 'none'"):
        open_data_set("mnist", bans="none")


def test_the_scenes_shown_are_held_out_where_it_is_said():
    """And no others: colour and object are words of the caption, and so is the place."""
    for caption, remark in open_data_set("scenes", validation_size=1).preview_captions:
        words = caption.split()
        thing = next(name for name in HELD_OUT if f" {name} " in caption)
        colour, place = HELD_OUT[thing]
        shown = [w for w in words if w in COLOURS][0]
        where = (
            "sky"
            if "flying" in words
            else next(p for p in ("grass", "sand", "sea", "snow", "road", "night") if p in words)
        )
        assert (shown == colour or where == place) == (remark == NEVER_SEEN), caption
    assert Scenes.vocabulary == VOCABULARY


@pytest.mark.parametrize(
    ("name", "path", "message"),
    [
        ("imagenet", None, "^name must be one of mnist, scenes, captioned, got 'imagenet'$"),
        ("captioned", None, "^path must be a folder that `aligndraw data` wrote, got None$"),
        ("scenes", "stored", "^path must be left out for scenes, which are painted, got 'stored'$"),
        ("captioned", "nowhere", "there are no captioned images in nowhere"),
        ("mnist", "nowhere", "digits file nowhere does not exist"),
    ],
)
def test_refused(name, path, message):
    with pytest.raises(ValueError, match=message):
        open_data_set(name, path)


def store(folder, captions, **options):
    with CaptionedWriter(folder, (3, 2, 2), {}) as writer:
        for split in captions:
            writer.store(split, ["a"], np.zeros((1, 3, 2, 2), np.uint8))
        writer.finish({split: [("a", text)] for split, text in captions.items()}, **options)


def test_captioned_images_with_few_known_words(tmp_path):
    store(tmp_path / "a", {"train": "a bus"})
    with pytest.raises(DataError, match="must have a train and a validation split, got no validation"):
        open_data_set("captioned", tmp_path / "a")
    store(tmp_path / "b", {"train": "a red bus and a bus", "validation": "a kite"}, min_count=2)
    assert open_data_set("captioned", tmp_path / "b").preview_captions == [
        ("a kite", "with [UNK]"),
        ("a red bus and a bus", "with [UNK]"),
    ]
    store(tmp_path / "c", {"train": "a bus", "validation": "a kite"})
    assert open_data_set("captioned", tmp_path / "c").preview_captions == [("a bus", "")]
