"""What options are made of."""

from argparse import ArgumentTypeError

import pytest

from aligndraw.cli.options import named_model


def test_named_folders(tmp_path, monkeypatch):
    """What is a folder as it stands is one; else the first = ends the name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "lr=0.1").mkdir(parents=True)
    assert named_model("runs/lr=0.1") == ("lr=0.1", "runs/lr=0.1")
    assert named_model("best=runs/lr=0.1") == ("best", "runs/lr=0.1")
    assert named_model("runs/none") == ("none", "runs/none")
    assert named_model("digits=mnist") == ("digits", "mnist") and named_model("me/tiny") == ("tiny", "me/tiny")
    for wrong in ("name=", "=folder", "="):
        with pytest.raises(ArgumentTypeError, match="must be NAME=MODEL or MODEL"):
            named_model(wrong)


@pytest.mark.parametrize(
    ("arguments", "old", "new"),
    [
        (("train", "mnist", "--scored", "20"), "--scored", "--validation-size"),
        (("train", "end-to-end", "--scored", "20"), "--scored", "--validation-size"),
        (("train", "captioned", "--planes"), "--planes", "--hidden-channels"),
        (("train", "sharpener", "--planes", "3"), "--planes", "--hidden-channels"),
        (("train", "features", "--planes=3"), "--planes", "--hidden-channels"),
        (("train", "end-to-end", "--discriminator-planes", "3"), "--discriminator-planes", "--discriminator-channels"),
    ],
)
def test_an_option_of_version_0_1_names_its_new_name(command, arguments, old, new):
    status, out, err = command(*arguments)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"aligndraw: error: {old} is now called {new} (see ")


def test_the_names_of_version_0_1_are_not_in_the_help(command):
    _, out, _ = command("train", "end-to-end", "--help")
    assert "--validation-size" in out and "--discriminator-channels" in out
    assert "--scored" not in out and "planes" not in out
