"""What options are made of."""

from argparse import ArgumentTypeError
from pathlib import Path

import pytest

from aligndraw.cli.options import named


def test_named_folders(tmp_path, monkeypatch):
    """What is a folder as it stands is one; else the first = ends the name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "lr=0.1").mkdir(parents=True)
    assert named("runs/lr=0.1") == ("lr=0.1", Path("runs/lr=0.1"))
    assert named("best=runs/lr=0.1") == ("best", Path("runs/lr=0.1"))
    assert named("runs/none") == ("none", Path("runs/none"))
    for wrong in ("name=", "=folder", "="):
        with pytest.raises(ArgumentTypeError, match="must be NAME=DIR or DIR"):
            named(wrong)
