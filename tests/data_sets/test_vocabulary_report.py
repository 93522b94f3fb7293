"""The report on the words of captioned images."""

import numpy as np
import pytest

from aligndraw.data import CaptionedWriter
from aligndraw.data.vocabulary_report import VocabularyReport

CAPTIONS = ["a dog runs", "a dog", "a red dog in the snow", "A cat ."]


@pytest.fixture
def report(tmp_path):
    with CaptionedWriter(tmp_path / "data", (3, 2, 2), {}) as writer:
        for split in ("train", "test"):
            writer.store(split, ["a"], np.zeros((1, 3, 2, 2), np.uint8))
        test = [("a", "a dog and a cow")]
        data = writer.finish({"train": [("a", text) for text in CAPTIONS], "test": test}, min_count=2)
    return VocabularyReport.of(data)


def test_counts(report):
    assert list(report.counts.items())[:3] == [("a", 4), ("dog", 3), (".", 1)] and len(report.counts) == 9
    assert report.kept(1) == (9, 1) and report.kept(3) == (2, 7 / 14) and report.kept(5) == (0, 0)
    assert list(report.lengths.items()) == [(2, 1), (3, 2), (6, 1)]
    assert report.unknown == {"test": 2 / 5}


def test_summary(report):
    assert report.summary() == (
        "9 different words in training, 7 of them once; 7 of them, 50.0 % of the text, become [UNK]; "
        "captions of 2 to 6 words, median 3"
    )


def test_text(report):
    lines = report.text().splitlines()
    assert lines[0] == report.summary()
    for line in (
        "          2               2        50.0 %",
        "   95 % have at most    3 words",
        "             longest    6 words",
        "40.0 % of the words of test are unknown",
        "      3  dog",
        "      1  red *",
    ):
        assert line in lines
    assert lines[-1] == "      1  the *"
