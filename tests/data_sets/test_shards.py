"""Tar shards of images with captions: what is read of them, what is left out, and what is refused."""

import io
import json
import pickle
import tarfile

import numpy as np
import pytest
from PIL import Image

from aligndraw.data import DataError, image_files, shards
from aligndraw.data.shards import find_shards, index_shard, read_piece, store_shards

SIZE = (3, 4)


def png(level):
    stream = io.BytesIO()
    Image.new("RGB", (8, 6), (level, 0, 255 - level)).save(stream, "PNG")
    return stream.getvalue()


def write(path, members, **options):
    """A tar file of these members: names and bytes, or a TarInfo."""
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w", **options) as tar:
        for name, content in members:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = info.size or len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def sample(name, level, **members):
    """The members of a sample; a caption by default."""
    members = members or {"txt": f"level {level}".encode()}
    return [(f"{name}.png", png(level)), *((f"{name}.{end}", content) for end, content in members.items())]


def read(path, count=100):
    return [read_piece(piece, SIZE) for piece in index_shard(path, count)]


def test_captions(tmp_path):
    """A text with one per line, else JSON; the other members are not opened."""
    record = {"caption": "a cat", "url": "there", "sha256": "…"}
    pickled = pickle.dumps(print)
    members = [
        *sample("a/0001", 10, txt=b"one\n\n two  words\r\n", json=b"not read", pyd=pickled),
        *sample("a/0002", 20, json=json.dumps(record).encode(), cls=b"3"),
        *sample("a/0003", 30, json=json.dumps({"captions": ["a dog", "it sleeps"]}).encode(), pkl=pickled),
        ("b/0003.JPG", png(40)),
        ("b/0003.seg.png", png(90)),
        ("b/0003.TXT", "é".encode()),
    ]
    (found,) = read(write(tmp_path / "a.tar", members))
    assert found.captions == [["one", "two words"], ["a cat"], ["a dog", "it sleeps"], ["é"]]
    assert found.images.shape == (4, 3, *SIZE) and found.images[:, 0, 0, 0].tolist() == [10, 20, 30, 40]
    assert (found.skipped, found.lost) == ([], 0)
    assert found.unread == ["pyd", "cls", "pkl", "seg.png"]


@pytest.mark.parametrize(
    ("members", "line", "lost"),
    [
        ([("x.txt", b"a cat")], "it has no image", 1),
        (sample("x", 1, cls=b"0"), "it has no caption: no .txt and no .json", 1),
        (sample("x", 1, pyd=pickle.dumps({"caption": "a cat"})), "it has no caption: no .txt and no .json", 1),
        ([*sample("x", 1), ("x.jpg", png(2))], 'it has several images: ["png", "jpg"]', 1),
        ([*sample("x", 1), ("x.txt", b"more")], "it has several members .txt", 1),
        (
            [("x.png", b"no image"), ("x.txt", b"a\nb")],
            "it is damaged or no PNG, JPEG, GIF, BMP, TIFF, WebP or PPM ",
            2,
        ),
        (sample("x", 1, txt=b"\xff"), "its .txt is of no use: 'utf-8' codec can't decode", 1),
        (sample("x", 1, json=b"[]"), "its .json is of no use: it is no object", 1),
        (sample("x", 1, json=b"{"), "its .json is of no use: ", 1),
        (
            sample("x", 1, json=b'{"url": 3}'),
            "its .json is of no use: it has no key caption, captions, text, prompt or comment",
            1,
        ),
        (sample("x", 1, json=b'{"caption": 3}'), "the caption is no text but int", 1),
        (sample("x", 1, txt=b"a " * 300), "the caption has 300 words, more than 255", 1),
        (sample("x", 1, txt=b"a cat\na cat"), "it has this caption twice", 0),
        (sample("x", 1, txt=b"a" * (2**20 + 1)), "its .txt is of no use: a member has 1,048,577 bytes, more than", 1),
    ],
)
def test_samples_that_are_left_out(tmp_path, members, line, lost):
    """One line each; the samples around them are read."""
    path = write(tmp_path / "a.tar", [*sample("v", 5), *members, *sample("z", 9)])
    (found,) = read(path)
    assert len(found.skipped) == 1 and found.skipped[0].startswith(f"a.tar: sample x: {line}")
    assert found.lost == lost
    assert [texts[0] for texts in found.captions][:: len(found.captions) - 1] == ["level 5", "level 9"]


def test_a_large_member_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "MAX_IMAGE", 50)
    (found,) = read(write(tmp_path / "a.tar", sample("x", 1)))
    assert found.skipped == [f"a.tar: sample x: a member has {len(png(1))} bytes, more than 50"]


def test_links_and_devices_are_no_members(tmp_path):
    """They name files outside; nothing of them is followed."""
    special = []
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE):
        info = tarfile.TarInfo(f"x{kind.decode()}.png")
        info.type, info.linkname = kind, "/etc/passwd"
        special.append((info, b""))
    (found,) = read(write(tmp_path / "a.tar", [*special, *sample("../../y", 3)]))
    assert found.captions == [["level 3"]] and not found.skipped


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_pieces(tmp_path, form, count):
    """Each begins where the one before ends, also where a head of the next member tells its long name."""
    names = [f"{'é' * 20}/{'n' * 40}{i}" for i in range(5)]
    path = write(tmp_path / "a.tar", sum((sample(name, i) for i, name in enumerate(names)), []), format=form)
    pieces = index_shard(path, count)
    assert [piece.samples for piece in pieces] == {1: [1] * 5, 2: [2, 2, 1], 5: [5]}[count]
    assert len({piece.name for piece in pieces}) == len(pieces)
    assert sum((found.captions for found in read(path, count)), []) == [[f"level {i}"] for i in range(5)]


def cut(at):
    return lambda content: content[:at]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut(0), "a.tar is damaged or no tar file: empty file"),
        (cut(300), "a.tar is damaged or no tar file: "),
        (cut(700), "a.tar is damaged or no tar file: unexpected end of data"),
        (cut(4 * 512), "a.tar is cut off at byte 2048: it has no end"),
        (
            lambda content: content[:2048] + b"x" * 512 + content[2560:],
            "a.tar is damaged at byte 2048, or has other data",
        ),
        (lambda content: content + content, "a.tar is damaged at byte .*, or has other data after its end"),
        (lambda content: b"\x1f\x8b" + content, "a.tar is packed by gzip: unpack it first"),
        (lambda content: b"\x89PNG" + content[4:], "a.tar is damaged or no tar file: "),
        (lambda content: b"", "a.tar is damaged or no tar file: empty file"),
    ],
)
def test_damaged_shards(tmp_path, damage, message):
    """tarfile takes what follows damage for the end, without a word."""
    path = write(tmp_path / "a.tar", sample("x", 1) + sample("y", 2))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=message) as error:
        index_shard(path, 1)
    assert "\n" not in str(error.value)


def test_a_size_below_zero(tmp_path):
    """tarfile would go back to members that it has read, for ever."""
    path = write(tmp_path / "a.tar", sample("x", 1))
    info = tarfile.TarInfo("y.png")
    info.size = -1024
    content = path.read_bytes()[:2048] + info.tobuf(tarfile.GNU_FORMAT) + bytes(1024)
    path.write_bytes(content)
    with pytest.raises(DataError, match="a.tar is damaged"):
        index_shard(path, 1)


def test_splits(tmp_path):
    def names(*files):
        for name in files:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).touch()
        found = find_shards([tmp_path / name for name in files])
        return {split: [path.relative_to(tmp_path).as_posix() for path in paths] for split, paths in found.items()}

    assert names("b-val-0.tar", "b-train-0.tar", "b-train-1.tar") == {
        "train": ["b-train-0.tar", "b-train-1.tar"],
        "validation": ["b-val-0.tar"],
    }
    assert names("val/0.tar", "train/0.tar") == {"train": ["train/0.tar"], "validation": ["val/0.tar"]}
    assert names("val/1.tar", "val/2.tar") == {"train": ["val/1.tar"], "validation": ["val/2.tar"]}
    assert names("0.tar", "1.tar") == {"train": ["0.tar"], "validation": ["1.tar"]}
    assert names("0.tar", "1.tar", "2.tar") == {"train": ["0.tar"], "validation": ["1.tar"], "test": ["2.tar"]}
    many = names(*(f"{i:02}.tar" for i in range(25)))
    assert {split: len(paths) for split, paths in many.items()} == {"train": 21, "validation": 2, "test": 2}
    assert find_shards([tmp_path / "val"]) == find_shards([tmp_path / "val" / f"{i}.tar" for i in range(3)])
    for files, message in (
        (["0.tar"], "there must be two shards or more to train on and to validate with, got .*0.tar"),
        (["0.tar", "b-val-0.tar"], "0.tar tells no split by its name or folder, as .*b-val-0.tar does"),
    ):
        with pytest.raises(DataError, match=message):
            names(*files)
    with pytest.raises(DataError, match=r"there are no shards at .*nowhere: give \.tar files, or folders with them"):
        find_shards([tmp_path / "nowhere"])


@pytest.fixture
def splits(tmp_path, monkeypatch):
    """Shards of five and three samples, of which one is of no use; pieces of two samples."""
    monkeypatch.setattr(image_files, "CHUNK_SIZE", 2)
    train = [sample(str(i), 10 * i) for i in range(4)] + [[("x.txt", b"lost")]]
    write(tmp_path / "train.tar", sum(train, []))
    write(tmp_path / "val.tar", sum((sample(str(i), 10 * i) for i in range(3)), []))
    return find_shards([tmp_path / "train.tar", tmp_path / "val.tar"])


def store(splits, folder, **options):
    return store_shards(splits, folder, size=SIZE, allow_skipped=0.5, **{"processes": 1, **options})


def test_stored(splits, tmp_path):
    totals, done = [], []
    data, omitted = store(splits, tmp_path / "data", on_total=totals.append, on_images=done.append)
    assert data.sizes == {"train": {"images": 4, "captions": 4}, "validation": {"images": 3, "captions": 3}}
    assert data.split("train").captions() == [f"level {10 * i}" for i in range(4)]
    assert data.split("train").images[:, 0, 0, 0].tolist() == [0, 10, 20, 30]
    assert omitted.skipped == ["train.tar: sample x: it has no image"] and omitted.lost == 1
    assert (tmp_path / "data" / "skipped.txt").read_text() == "train.tar: sample x: it has no image\n"
    assert (totals, sum(done)) == ([8], 8)
    with pytest.raises(DataError, match=r"1 of 8 captions cannot be used, more than 5 %, such as train.tar: sample x"):
        store_shards(splits, tmp_path / "other", size=SIZE, processes=1)


def test_any_number_of_processes(splits, tmp_path):
    one, _ = store(splits, tmp_path / "one")
    two, omitted = store(splits, tmp_path / "two", processes=2)
    assert one.checksum == two.checksum and omitted.lost == 1


def test_interrupted_and_taken_up_again(splits, tmp_path, monkeypatch):
    """Pieces that were read are not read again, and what they left out is told again."""
    whole, _ = store(splits, tmp_path / "whole")
    read, names = shards.read_piece, []

    def interrupted(piece, **options):
        names.append(f"{piece.shard.stem} {piece.samples}")
        if len(names) == 4:
            raise KeyboardInterrupt
        return read(piece, **options)

    monkeypatch.setattr(shards, "read_piece", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store(splits, tmp_path / "data")
    data, omitted = store(splits, tmp_path / "data")
    assert names == ["train 2", "train 2", "train 1", "val 2", "val 2", "val 1"]
    assert data.checksum == whole.checksum and omitted.lost == 1 and len(omitted.skipped) == 1


def test_nothing_in_the_shards(tmp_path):
    write(tmp_path / "train.tar", [("x.txt", b"lost")])
    with pytest.raises(DataError, match="there is no image to store, such as train.tar: sample x: it has no image"):
        store_shards({"train": [tmp_path / "train.tar"]}, tmp_path / "data", allow_skipped=1)
    assert not (tmp_path / "data").exists()


def test_shards_of_webdataset(tmp_path):
    """Of its own writer, texts and JSON."""
    webdataset = pytest.importorskip("webdataset")
    with webdataset.TarWriter(str(tmp_path / "a.tar")) as writer:
        for i in range(3):
            pixels = np.full((6, 8, 3), 50 * i, np.uint8)
            more = {"txt": f"level {50 * i}"} if i else {"json": {"caption": "dark", "id": 1}}
            writer.write({"__key__": f"sample{i:06}", "png": pixels, "cls": i, **more})
    (found,) = read(tmp_path / "a.tar")
    assert found.captions == [["dark"], ["level 50"], ["level 100"]] and not found.skipped
    assert (found.images == np.array([0, 50, 100])[:, None, None, None]).all()
