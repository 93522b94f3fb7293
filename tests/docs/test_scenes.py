"""docs/scenes.md: its commands, word for word, with smaller sizes after them."""

import json
import re
import shlex
import subprocess
from pathlib import Path

import numpy as np
from PIL import Image

from aligndraw.cli import main

SCRIPT = Path(__file__).parents[2] / "docs" / "examples" / "scenes.sh"
PAGE = Path(__file__).parents[2] / "docs" / "scenes.md"
NETWORK = "--steps 2 --encoder-units 6 --decoder-units 5 --latent-units 3 --language-units 4 --align-units 4"
RECIPE = "--epochs 1 --epoch-size 8 --batch-size 4 --kl-warmup 0 --validation-size 2"
VAE = "--hidden-units 8 --latent-units 3 --language-units 4"
# What is added to commands that begin so: the last value of an option counts, and the first of these that fits.
SMALLER = {
    "data scenes": "--images 40",
    "data coco": "--validation 2 --test 2",
    "train scenes --model fc-vae": f"{VAE} {RECIPE}",
    "train scenes --model conv-vae": f"--hidden-channels 2 --latent-units 3 --language-units 4 {RECIPE}",
    "train scenes --model skipthought": f"--steps 2 --encoder-units 6 --decoder-units 5 --latent-units 3 {RECIPE}",
    "train scenes --model noalign": f"{NETWORK.removesuffix(' --align-units 4')} {RECIPE}",
    "train scenes": f"{NETWORK} {RECIPE}",
    "train captioned": f"{NETWORK} {RECIPE}",
    "train end-to-end": RECIPE,
    "train skipthoughts": "--word-units 3 --units 4 --epochs 1",
    "train features": "--hidden-channels 2 --epochs 1 --epoch-size 128",
    "train lapgan": "--hidden-channels 2 --generator-units 8 --discriminator-units 8 --epochs 1 --batch-size 8",
    "train sharpener": "--hidden-channels 2 --epochs 1 --batch-size 8",
    "figures background": "-n 2 --images 20",
    "figures attention": "",
    "figures": "-n 2",
    "sample": "-n 2",
    "eval retrieval": "--images 6",
    "eval similarity": "--captions 4 -n 2",
    "eval": "--images 4 --samples 2",
    "tables": "--images 6 --drawn 2",
    "sharpen": "",
}


def commands():
    """The commands of the page, each as a list of words, without `aligndraw`."""
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    for line in "".join(blocks).splitlines():
        words = shlex.split(line)
        if (
            words[0] == "torchrun"
        ):  # what it starts is the command itself; several processes: tests/cli/evaluate/test_tables.py
            words = words[words.index("-m") + 1 :]
        assert words[0] == "aligndraw", line
        yield words[1:]


def test_every_command_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("aligndraw.evaluation.tables.MEAN_CAPTION_SCENES", 30)
    unused = set(SMALLER)
    for words in commands():
        beginning = next(b for b in SMALLER if " ".join(words).startswith(b))
        unused -= {beginning}
        status = main([*words, *SMALLER[beginning].split()])
        assert status == 0, f"{words}: {capsys.readouterr().err}"
    assert not unused
    for name in (
        "bus",
        "sharp-bus",
        "novel",
        "swap",
        "background",
        "attention",
        "models",
        "sharp-models",
        "nearest",
        "coco-bus",
    ):
        Image.open(f"{name}.png").verify()
    with np.load("bus.npz") as drawn, np.load("sharp-bus.npz") as sharp:
        assert drawn["images"].shape == sharp["images"].shape and (drawn["images"] != sharp["images"]).any()
    tables = json.loads(Path("tables/tables.json").read_text())
    bounded = ["alignDRAW", "noalignDRAW", "skipthoughtDRAW", "Fully-Conn", "Conv-Deconv"]
    assert list(tables["models"]) == ["LAPGAN", *bounded]
    assert all(tables["models"][name]["bound_sharpened"] for name in bounded)
    assert list(json.loads(Path("coco-tables/tables.json").read_text())["models"]) == ["alignDRAW"]


# Instead of aligndraw: notes what it is asked, makes what the script looks for, and fails where a file says so.
NOTES = """#!/bin/sh
printf '%s\\n' "$*" >> "$NOTES"
while [ $# -gt 0 ]; do if [ "$1" = --out ]; then out=$2; fi; shift; done
if [ "${out-}" ]; then mkdir -p "$out"; : > "$out/run.json"; fi
[ "${out-}" != "$FAILS" ]
"""


def test_the_script_is_commands_of_the_page_and_goes_on(tmp_path):
    tool = tmp_path / "bin" / "aligndraw"
    tool.parent.mkdir()
    tool.write_text(NOTES)
    tool.chmod(0o755)

    def script(fails="nothing"):
        notes = tmp_path / "notes"
        notes.unlink(missing_ok=True)
        environment = {"PATH": f"{tool.parent}:/usr/bin:/bin", "NOTES": str(notes), "FAILS": fails}
        done = subprocess.run(["sh", str(SCRIPT), "folder"], cwd=tmp_path, env=environment)
        return done.returncode, notes.read_text().splitlines()

    status, begun = script(fails="fc-vae")
    assert status == 1 and begun[-1].endswith("--out fc-vae")
    status, gone_on = script()
    assert status == 0 and gone_on[0] == "train scenes --out align --resume"
    resumed = len([line for line in gone_on if line.endswith("--resume")])
    assert resumed == len(begun) - 1  # all but the data, which is there
    page = [" ".join(words) for words in commands()]
    one_after_the_other = [*begun, *gone_on[resumed:]]
    assert [line for line in one_after_the_other if line not in page] == []
    for last in ("sample", "figures sharpening", "figures models", "tables"):
        assert any(line.startswith(last) for line in one_after_the_other)
