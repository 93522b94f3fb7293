"""docs/scenes.md: its commands, word for word, with smaller sizes after them."""

import json
import subprocess
from pathlib import Path

import numpy as np
from pages import ROOT, commands
from PIL import Image
from small_runs import smaller

from aligndraw.cli import main

SCRIPT = ROOT / "docs" / "examples" / "scenes.sh"
PAGE = "docs/scenes.md"


def test_every_command_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("aligndraw.evaluation.tables.MEAN_CAPTION_SCENES", 30)
    for words in commands(PAGE):
        assert main(smaller(words)) == 0, f"{words}: {capsys.readouterr().err}"
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
    page = [" ".join(words) for words in commands(PAGE)]
    one_after_the_other = [*begun, *gone_on[resumed:]]
    assert [line for line in one_after_the_other if line not in page] == []
    for last in ("sample", "figures sharpening", "figures models", "tables"):
        assert any(line.startswith(last) for line in one_after_the_other)
