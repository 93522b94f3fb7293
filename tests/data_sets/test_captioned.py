"""Folders of captioned images: what is written is read, whole or not at all, and damage is named."""

import hashlib
import json
import shutil

import numpy as np
import pytest

from aligndraw.data.captioned import CaptionedImages, DataError, file_checksum
from aligndraw.data.captioned_writer import CaptionedWriter, caption_error
from aligndraw.text import UNKNOWN, CaptionError, Vocabulary

SHAPE = (3, 4, 5)
CAPTIONS = {
    "train": [
        ("a", "A red bus , parked."),
        ("b", "two\n dogs  and 3 cats"),
        ("a", "the bus"),
        ("nowhere", "a bus"),
        ("c", "a red dog."),
    ],
    "validation": [("v", "a green bus")],
}


def pictures(n, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, *SHAPE), np.uint8)


def write(folder, **options):
    """Five training images, "e" and "d" without captions, and one to validate; returns what is read back."""
    with CaptionedWriter(folder, SHAPE, {"made": "here"}, **options) as writer:
        writer.store("train", ["e", "b"], pictures(5)[[4, 1]])
        writer.store("train", ["a", "d", "c"], pictures(5)[[0, 3, 2]])
        writer.store("validation", ["v"], pictures(1, 1))
        return writer.finish(CAPTIONS)


@pytest.fixture
def data(tmp_path):
    return write(tmp_path / "data")


def test_what_is_read_is_what_was_written(data, tmp_path):
    again = CaptionedImages.open(tmp_path / "data")
    again.verify()
    assert again.checksum == data.checksum and again.origin == {"made": "here"}
    assert data.image_shape == SHAPE and data.sizes["train"] == {"images": 3, "captions": 4}
    train = data.split("train")
    assert len(train) == 4 and train.images.shape == (3, *SHAPE) and train.images.dtype == np.uint8
    # The images in the order in which the captions name them, whatever that of storing; each with its captions.
    assert train.captions() == ["A red bus , parked.", "the bus", "two dogs and 3 cats", "a red dog."]
    assert train.image_index.tolist() == [0, 0, 1, 2]
    images, ids, lengths = train.batch(slice(None))
    assert (images == pictures(5)[[0, 0, 1, 2]]).all()
    assert ids.dtype == lengths.dtype == np.int64 and images.dtype == np.uint8
    assert [data.vocabulary.decode(row[:n]) for row, n in zip(ids, lengths)] == [
        "a red bus , parked .", "the bus .", "two dogs and 3 cats .", "a red dog .",
    ]  # fmt: skip
    assert lengths.tolist() == [6, 3, 6, 4] and ids[1, 3:].tolist() == [0, 0, 0]
    some = train.batch(np.array([3, 0]))
    assert (some[0] == images[[3, 0]]).all() and (some[1] == ids[[3, 0]]).all()
    assert train.batch(slice(3, 9))[1].shape == (1, 4)


def test_the_vocabulary_is_that_of_the_first_split(data):
    """The most frequent word first; another split's own words are unknown."""
    words = data.vocabulary.words
    assert words[:5] == (UNKNOWN, ".", "a", "bus", "red")
    assert set(words) == {UNKNOWN, *"a red bus , parked . two dogs and 3 cats the dog".split()}
    ids = data.split("validation").batch(slice(None))[1]
    assert data.vocabulary.decode(ids[0]) == f"a {UNKNOWN} bus ."


def test_what_was_skipped(tmp_path):
    """A line each, also of a file whose name is no valid text."""
    with CaptionedWriter(tmp_path / "data", SHAPE, {}) as writer:
        writer.store("train", ["a"], pictures(1))
        writer.finish({"train": [("a", "bus")]}, skipped=["image \udcff.png: it is\ndamaged", "caption 3: it is dull"])
    assert (tmp_path / "data" / "skipped.txt").read_text() == (
        "image \\xff.png: it is damaged\ncaption 3: it is dull\n"
    )


def test_rare_words_are_unknown(tmp_path):
    with CaptionedWriter(tmp_path / "data", SHAPE, {}) as writer:
        writer.store("train", ["a"], pictures(1))
        data = writer.finish({"train": [("a", "bus bus red")]}, min_count=2)
    assert data.vocabulary.words == (UNKNOWN, "bus")
    assert data.split("train").batch(slice(None))[1].tolist() == [[1, 1, 0]]


def test_a_given_vocabulary(tmp_path):
    words = Vocabulary(("bus", "'s", "."))
    with CaptionedWriter(tmp_path / "data", SHAPE, {}) as writer:
        writer.store("train", ["a"], pictures(1))
        encode = lambda text: [words.index(word) for word in text.split()]  # noqa: E731
        data = writer.finish({"train": [("a", "bus 's bus")]}, vocabulary=words, encode=encode)
    assert CaptionedImages.open(tmp_path / "data").vocabulary == words
    assert data.split("train").batch(slice(None))[1].tolist() == [[0, 1, 0]]


def test_the_tokenizer_is_hugging_faces(data, tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = tokenizers.Tokenizer.from_file(str(tmp_path / "data" / "tokenizer.json"))
    for caption in (
        "A red bus, parked.",
        "the dog's bus .",
        "two black-and-white dogs and 3 cats!.",
        "Ünknown ßtraße.",
    ):
        ids = data.vocabulary.encode(caption, unknown=UNKNOWN)
        assert tokenizer.encode(caption).ids == ids
        assert [w if w in data.vocabulary.words else UNKNOWN for w in tokenizer.encode(caption).tokens] == [
            data.vocabulary.words[i] for i in ids
        ]
    assert tokenizer.get_vocab_size() == len(data.vocabulary)


def test_epochs(data):
    """A seed and an epoch determine the order; every example comes before one comes again."""
    train = data.split("train")
    epochs = [train.epoch(seed, epoch, 10) for seed, epoch in ((0, 0), (0, 0), (0, 1), (1, 0))]
    texts = [e.captions() for e in epochs]
    assert texts[0] == texts[1] and texts[0] != texts[2] and texts[0] != texts[3]
    for part in (texts[0][:4], texts[0][4:8]):
        assert sorted(part) == sorted(train.captions())
    images, ids, lengths = epochs[0].batch(slice(3, 8))
    at = [train.captions().index(text) for text in texts[0][3:8]]
    whole = train.batch(np.array(at))
    assert (images == whole[0]).all() and (ids == whole[1]).all() and (lengths == whole[2]).all()
    assert len(train.epoch(0, size=2)) == 2
    with pytest.raises(ValueError, match="epoch must be a whole number of at least 0, got -1"):
        train.epoch(0, -1)


def test_images_stay_in_their_file(data):
    assert isinstance(data.split("train").images, np.memmap)
    assert isinstance(data.split("train").epoch(0).images, np.memmap)


def edit(name, change):
    """Changes the text of a file."""

    def damage(folder):
        text = (folder / name).read_text()
        assert change(text) != text
        (folder / name).write_text(change(text))

    return damage


def put(name, array):
    """Another array in a file, with the size and the checksum that the manifest tells."""

    def damage(folder):
        np.save(folder / name, array)
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["files"][name] = {"bytes": (folder / name).stat().st_size, "sha256": file_checksum(folder / name)}
        (folder / "manifest.json").write_text(json.dumps(manifest))

    return damage


def _image(text, shape):
    return json.dumps({**json.loads(text), "image": shape})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (shutil.rmtree, "no captioned images in .*data: manifest.json: No such file"),
        (lambda f: (f / "manifest.json").unlink(), "no captioned images in .*: manifest.json"),
        (lambda f: (f / "manifest.json").write_text("{"), "manifest.json is damaged or foreign: Expecting"),
        (lambda f: (f / "manifest.json").write_text("[]"), "manifest.json is damaged or foreign: it must be an object"),
        (lambda f: (f / "manifest.json").write_text("[" * 10**5), "manifest.json is damaged or foreign: "),
        (
            edit("manifest.json", lambda t: t.replace("images 1", "images 9")),
            "its format is not aligndraw captioned images 1",
        ),
        (edit("manifest.json", lambda t: t.replace('"origin"', '"from"')), "'origin' is missing"),
        (edit("manifest.json", lambda t: _image(t, [3, 4])), "'image' must be three numbers, got 2"),
        (edit("manifest.json", lambda t: t.replace("train-words", "../words")), "it lists other files than"),
        (lambda f: (f / "train-words.npy").unlink(), "train-words.npy is missing"),
        (
            lambda f: (f / "train-images.npy").write_bytes(b"x"),
            r"train-images.npy is damaged: it should have \d+ bytes, got 1",
        ),
        (
            edit("tokenizer.json", lambda t: t.replace(": 1,", ": 7,")),
            "tokenizer.json is damaged: its checksum is not the manifest's",
        ),
        (put("train-words.npy", np.zeros(19, np.float32)), r"train-words.npy must be int32 \[·\], got float32 \[19\]"),
        (put("train-lengths.npy", np.ones(3, np.int32)), r"train-lengths.npy must be int32 \[4\], got int32 \[3\]"),
        (
            put("train-lengths.npy", np.array([9, 9, 1, 1], np.int32)),
            "train-lengths.npy is damaged: its numbers do not fit",
        ),
        (
            put("train-lengths.npy", np.array([6, 0, 9, 4], np.int32)),
            "train-lengths.npy is damaged: its numbers do not fit",
        ),
        (
            lambda f: (
                put("train-lengths.npy", np.array([257, 1, 1, 1], np.int32))(f),
                put("train-words.npy", np.zeros(260, np.int32))(f),
            ),
            "train-lengths.npy is damaged: its numbers do not fit",
        ),
        (put("train-words.npy", np.full(19, 99, np.int32)), "train-words.npy is damaged: its numbers do not fit"),
        (put("train-words.npy", np.full(19, -1, np.int32)), "train-words.npy is damaged: its numbers do not fit"),
        (put("train-image-index.npy", np.array([0, 1, 2, 3])), "train-image-index.npy is damaged: its numbers do not"),
        (
            put("train-images.npy", pictures(4)),
            r"train-images.npy must be uint8 \[3, 3, 4, 5\], got uint8 \[4, 3, 4, 5\]",
        ),
        (put("train-words.npy", np.array([{}])), "train-words.npy is damaged: it holds Python objects"),
    ],
)
def test_damage(data, tmp_path, damage, message):
    folder = tmp_path / "data"
    damage(folder)
    with pytest.raises(DataError, match=message) as error:
        CaptionedImages.open(folder).split("train")
    assert "\n" not in str(error.value)


def test_a_flipped_bit_shows_in_the_checksum(data, tmp_path):
    path = tmp_path / "data" / "train-images.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="train-images.npy is damaged: its checksum is not the manifest's"):
        CaptionedImages.open(tmp_path / "data").verify()


@pytest.mark.parametrize("part", ["images.npy", "captions.txt", "words.npy", "lengths.npy", "image-index.npy"])
def test_each_array_is_checked(data, tmp_path, part):
    """Two rows that change places leave every size as it was."""
    path = tmp_path / "data" / f"train-{part}"
    if part.endswith("txt"):
        lines = path.read_text().splitlines()
        path.write_text("\n".join(lines[::-1]) + "\n")
    else:
        np.save(path, np.load(path)[::-1])
    with pytest.raises(DataError, match=f"train-{part} is damaged: its checksum is not the manifest's"):
        CaptionedImages.open(tmp_path / "data").verify()


def test_captions_are_counted(data, tmp_path):
    """A folder whose checksums fit, but not one line per caption."""
    path, manifest = tmp_path / "data" / "train-captions.txt", tmp_path / "data" / "manifest.json"
    path.write_text(path.read_text().replace("the bus\n", ""))
    record = json.loads(manifest.read_text())
    record["files"][path.name] = {"bytes": path.stat().st_size, "sha256": file_checksum(path)}
    manifest.write_text(json.dumps(record))
    with pytest.raises(DataError, match="train-captions.txt must have 4 lines, one per caption, got 3"):
        CaptionedImages.open(tmp_path / "data").split("train")


def test_no_such_split(data):
    with pytest.raises(ValueError, match="split must be one of 'train', 'validation', got 'test'"):
        data.split("test")


STORES = (
    ("train", ["e", "b"], pictures(5)[[4, 1]]),
    ("train", ["a", "d", "c"], pictures(5)[[0, 3, 2]]),
    ("validation", ["v"], pictures(1, 1)),
)


def stop_after(folder, stores, **options):
    """A writer that stores these blocks and then ends in an error."""
    with pytest.raises(KeyboardInterrupt), CaptionedWriter(folder, SHAPE, {"made": "here"}, **options) as writer:
        for store in stores:
            writer.store(*store)
        raise KeyboardInterrupt


def go_on(folder):
    """The next writer, which stores what is missing; returns the data set, and how many images of train it found."""
    with CaptionedWriter(folder, SHAPE, {"made": "here"}, resumable=True) as writer:
        found = len(writer.stored("train"))
        for split, keys, images in STORES:
            missing = [i for i, key in enumerate(keys) if key not in writer.stored(split)]
            if missing:
                writer.store(split, [keys[i] for i in missing], images[missing])
        return writer.finish(CAPTIONS), found


@pytest.mark.parametrize("resumable", [False, True])
@pytest.mark.parametrize("stop", [0, 1, 2, 3])
def test_interrupted_and_taken_up_again(data, tmp_path, stop, resumable):
    """What is stored is not asked for again, and the folder ends the same to the byte; else nothing is left."""
    stop_after(tmp_path / "other", STORES[:stop], resumable=resumable)
    left = {"data", ".other.partial"} if resumable and stop else {"data"}
    assert {p.name for p in tmp_path.iterdir()} == left
    other, found = go_on(tmp_path / "other")
    assert found == (0, 2, 5, 5)[stop] * resumable
    assert other.checksum == data.checksum
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data", "other"]


def flip(path, at):
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda f: (f / "train.raw").open("ab").write(bytes(70)), 5),  # of a block whose line was not written
        (lambda f: (f / "validation.raw").write_bytes(bytes(99)), 5),
        (lambda f: (f / "journal.jsonl").open("a").write('{"split": "train", "ke'), 5),
        (lambda f: (f / "journal.jsonl").open("ab").write(b"\0" * 99 + b"\n"), 5),
        (lambda f: (f / "journal.jsonl").open("a").write('{"split": "train", "keys": 3, "sha256": ""}\n'), 5),
        (lambda f: flip(f / "train.raw", 130), 2),  # in the second block
        (lambda f: flip(f / "train.raw", 3), 0),
        (lambda f: (f / "train.raw").write_bytes((f / "train.raw").read_bytes()[:-1]), 2),
        (lambda f: (f / "train.raw").unlink(), 0),
        (lambda f: flip(f / "journal.jsonl", 70), 0),
        (lambda f: (f / "journal.jsonl").write_bytes(b""), 0),
    ],
)
def test_what_the_journal_does_not_vouch_for_is_stored_again(data, tmp_path, damage, expected):
    """Images without a line in the journal had stayed in their file, and shifted all that was stored after them."""
    stop_after(tmp_path / "other", STORES[:2], resumable=True)
    damage(tmp_path / ".other.partial")
    other, found = go_on(tmp_path / "other")
    assert found == expected
    assert other.checksum == data.checksum


def test_images_that_change_before_they_are_copied(tmp_path):
    with (
        pytest.raises(DataError, match="train.raw has changed since it was written"),
        CaptionedWriter(tmp_path / "data", SHAPE, {}, resumable=True) as writer,
    ):
        writer.store("train", ["a", "b"], pictures(2))
        raw = tmp_path / ".data.partial" / "train.raw"
        raw.write_bytes(raw.read_bytes()[60:] + raw.read_bytes()[:60])  # each caption would get the other's image
        writer.finish({"train": [("a", "one"), ("b", "two")]})
    assert not (tmp_path / "data").exists()


def test_stored_twice(tmp_path):
    """The second image is the one that counts."""
    with CaptionedWriter(tmp_path / "data", SHAPE, {}) as writer:
        writer.store("train", ["a", "b"], pictures(4)[:2])
        writer.store("train", ["a"], pictures(4)[2:3])
        train = writer.finish({"train": [("b", "two"), ("a", "one")]}).split("train")
    assert (train.images == pictures(4)[[1, 2]]).all() and train.captions() == ["two", "one"]


def test_two_writers_of_one_folder(tmp_path):
    with CaptionedWriter(tmp_path / "data", SHAPE, {}, resumable=True) as writer:
        with pytest.raises(DataError, match="another process is writing .*data: wait for it, or stop it"):
            CaptionedWriter(tmp_path / "data", SHAPE, {}, resumable=True).__enter__()
        writer.store("train", ["a"], pictures(1))
        writer.finish({"train": [("a", "one")]})


def test_another_plan_begins_anew(tmp_path):
    for plan in ({"n": 1}, {"n": 2}):
        with pytest.raises(ZeroDivisionError), CaptionedWriter(tmp_path / "a", SHAPE, plan, resumable=True) as writer:
            assert not writer.stored("train")
            writer.store("train", ["x"], pictures(1))
            raise ZeroDivisionError


def test_a_taken_folder(data, tmp_path):
    before = (tmp_path / "data" / "manifest.json").read_bytes()
    with pytest.raises(DataError, match="data exists already: give another folder, or --overwrite"):
        write(tmp_path / "data")
    write(tmp_path / "data", overwrite=True)
    assert (tmp_path / "data" / "manifest.json").read_bytes() == before
    (tmp_path / "mine").mkdir()
    write(tmp_path / "mine")  # it is empty
    (tmp_path / "yours").mkdir()
    (tmp_path / "yours" / "thesis.txt").touch()
    with pytest.raises(
        DataError, match="there are no captioned images in .*yours.*; `aligndraw data folder` makes them"
    ):
        write(tmp_path / "yours", overwrite=True)
    assert (tmp_path / "yours" / "thesis.txt").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data", "mine", "yours"]


def test_refused(tmp_path):
    with (
        pytest.raises(DataError, match="no image with a caption"),
        CaptionedWriter(tmp_path / "a", SHAPE, {}) as writer,
    ):
        writer.finish({"train": [("a", "a bus")]})
    with (
        pytest.raises(DataError, match="no image with a caption of split validation"),
        CaptionedWriter(tmp_path / "a", SHAPE, {}) as writer,
    ):
        writer.store("train", ["a"], pictures(1))
        writer.finish({"train": [("a", "a bus")], "validation": [("v", "a dog")]})
    with pytest.raises(ValueError, match=r"images must be uint8 \[1, 3, 4, 5\], got float64 \[1, 3, 4, 5\]"):
        with CaptionedWriter(tmp_path / "a", SHAPE, {}) as writer:
            writer.store("train", ["a"], pictures(1) / 255)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("caption", "fault"),
    [
        ("a bus", ""),
        ("…", ""),
        (" \n", "the caption has no words"),
        (None, "the caption is no text but NoneType"),
        ("a \ud800", "the caption has half a character, or a byte that is not UTF-8"),
        ("a " * 255, ""),
        ("a " * 50_000, "the caption has 50000 words, more than 255"),
        ("a" * 4096 + "\n", ""),
        ("a" * 1_000_000, "the caption has 1000000 letters, more than 4096"),
    ],
)
def test_caption_faults(tmp_path, caption, fault):
    assert caption_error(caption) == fault
    with CaptionedWriter(tmp_path / "a", SHAPE, {}) as writer:
        writer.store("train", ["a"], pictures(1))
        if not fault:
            writer.finish({"train": [("a", caption)]})
        elif isinstance(caption, str):
            with pytest.raises((CaptionError, UnicodeEncodeError)):
                writer.finish({"train": [("a", caption), ("a", "a bus.")]})


def test_captions_that_are_not_utf_8(tmp_path):
    """With a checksum of their own: the message named no file."""
    with CaptionedWriter(tmp_path / "d", (1, 2, 2), plan={"kind": "none"}) as writer:
        writer.store("train", ["a"], np.zeros((1, 1, 2, 2), np.uint8))
        writer.finish({"train": [("a", "a cat .")]})
    path, manifest = tmp_path / "d" / "train-captions.txt", tmp_path / "d" / "manifest.json"
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    path.write_bytes(b"a c\xfft .\n")
    manifest.write_text(manifest.read_text().replace(before, hashlib.sha256(path.read_bytes()).hexdigest()))
    with pytest.raises(ValueError, match="train-captions.txt is damaged: .*utf-8.* byte 0xff"):
        CaptionedImages.open(tmp_path / "d").split("train").captions()


def test_another_vocabulary(data, tmp_path):
    """A selection keeps its order, its pictures and its text."""
    other = Vocabulary(("bus", "the", "a", UNKNOWN, ".", "red", "cats", "two"))
    plain = data.split("train")
    for split in (data.reworded(other).split("train"), plain.reworded(other)):
        part, same = (s.select(np.array([3, 1, 0])) for s in (split, plain))
        assert part.captions() == same.captions()
        for row, caption in enumerate(part.captions()):
            pictures, ids, lengths = part.batch(slice(row, row + 1))
            assert ids[0, : lengths[0]].tolist() == other.encode(caption, unknown=UNKNOWN)
            assert np.array_equal(pictures, same.batch(slice(row, row + 1))[0])
    assert data.reworded(other).reworded(data.vocabulary).split("train").lengths.tolist() == plain.lengths.tolist()
    with pytest.raises(CaptionError, match='unknown words "a"'):
        plain.reworded(Vocabulary(("the", "bus")))


def test_a_least_count_that_leaves_no_word(tmp_path):
    with CaptionedWriter(tmp_path / "x", (3, 2, 2), {}) as writer:
        writer.store("train", ["a", "b"], np.zeros((2, 3, 2, 2), np.uint8))
        captions = {"train": [("a", "a red bus and a bus"), ("b", "a bus")]}
        with pytest.raises(DataError) as error:
            writer.finish(captions, min_count=4)
        assert str(error.value) == (
            "no word of the training captions comes 4 times, and the most frequent comes 3 times: lower --min-count"
        )
        assert writer.finish(captions, min_count=3).vocabulary.words == ("[UNK]", "a", "bus")


PARTS = (
    ("train", "1", pictures(5)[[0, 4, 1]], [["A red bus , parked.", "the\nbus"], [], ["two dogs  and 3 cats"]]),
    ("train", "2", pictures(5)[[2, 3]], [["a red dog."], []]),
    ("validation", "1", pictures(1, 1), [["a green bus"]]),
)


def write_parts(folder, parts=PARTS, stop=False):
    """The data set of `write`, part by part; returns it, and the notes of the parts that were there before."""
    with CaptionedWriter(folder, SHAPE, {"made": "here"}, resumable=True) as writer:
        notes = []
        for split, name, images, captions in parts:
            notes.append(writer.take(split, name) if writer.has_part(split, name) else None)
            if notes[-1] is None:
                writer.add(split, name, images, captions, [f"note of {name}"])
        if stop:
            raise KeyboardInterrupt
        return writer.finish(), notes


@pytest.mark.parametrize("stop", [0, 1, 2, 3])
def test_parts_with_their_captions(data, tmp_path, stop):
    """The same bytes as by keys, also after an interruption; parts that are there are taken up with their notes."""
    if stop:
        with pytest.raises(KeyboardInterrupt):
            write_parts(tmp_path / "other", PARTS[:stop], stop=True)
    other, notes = write_parts(tmp_path / "other")
    assert other.checksum == data.checksum
    assert notes == [["note of 1"], ["note of 2"], ["note of 1"]][:stop] + [None] * (3 - stop)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data", "other"]


def test_a_part_that_has_changed_keeps_its_place(data, tmp_path):
    split, _, images, captions = PARTS[0]
    with pytest.raises(KeyboardInterrupt):
        write_parts(tmp_path / "other", [(split, "old 1", images, captions), *PARTS[1:]], stop=True)
    other, notes = write_parts(tmp_path / "other")
    assert notes[0] is None and notes[1:] == [["note of 2"], ["note of 1"]]
    assert other.checksum == data.checksum


def test_a_damaged_part_is_asked_for_again(data, tmp_path):
    for name, at in (("train.raw", 130), ("journal.jsonl", -40)):
        with pytest.raises(KeyboardInterrupt):
            write_parts(tmp_path / "other", stop=True)
        flip(tmp_path / ".other.partial" / name, at)
        other, notes = write_parts(
            tmp_path / "other",
        )
        assert None in notes and other.checksum == data.checksum
        shutil.rmtree(tmp_path / "other")


@pytest.mark.parametrize("name", ["train.raw", "journal.jsonl"])
def test_parts_that_change_before_they_are_copied(tmp_path, name):
    with (
        pytest.raises(DataError, match="has changed since it was written: start again"),
        CaptionedWriter(tmp_path / "data", SHAPE, {}, resumable=True) as writer,
    ):
        writer.add(*PARTS[0])
        flip(tmp_path / ".data.partial" / name, -40)
        writer.finish()
    assert not (tmp_path / "data").exists()


def test_parts_of_no_use(tmp_path):
    with CaptionedWriter(tmp_path / "data", SHAPE, {}) as writer:
        with pytest.raises(ValueError, match=r"images must be uint8 \[1, 3, 4, 5\], got uint8 \[2, 3, 4, 5\]"):
            writer.add("train", "1", pictures(2), [["a bus"]])
        with pytest.raises(DataError, match="the caption is no text but int"):
            writer.add("train", "1", pictures(1), [[3]])
        writer.add("train", "1", pictures(1), [[]])
        with pytest.raises(DataError, match="there is no image with a caption of split train"):
            writer.finish()
