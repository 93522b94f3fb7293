"""Models in folders, with their sharpener and card."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image

from aligndraw.data import SentenceReader
from aligndraw.files import atomic_update, atomic_write
from aligndraw.json_files import entry, naming, read_json
from aligndraw.lapgan import sharpen as sharpener_files
from aligndraw.lapgan.captioned import sentence_notes
from aligndraw.lapgan.sharpen import Sharpener
from aligndraw.model import PictureModel, has_bound, lapgan
from aligndraw.model.lapgan import LAPGAN
from aligndraw.model.saved import CONFIG, WEIGHTS, load_model, save_model
from aligndraw.module_files import check_dtype
from aligndraw.pipelines.card import CARD, PICTURES, README, Card, data_name, facts_of, is_page, shows_pictures
from aligndraw.pipelines.reading import open_sentences, with_sentences
from aligndraw.text import Vocabulary, WordPairs
from aligndraw.training.run import RUN
from aligndraw.viz import save_png

MODEL_FILES = (WEIGHTS, CONFIG, *lapgan.NAMES, *sharpener_files.NAMES)


class Parts(NamedTuple):
    """The parts of a pipeline that a folder holds, but for a sharpener."""

    model: PictureModel
    vocabulary: Vocabulary
    notes: Mapping[str, Any]
    sentences: SentenceReader | None


def read_folder(folder: Path, sentences: str | None) -> Parts:
    """Returns the model of a folder, on the CPU; arguments and errors are those of `Pipeline.from_pretrained`."""
    if card := Card.read(folder):
        card.check(folder, MODEL_FILES)
    if (folder / lapgan.NAMES[1]).is_file():
        network = LAPGAN.load(folder)
        if sentences is not None and network.language is not None:
            raise ValueError(f"sentences must be left out: the LAPGAN in {folder} reads words, got {sentences!r}")
        reader = None
        if network.language is None:
            reader = open_sentences(sentences or network.config.sentences, network.config.sentence_units)
        return Parts(network, network.vocabulary, network.notes, reader)
    model, vocabulary, notes = load_model(folder)
    if not all(p.isfinite().all() for p in model.parameters()):
        raise ValueError(f"the model in {folder} is damaged: some parameters are not finite")
    if sentences is not None and not model.config.sentence_units:
        raise ValueError(f"sentences must be left out: the model in {folder} reads words, got {sentences!r}")
    with naming(folder / CONFIG, "damaged"):
        WordPairs.from_dict(entry(notes, "word_pairs", dict, default={}))
    try:
        given = model.config if sentences is None else model.config.replace(sentences=sentences)
        _, reader = with_sentences(given)
    except ValueError as error:
        raise ValueError(f"the model in {folder} needs its sentence encoder: {error}") from error
    return Parts(model, vocabulary, notes, reader)


def read_reader(folder: Path) -> tuple[Vocabulary, WordPairs]:
    """Returns the vocabulary and the word pairs of a model of words, without reading its weights.

    Raises:
        FileNotFoundError: there is no such model.
        FileError: its configuration is damaged or foreign.
    """
    path = folder / CONFIG
    with naming(path, "no model configuration"):
        record = read_json(path)
        vocabulary = Vocabulary.from_dict(entry(record, "vocabulary", dict, list))
        notes = entry(record, "notes", dict, default={})
        return vocabulary, WordPairs.from_dict(entry(notes, "word_pairs", dict, default={}))


class About(NamedTuple):
    """The parts of a card that no file tells; the arguments of `Pipeline.save_pretrained`."""

    draws: str | None = None
    captions: Sequence[str] | None = None
    facts: Mapping[str, str] | None = None
    pictures: Image.Image | None = None


def write_folder(
    folder: Path, parts: Parts, sharpener: Sharpener | None, dtype: torch.dtype | None, about: About
) -> None:
    """Writes a model, its sharpener and their card; arguments and errors are those of `Pipeline.save_pretrained`."""
    _check_folder(folder)
    own_pictures = shows_pictures(folder)
    if about.pictures is not None and (folder / PICTURES).exists() and not own_pictures:
        raise ValueError(f"folder must not hold a {PICTURES} of another program, got {folder}: give another")
    check_dtype(dtype)
    facts = dict(about.facts or {})
    for name, text in (*facts.items(), *([] if about.draws is None else [("draws", about.draws)])):
        if not (_is_line(name) and _is_line(text)):
            raise ValueError(f"{name} must be one line of text, got {text!r}")
    captions = None if about.captions is None else [" ".join(caption.split()) for caption in about.captions]
    for network in (parts.model, sharpener):
        if dtype and network and not all(p.to(dtype).isfinite().all() for p in network.parameters()):
            raise ValueError(f"dtype must hold the parameters, got {dtype}: some are too large")
    exists = folder.exists()
    if not exists:
        folder.parent.mkdir(parents=True, exist_ok=True)
    names = [*MODEL_FILES, README, CARD, *([PICTURES] if own_pictures or about.pictures is not None else [])]
    with atomic_update(folder, names) if exists else atomic_write(folder) as new:
        card = _write_files(new, parts, sharpener, dtype, about.draws, captions)
        if about.pictures is not None:
            save_png(about.pictures, new / PICTURES, {})
        card.write(new, folder.absolute().name, facts_of(parts.model, parts.notes) | facts)


def _check_folder(folder: Path) -> None:
    """Raises ValueError for the folder of a training, or with files of other programs in the places of a model's."""
    if (folder / RUN).exists():
        raise ValueError(f"folder must not be that of a training, got {folder}: give another")
    for name, is_own in ((README, is_page), (CONFIG, _is_record), (CARD, _is_record)):
        if (folder / name).exists() and not is_own(folder / name):
            raise ValueError(f"folder must not hold a {name} of another program, got {folder}: give another")


def _is_record(path: Path) -> bool:
    """Returns whether a JSON file names a format of this package."""
    try:
        name: str = entry(read_json(path), "format", str, default="")
    except ValueError:
        return False
    return name.startswith("aligndraw ")


def _is_line(text: object) -> bool:
    """Returns whether a value is one line of text that UTF-8 can hold."""
    if not isinstance(text, str) or len(text.splitlines()) != 1:
        return False
    return text.encode("utf-8", "replace").decode() == text


def _write_files(
    folder: Path,
    parts: Parts,
    sharpener: Sharpener | None,
    dtype: torch.dtype | None,
    draws: str | None,
    captions: Sequence[str] | None,
) -> Card:
    """Writes the files of a model and its sharpener; returns their card."""
    model, files = parts.model, [WEIGHTS, CONFIG]
    if has_bound(model):
        save_model(model, parts.vocabulary, folder, dtype, _without_folders(parts.notes))
    else:
        assert isinstance(model, LAPGAN)
        model.save(folder, dtype)
        files = [*lapgan.NAMES]
    if sharpener is not None:
        _write_sharpener(folder, sharpener, model, dtype)
        files += sharpener_files.NAMES
    return Card.of(folder, files, data_name(parts.notes), draws, captions)


def _write_sharpener(folder: Path, sharpener: Sharpener, model: PictureModel, dtype: torch.dtype | None) -> None:
    """Writes a sharpener; its notes name the language model as it is stored."""
    saved, language = copy.copy(sharpener), model.language
    if saved.notes.get("sentences", {}).get("specification") == "caption" and language is not None and dtype:
        stored = copy.deepcopy(language).to(dtype).float()
        saved.notes = {**saved.notes, "sentences": sentence_notes("caption", stored)}
    saved.notes = _without_folders(saved.notes)
    saved.save(folder, dtype)


def _without_folders(notes: Mapping[str, Any]) -> dict[str, Any]:
    """Returns notes with the names alone of the data and of what a training was given: where they lay is private."""
    given = {key: dict(notes[key]) for key in ("data", "settings") if isinstance(notes.get(key), Mapping)}
    for values in given.values():
        for key, value in values.items():
            kind, colon, path = value.rpartition(":") if isinstance(value, str) else ("", "", "")  # as "uni-skip:DIR"
            if Path(path).is_absolute():
                values[key] = f"{kind}{colon}{Path(path).name}"
    return {**notes, **given}
