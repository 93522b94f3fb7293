"""Model cards: what a saved model draws, captions that work, and the checksums of its files.

Programs read `card.json`; `README.md` says the same to people, and is the model card of the Hugging Face hub.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aligndraw.evaluation.fidelity import GROUPS
from aligndraw.files import atomic_write
from aligndraw.json_files import FileError, entry, naming, read_json
from aligndraw.model import PictureModel

CARD, README, PICTURES = "card.json", "README.md", "samples.png"

EVALUATION = "aligndraw eval 1"  # the format of the files of `aligndraw eval --json`
_FORMAT = "aligndraw card 1"
_PAGE_BEGINS = ("---", "library_name: aligndraw")
# What models of the package's own data draw, with captions that training shows.
KNOWN = {
    "mnist": (
        "one or two handwritten digits at named places",
        (
            "the digit seven is at the bottom left of the image",
            "the digit 3 is on the left of the digit 8",
            "the digit 0 is at the top of the digit 6",
        ),
    ),
    "scenes": (
        "one thing in colour before a sky and a ground",
        (
            "a large red bus is parked on the road at night",
            "a small yellow bird flies over the sea under a blue sky",
            "a white cat sits on the grass at sunset",
        ),
    ),
}


@dataclass(frozen=True)
class Card:
    """The card of a saved model.

    Attributes:
        draws: what the model draws, such as "one or two handwritten digits at named places".
        captions: some that work.
        sha256: checksums of the model's files, by name.
    """

    draws: str
    captions: tuple[str, ...]
    sha256: Mapping[str, str]

    @classmethod
    def of(
        cls, folder: Path, files: Sequence[str], data: str, draws: str | None, captions: Sequence[str] | None
    ) -> Card:
        """Returns the card of the files in a folder.

        Args:
            data: the name of the model's training data; those of the package have a text and captions.
            draws, captions: in place of theirs.
        """
        known = KNOWN.get(data, ("pictures of captions like those of its training", ()))
        sums = {name: _sha256(folder / name) for name in files}
        return cls(draws or known[0], tuple(known[1] if captions is None else captions), sums)

    @classmethod
    def read(cls, folder: Path) -> Card | None:
        """Returns the card of a folder, None where there is none. Raises FileError for a damaged one."""
        path = folder / CARD
        if not path.is_file():
            return None
        with naming(path, "no model card"):
            record = read_json(path)
            if entry(record, "format", str, default="") != _FORMAT:
                raise ValueError(f"it does not say that its format is {_FORMAT}")
            captions, sums = entry(record, "captions", list), entry(record, "sha256", dict)
            if not all(isinstance(text, str) for text in (*captions, *sums.values())):
                raise ValueError("its captions and checksums must be text")
            return cls(entry(record, "draws", str), tuple(captions), sums)

    def check(self, folder: Path, names: Sequence[str]) -> None:
        """Raises FileError unless the model's files in the folder are those of the card.

        Args:
            names: of the files that belong to a model, whatever its kind, where they are there.
        """
        for name in names:
            if (folder / name).exists() and name not in self.sha256:
                raise FileError(f"{folder / CARD} has no checksum of {name}: restore the file")
        for name, wanted in self.sha256.items():
            path = folder / Path(name).name
            if not path.is_file():
                raise FileError(f"{path} is missing, which {CARD} names: restore the file")
            if _sha256(path) != wanted:
                raise FileError(f"{path} is not the one of {CARD}: its SHA-256 is another; restore the file")

    def write(self, folder: Path, name: str, facts: Mapping[str, str]) -> None:
        """Writes `README.md`, then `card.json`.

        Args:
            name: of the model.
            facts: about the model and its training, for a table of `README.md`, which shows `samples.png` where the
                folder has one.
        """
        record = {"format": _FORMAT, "draws": self.draws, "captions": self.captions, "sha256": self.sha256}
        page = self._page(name, facts, (folder / PICTURES).exists())
        texts = {README: "\n".join(page) + "\n", CARD: json.dumps(record, indent=2) + "\n"}
        for name, text in texts.items():
            with atomic_write(folder / name) as path:
                path.write_text(text, encoding="utf-8")

    def _page(self, name: str, facts: Mapping[str, str], pictures: bool) -> Iterator[str]:
        yield from (*_PAGE_BEGINS, "pipeline_tag: text-to-image", "---", f"# {name}", "")
        yield f"This model draws {self.draws}, from a caption, with [alignDRAW](https://arxiv.org/abs/1511.02793)."
        if self.captions:
            yield from ("", "Captions that work:", "", *(f"- {caption}" for caption in self.captions))
            yield from ("", "```python", "from aligndraw import Pipeline", "")
            yield f'pipe = Pipeline.from_pretrained("{name}")'
            yield f'pipe("{self.captions[0]}", num_images_per_prompt=4, seed=0).save("out.png")'
            yield "```"
        if pictures:
            yield from ("", f"![The first pictures drawn of each caption; none is chosen]({PICTURES})")
        yield from ("", "| | |", "|---|---|", *map(_row, facts.items()))
        yield from ("", "SHA-256:", "", *(f"- {file}: {value}" for file, value in self.sha256.items()))


def shows_pictures(folder: Path) -> bool:
    """Returns whether a folder has a card with pictures: `samples.png` is then the card's."""
    page = folder / README
    return page.is_file() and is_page(page) and f"]({PICTURES})".encode() in page.read_bytes()


def is_page(path: Path) -> bool:
    """Returns whether a file is the `README.md` of a card."""
    return path.read_bytes().splitlines()[: len(_PAGE_BEGINS)] == [line.encode() for line in _PAGE_BEGINS]


def size_of(folder: Path) -> str:
    """Returns the size of the weights in a folder, such as "3.8 MB"."""
    return f"{sum(path.stat().st_size for path in folder.glob('*.safetensors')) / 1e6:.1f} MB"


def data_name(notes: Mapping[str, Any]) -> str:
    """Returns the name of the training data by the notes of a model, "" where they have none."""
    return str(_object(notes, "data").get("name", ""))


def facts_of(model: PictureModel, notes: Mapping[str, Any]) -> dict[str, str]:
    """Returns facts for a card: of the model, and of its training as far as the notes know them."""
    config, parameters = model.config, sum(p.numel() for p in model.parameters())
    height, width = config.image_size
    colour = {1: "grey", 3: "colour"}.get(config.channels, f"{config.channels} channels")
    facts = {
        "model": f"{config.title}, {parameters:,} parameters",
        "pictures": f"{height} x {width}, {colour}",
    }
    data, versions = (_object(notes, name) for name in ("data", "versions"))
    found = {
        "training data": data.get("name"),
        "preset": notes.get("preset"),
        "updates": notes.get("updates"),
        "seed": notes.get("seed"),
        "aligndraw": versions.get("aligndraw"),
        "torch": versions.get("torch"),
    }
    return facts | {name: str(value) for name, value in found.items() if isinstance(value, (str, int))}


def scores_of(path: Path) -> dict[str, str]:
    """Returns facts for a card from a file of `aligndraw eval --json`: bounds, and shares of faithful pictures.

    Raises:
        FileError: the file is missing, damaged or another one.
    """
    facts = {}
    with naming(path, "no scores"):
        record = read_json(path)
        if entry(record, "format", str, default="") != EVALUATION:
            raise ValueError(f"it does not say that its format is {EVALUATION}")
        of = f"{entry(record, 'split', str)}, seed {entry(record, 'seed', int)}"
        for kind, bound in entry(record, "bound", dict, default={}).items():
            name = kind.replace("_", " ")
            facts[f"bound, {name} ({of})"] = _score(entry(bound, "bound", dict), 1, "nats")
        faithful = entry(entry(record, "fidelity", dict, default={}), "faithful", dict, default={})
        for group in (f"{kind}_{digits}" for kind in ("seen", "held_out") for digits in ("one_digit", "two_digits")):
            if group in faithful:
                facts[f"faithful pictures, {GROUPS[group]}"] = _score(entry(faithful, group, dict), 100, "%")
        for stage, scores in (("", record), ("sharpened ", entry(record, "sharpened", dict, default={}))):
            for kind, accuracy in entry(scores, "attributes", dict, default={}).items():
                share = entry(entry(accuracy, "shares", dict), "right", dict)
                name = f"{stage}pictures with object, colour and place of their caption, {kind.replace('_', ' ')}"
                facts[name] = _score(share, 100, "%")
    return facts


def _row(fact: tuple[str, str]) -> str:
    """Returns a line of a table of Markdown."""
    name, value = (text.replace("|", "\\|") for text in fact)
    return f"| {name} | {value} |"


def _score(share: Mapping[str, Any], unit: float, name: str) -> str:
    mean, error = (unit * entry(share, key, float, int) for key in ("mean", "error"))
    return f"{mean:.1f} ± {error:.1f} {name}"


def _object(notes: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = notes.get(name)
    return value if isinstance(value, dict) else {}


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
