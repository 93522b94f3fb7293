"""What is fuzzed: readers of files that come from outside, each given the bytes of one file.

A target may refuse its bytes by an error of one line, ValueError or OSError, and nothing else. What it accepts must
hold what its caller relies on.
"""

import json
import shutil
import tempfile
from pathlib import Path
from unittest.mock import patch

import numpy as np

from aligndraw import AlignDRAWConfig, TrainingConfig
from aligndraw.config import model_config
from aligndraw.data.caption_files import read_captions
from aligndraw.data.caption_tables import read_rows
from aligndraw.data.captioned_writer import caption_error
from aligndraw.data.coco import read_coco
from aligndraw.data.image_pixels import decode_image, read_image, read_levels, suppress_pillow_warnings
from aligndraw.data.mnist_files import read_idx
from aligndraw.data.shards import index_shard, read_piece
from aligndraw.files import load_archive, load_array, load_tensors, read_text, reading
from aligndraw.json_files import parse_json
from aligndraw.text import CaptionError, Vocabulary
from aligndraw.text.tokenizer_json import read_tokenizer
from aligndraw.text.words import RULE, treebank_words, words_of
from aligndraw.training.expansion import read_word_vectors

PLACE = Path(tempfile.mkdtemp(prefix="fuzz-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
for image in ("a.png", "b.png"):
    (PLACE / image).touch()
VOCABULARY = Vocabulary(("a", "bus", "red", "the"))


def remove_place():
    shutil.rmtree(PLACE, ignore_errors=True)


def written(data, name):
    path = PLACE / name
    path.write_bytes(data)
    return path


def table(suffix):
    """Captions of the images a.png and b.png."""

    def read(data):
        path = written(data, f"captions{suffix}")
        for number, row in read_rows(path):
            assert number >= 1 and isinstance(row, (dict, str))
        found = read_captions(PLACE, path)
        assert all("\n" not in line for line in found.skipped)

    return read


def annotations(data):
    path = written(data, "annotations.json")
    read_coco(PLACE, [path], validation=0, test=0)


def shard(data):
    """Pieces hold all samples; each image has captions that can be stored."""
    pieces = index_shard(written(data, "0.tar"), 2)
    for piece in pieces:
        found = read_piece(piece, (2, 2))
        assert found.images.shape == (len(found.captions), 3, 2, 2) and len(found.captions) <= piece.samples <= 2
        assert not any(caption_error(text) for texts in found.captions for text in texts)
        assert all(found.captions) and found.lost <= 4096 * len(found.skipped)


@patch("aligndraw.data.image_pixels.MAX_PIXELS", 2**16)  # for more inputs a second: one has this many pixels at most
def image(data):
    """All ways to read a file agree on its size; pixels are in their ranges."""
    path = written(data, "image")
    with suppress_pillow_warnings():
        pixels = decode_image(path)
        height, width, channels = pixels.shape
        assert pixels.dtype in (np.uint8, np.uint16) and channels in (1, 3) and 0 < height * width <= 2**16
        for crop in (False, True):
            small = read_image(path, (3, 5), crop)
            assert small.dtype == np.uint8 and small.shape == (3, 3, 5)
        for wanted in (1, 3):
            levels = read_levels(path, wanted)
            assert levels.shape == (wanted, height, width) and 0 <= levels.min() <= levels.max() <= 1


def idx(data):
    found = read_idx(written(data, "images-idx3-ubyte"))
    assert found.dtype == np.uint8 and found.ndim <= 3


def archive(data):
    path = written(data, "digits.npz")
    with reading(path, "damaged"):
        (images,) = load_archive(path, "images")
        assert not images.dtype.hasobject and images.nbytes <= 2**28


def array(data):
    path = written(data, "array.npy")
    for mapped in (False, True):
        with reading(path, "damaged"):
            found = load_array(path, mapped)
            assert not found.dtype.hasobject


def tensors(data):
    load_tensors(written(data, "model.safetensors"))


def json_text(data):
    """The reader is stricter than Python's: what it takes, Python takes, and it is the same again when written."""
    value = parse_json(data)
    assert parse_json(json.dumps(value).encode()) == value


def configuration(data):
    record = parse_json(data)
    for kind in (AlignDRAWConfig.from_dict, TrainingConfig.from_dict, model_config):
        try:
            config = kind(record)
        except (ValueError, TypeError) as error:
            assert isinstance(error, ValueError), error
            continue
        assert kind(parse_json(json.dumps(config.to_dict()))) == config


def tokenizer(data):
    read_tokenizer(written(data, "tokenizer.json"))


def captions(data):
    """Words have no white space, and are the same again when they are joined."""
    text = data.decode("utf-8", "surrogatepass" if data[:1] == b"\0" else "replace")
    for rule in (1, RULE):
        words = words_of(text, rule)
        assert all(word and not word.isspace() for word in words)
        treebank_words(text, rule)
    assert words_of(" ".join(words_of(text))) == words_of(text)
    try:
        ids = VOCABULARY.encode(text)
    except CaptionError:
        return
    assert len(ids) == len(words_of(text))


def vectors(suffix):
    def read(data):
        for _, vector in read_word_vectors(written(data, f"vectors{suffix}")):
            assert np.isfinite(vector).all()

    return read


def text(data):
    assert not read_text(written(data, "captions.txt")).startswith("﻿﻿")


TARGETS = {
    "annotations": annotations,
    "archive": archive,
    "array": array,
    "captions": captions,
    "configuration": configuration,
    "csv": table(".csv"),
    "idx": idx,
    "image": image,
    "json": json_text,
    "jsonl": table(".jsonl"),
    "shard": shard,
    "tensors": tensors,
    "text": text,
    "tokenizer": tokenizer,
    "tsv": table(".tsv"),
    "txt": table(".txt"),
    "vectors-bin": vectors(".bin"),
    "vectors-txt": vectors(".txt"),
}


def run(name, data):
    """Runs a target; refuses all but errors of one line. Returns whether it took the bytes."""
    try:
        TARGETS[name](data)
    except (ValueError, OSError) as error:
        message = str(error)
        assert message and "\n" not in message, repr(message)
        return False
    return True
